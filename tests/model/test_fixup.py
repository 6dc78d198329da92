"""Fixup: scalars in place of norms and biases, first values by the depth, and what its option brings along."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from ablate.config import compose
from ablate.model.contract import Context, Place, Spec, View
from ablate.model.init import Constant
from tests.model.test_init import initialiser
from tests.model.tiny import LENGTH, SHAPE, TARGETS, batch_for, overrides, set_all, tiny, train_step

FIXUP = "residual=fixup"


def hidden(model, batch) -> torch.Tensor:
    with torch.no_grad():
        return model.topology(batch)[0]


def test_no_norms_and_no_biases():
    model = tiny(FIXUP)
    own = {name.rpartition(".")[2] for name, _ in model.named_parameters()}
    assert own == {"table", "weight", "shift", "scale"}
    assert all(p.dim() == 0 for name, p in model.named_parameters() if name.endswith((".shift", ".scale")))


def test_scalars_of_the_paper():
    """A shift and a scale for each of 60 branches, 24 shifts in the feed-forwards, three at the ends."""
    from ablate.config import build_model

    model = build_model(compose(["shape=paper", FIXUP]), device="meta")
    assert sum(parameter.dim() == 0 for parameter in model.parameters()) == 2 * 60 + 24 + 3


@pytest.mark.parametrize("topology", ["causal_decoder", "prefix_decoder", "encoder"])
def test_a_stack_starts_as_the_identity(topology):
    model = tiny(FIXUP, f"topology={topology}").eval()
    batch = batch_for(model)
    embedding = getattr(model.topology, model.topology.scored).embedding
    torch.testing.assert_close(hidden(model, batch), embedding(batch[f"{model.topology.scored}_ids"]))


@pytest.mark.parametrize(("cross", "same"), [("true", True), ("false", False)])
def test_cross_attention_starts_as_released_or_as_the_rest(cross, same):
    model = tiny(FIXUP, f"init.cross={cross}").eval()
    batch = batch_for(model)
    assert torch.allclose(hidden(model, batch), model.topology.decoder.embedding(batch["decoder_ids"])) == same


def test_a_step_by_hand():
    """x + s f(x + b), and in the feed-forward a shift in front of the second matrix."""
    model = tiny(FIXUP, "topology=encoder")
    set_all(model)
    step = model.topology.encoder.stack.blocks[0].steps[1]
    feedforward, residual = step.sublayers[0], step.residual
    x, view = torch.randn(2, 5, 24), View(torch.ones(2, 5, dtype=torch.long))
    inner = functional.relu((x + residual.shift) @ feedforward.up.weight.T) + feedforward.shift
    expected = x + residual.scale * (inner @ feedforward.down.weight.T)
    torch.testing.assert_close(step(x, Context(view))[0], expected)


def test_an_encoder_ends_with_shift_and_scale_a_decoder_with_a_shift():
    model = tiny(FIXUP)
    encoder, decoder = (getattr(model.topology, name).stack.end for name in ("encoder", "decoder"))
    set_all(model)
    x, view = torch.randn(2, 5, 24), View(torch.ones(2, 5, dtype=torch.long))
    torch.testing.assert_close(encoder(x, view), (x + encoder.shift) * encoder.scale)
    torch.testing.assert_close(decoder(x, view), x + decoder.shift)


@pytest.mark.parametrize(("topology", "branches"), [("encoder_decoder", 10), ("causal_decoder", 4), ("encoder", 4)])
def test_first_values_shrink_with_the_depth(topology, branches):
    init = initialiser(compose(overrides(FIXUP, f"topology={topology}")))
    place, cut = Place("encoder" if topology == "encoder" else "decoder", sublayer="self_attention"), 0.8796256610342398
    spec = lambda role: Spec(role, 24, 48, head_dim=SHAPE["head_dim"], place=place)  # noqa: E731
    values = {role: init(spec(role)) for role in ("key", "value", "query", "ffn_in", "gate")}
    for role in ("key", "value", "query"):
        assert values[role].std * cut == pytest.approx((2 / 24) ** 0.5 * branches ** (-1 / 6)), role
    for role in ("ffn_in", "gate"):
        assert values[role].std * cut == pytest.approx((2 / 24 / branches) ** 0.5), role
    for role in ("output", "ffn_out"):
        assert init(Spec(role, 24, 24, place=place)) == Constant(0.0)
    x = torch.empty(500, 400)
    values["key"].fill(x, torch.Generator().manual_seed(0))
    assert x.std().item() == pytest.approx(values["key"].std * cut, rel=0.01)  # the deviation that was meant


def test_brings_the_scales_of_the_adam_runs_and_leaves_the_optimizer_to_the_row():
    cfg = compose(["shape=paper", FIXUP, "optimizer=adam"])
    assert cfg.embedding.scale == 768**0.5 and cfg.init.table_std == 768**-0.5 and cfg.head.tied_scale == 1.0
    assert cfg.attention.score_scale == 64**-0.5 and cfg.optimizer._target_.endswith("adam.Adam")
    assert "Adafactor" in compose([FIXUP]).optimizer._target_
    assert compose([FIXUP, "norm=rmsnorm", "bias=paper"]).norm._target_.endswith("RMSNorm")


def test_the_decoder_is_causal():
    model = tiny(FIXUP).eval()
    set_all(model, (0.3,))
    batch = batch_for(model)
    other = batch["decoder_ids"].clone()
    other[:, 5] = (other[:, 5] + 1) % 100 + 2
    changed = (hidden(model, batch) - hidden(model, {**batch, "decoder_ids": other})).abs().amax((0, 2)) > 1e-6
    assert changed.tolist() == [at >= 5 for at in range(TARGETS)]


def test_padding_changes_nothing_that_is_present():
    """The shift moves padding too, which must not be seen."""
    model = tiny(FIXUP, "topology=encoder").eval()
    set_all(model, (0.3,))
    ids = torch.randint(2, 100, (2, LENGTH))
    segments = (torch.arange(LENGTH) < 9).long().expand(2, -1)
    alone = hidden(model, {"encoder_ids": ids[:, :9]})
    for filler in (0, 7):
        padded = {"encoder_ids": ids.masked_fill(segments == 0, filler), "encoder_segments": segments}
        found = hidden(model, padded)
        torch.testing.assert_close(found[:, :9], alone, atol=1e-5, rtol=1e-5)
        assert (found[:, 9:] == 0).all()


@pytest.mark.parametrize(
    "other", ["activation=swiglu", "block=parallel", "norm=layernorm", "block.placement=post", "bias=all"]
)
def test_with_other_options(other):
    model = tiny(FIXUP, other)
    assert torch.isfinite(train_step(model, batch_for(model, padded=True)))
