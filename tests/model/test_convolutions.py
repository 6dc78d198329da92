"""Lightweight and dynamic convolutions: against torch's conv1d and their formulas; their reach, what is hidden."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from ablate.config import build_model, compose
from ablate.errors import UserError
from ablate.model.contract import CAUSAL, FULL, Context, View
from ablate.model.convolution import neighbours
from tests.model.tiny import batch_for, packed, set_all, tiny

T, D, W = 20, 24, 9
KINDS = ["lightweight", "dynamic"]


def layer_of(kind: str, *overrides: str, topology: str = "encoder"):
    model = tiny(f"attention={kind}_convolution", f"topology={topology}", *overrides)
    set_all(model, (0.4,))
    return getattr(model.topology, topology.removeprefix("causal_")).stack.blocks[0].steps[0].sublayers[0]


def context(order: str = FULL, segments: torch.Tensor | None = None) -> Context:
    return Context(View(ids=torch.ones(2, T, dtype=torch.long), order=order, segments=segments))


def ends(layer, x: torch.Tensor, convolve, *, start: bool = False) -> torch.Tensor:
    """What stands around the convolution `convolve` (B,T,D) -> (B,T,D)."""
    glu = layer.up(x) * torch.sigmoid(layer.gate(x))
    hidden = glu.clone()
    if start:
        hidden[:, 0] = 0
    return layer.output(layer.pointwise(convolve(glu, hidden) + layer.shift))


@pytest.mark.parametrize("topology", ["encoder", "causal_decoder"])
@torch.no_grad()
def test_lightweight_against_torch(topology):
    layer, x = layer_of("lightweight", topology=topology), torch.randn(2, T, D)
    encoder = topology == "encoder"
    around = (W // 2, W // 2) if encoder else (W - 1, 0)

    def convolve(glu, hidden):
        padded = functional.pad(hidden.transpose(1, 2), around)
        return functional.conv1d(padded, layer.taps.softmax(0).T[:, None], groups=D).transpose(1, 2)

    found = layer(x, context(FULL if encoder else CAUSAL))
    torch.testing.assert_close(found, ends(layer, x, convolve, start=not encoder), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("topology", ["encoder", "causal_decoder"])
@torch.no_grad()
def test_dynamic_as_its_formula(topology):
    layer, x = layer_of("dynamic", topology=topology), torch.randn(2, T, D)
    encoder = topology == "encoder"

    def convolve(glu, hidden):
        y = torch.zeros_like(glu)
        for at in range(T):
            kernels = layer.taps(glu[:, at]).view(2, W, D).softmax(1)
            for tap in range(W):
                there = at + tap - (W // 2 if encoder else W - 1)
                if 0 <= there < T:
                    y[:, at] += kernels[:, tap] * hidden[:, there]
        return y

    found = layer(x, context(FULL if encoder else CAUSAL))
    torch.testing.assert_close(found, ends(layer, x, convolve, start=not encoder), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("ahead", [0, 4])
def test_gradients_against_torch(ahead):
    x, taps = torch.randn(2, T, D, requires_grad=True), torch.randn(W, D, requires_grad=True)
    padded = functional.pad(x.transpose(1, 2), (W - 1 - ahead, ahead))
    theirs = functional.conv1d(padded, taps.T[:, None], groups=D).transpose(1, 2)
    upstream = torch.randn_like(theirs)
    expected = torch.autograd.grad((theirs * upstream).sum(), (x, taps))
    found = torch.autograd.grad((neighbours(x, taps, ahead=ahead) * upstream).sum(), (x, taps))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def without_taps(layer) -> dict[str, torch.Tensor]:
    return {name: value for name, value in layer.state_dict().items() if "taps" not in name}


@torch.no_grad()
def test_a_dynamic_kernel_that_ignores_its_input_is_a_lightweight_one():
    dynamic, light, x = layer_of("dynamic"), layer_of("lightweight"), torch.randn(2, T, D)
    light.load_state_dict(without_taps(dynamic), strict=False)
    dynamic.taps.weight.zero_()
    light.taps.copy_(dynamic.taps.bias.view(W, D))
    torch.testing.assert_close(dynamic(x, context()), light(x, context()), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_shared_kernels_are_equal_kernels_side_by_side(kind):
    """Wu et al. 2019: D/H neighbouring channels share one."""
    shared, own, x = layer_of(kind, "attention.n_kernels=4"), layer_of(kind), torch.randn(2, T, D)
    own.load_state_dict(without_taps(shared), strict=False)
    for name, value in shared.named_parameters():
        if name.startswith("taps"):
            by_tap = value if name == "taps" else value.view(W, 4, *value.shape[1:])
            own.get_parameter(name).copy_(by_tap.repeat_interleave(D // 4, 1).view_as(own.get_parameter(name)))
    torch.testing.assert_close(shared(x, context()), own(x, context()), atol=1e-5, rtol=1e-4)


def test_wu_et_al_have_few_kernels_and_no_matrix_behind_them():
    theirs = ["attention=lightweight_convolution", "attention.n_kernels=16", "attention.pointwise=false"]
    model = build_model(compose(["shape=paper", *theirs]), device="meta")
    layer = model.topology.encoder.stack.blocks[0].steps[0].sublayers[0]
    assert layer.taps.shape == (9, 16) and layer.pointwise is None


def reached(model, batch, stack: str, at: int) -> list[int]:
    """Which outputs of `stack` change with its token `at`."""
    seen = []
    hook = getattr(model.topology, stack).register_forward_hook(lambda module, args, out: seen.append(out[0]))
    with torch.no_grad():
        for ids in (batch[f"{stack}_ids"], batch[f"{stack}_ids"].clone()):
            if len(seen):
                ids[:, at] = (ids[:, at] + 1) % 100 + 2
            model({**batch, f"{stack}_ids": ids})
    hook.remove()
    return (seen[1] - seen[0]).abs().amax((0, 2)).gt(1e-6).nonzero().flatten().tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_reach(kind):
    model = tiny(f"attention={kind}_convolution", n_layers=1).eval()
    set_all(model, (0.3,))
    batch = batch_for(model)
    assert reached(model, batch, "encoder", 7) == list(range(3, 12))
    assert reached(model, batch, "decoder", 2) == list(range(2, 11))


@pytest.mark.parametrize("position", ["none", "learned", "sinusoidal"])
@pytest.mark.parametrize("topology", ["encoder_decoder", "causal_decoder"])
@pytest.mark.parametrize("kind", KINDS)
def test_never_ahead_in_a_decoder(kind, topology, position):
    model = tiny(f"attention={kind}_convolution", f"topology={topology}", f"position={position}").eval()
    set_all(model, (0.3,))
    for at in (1, 5, 11):
        assert min(reached(model, batch_for(model), "decoder", at)) == at


def logits(model, batch):
    with torch.no_grad():
        return model.logits(batch)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("topology", ["encoder_decoder", "causal_decoder", "encoder"])
def test_padding_is_never_seen(kind, topology):
    model = tiny(f"attention={kind}_convolution", f"topology={topology}").eval()
    set_all(model, (0.3,))
    batch = batch_for(model, padded=True)
    other = dict(batch)
    for stack in model.topology.stacks:
        ids = batch[f"{stack}_ids"]
        other[f"{stack}_ids"] = torch.where(batch[f"{stack}_segments"] == 0, (ids + 1) % 100, ids)
    present = batch[f"{model.topology.scored}_segments"] != 0
    torch.testing.assert_close(logits(model, batch)[present], logits(model, other)[present], atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("topology", ["encoder_decoder", "causal_decoder", "encoder"])
def test_packed_examples_see_each_other_by_default(kind, topology):
    for within in (False, True):
        model = tiny(
            f"attention={kind}_convolution", f"topology={topology}", f"attention.within_segments={str(within).lower()}"
        ).eval()
        set_all(model, (0.3,))
        batch = batch_for(model, rows=1, padded=True)
        together = logits(model, batch)
        for segment in (1, 2):
            there = batch[f"{model.topology.scored}_segments"][0] == segment
            alone = {
                f"{stack}_ids": batch[f"{stack}_ids"][:, batch[f"{stack}_segments"][0] == segment]
                for stack in model.topology.stacks
            }
            same = torch.allclose(together[:, there], logits(model, alone), atol=1e-5, rtol=1e-4)
            assert same == within or (segment == 1 and topology == "causal_decoder")  # nothing stands in front of it


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_the_start_symbol_is_hidden_in_decoders(kind):
    for hidden in (True, False):
        layer = layer_of(kind, f"attention.clear_start={str(hidden).lower()}", topology="causal_decoder")
        x = torch.randn(2, T, D)
        other = x.clone()
        other[:, 0] += 1
        found = torch.allclose(layer(x, context(CAUSAL))[:, 1:], layer(other, context(CAUSAL))[:, 1:], atol=1e-6)
        assert found == hidden
    at, x = packed(T, 2)[1], torch.randn(2, T, D)
    view = View(ids=torch.ones(2, T, dtype=torch.long), order=CAUSAL, positions=at)
    layer = layer_of(kind, topology="causal_decoder")
    assert not layer.sees.cleared(x, view)[at == 0].any() and layer.sees.cleared(x, view)[at != 0].all()
    assert layer_of(kind).sees.cleared(x, view).all()  # an encoder has none


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["attention.n_kernels=5"], "attention.n_kernels=5: must divide the number of channels, 24"),
        (["attention.width=4"], "attention.width=4: must be odd in an encoder, with as many taps on each side"),
        (["position=relative_bias"], "works through bias, which attention=lightweight_convolution does not let it do"),
        (["position=rope"], "choose position=learned or none or sinusoidal"),
        (["topology=prefix_decoder"], "attention=lightweight_convolution cannot keep the prefix order of the decoder"),
    ],
)
def test_refused(overrides, message):
    with pytest.raises(UserError) as caught:
        tiny("attention=lightweight_convolution", *overrides)
    assert message in str(caught.value)


def test_an_even_width_may_stand_in_a_decoder():
    model = tiny("attention=dynamic_convolution", "attention.width=4", "topology=causal_decoder", n_layers=1).eval()
    set_all(model, (0.3,))
    assert reached(model, batch_for(model), "decoder", 5) == [5, 6, 7, 8]


def test_brings_no_position_and_may_be_given_one():
    assert compose(["attention=lightweight_convolution"]).position._target_.endswith("NoPosition")
    assert compose(["attention=lightweight_convolution", "position=learned"]).position._target_.endswith("Learned")
