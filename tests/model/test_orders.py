"""Who sees whom: full, causal, prefix; padding and packed segments; encoder and decoder."""

from __future__ import annotations

import pytest
import torch

from ablate.model.contract import CAUSAL, FULL, PREFIX, View
from tests.model.tiny import LENGTH, TARGETS, batch_for, packed, set_all, tiny

T = 10


def view(order: str, padded: bool) -> View:
    return View(
        ids=torch.ones(2, T, dtype=torch.long),
        order=order,
        segments=packed(T, 2)[0] if padded else None,
        prefix=torch.tensor([0, 4]) if order == PREFIX else None,
    )


def sees(order: str, padded: bool, b: int, q: int, k: int) -> bool:
    """In words: not a later token, unless all may be seen or both stand in the prefix; never another segment."""
    segments = packed(T, 2)[0][b] if padded else [1] * T
    prefix = (0, 4)[b] if order == PREFIX else 0
    return bool((order == FULL or k <= q or k < prefix) and segments[q] == segments[k])


@pytest.mark.parametrize("order", [FULL, CAUSAL, PREFIX])
@pytest.mark.parametrize("padded", [False, True])
def test_view_says_who_sees_whom(order, padded):
    it = view(order, padded)
    visible, at = it.visible(), torch.arange(T)
    dense = torch.ones(2, 1, T, T, dtype=torch.bool) if visible is None else visible.expand(2, 1, T, T)
    for b in range(2):
        expected = torch.tensor([[sees(order, padded, b, q, k) for k in range(T)] for q in range(T)])
        assert torch.equal(dense[b, 0], expected)
        found = it.mask_mod()(torch.tensor(b), torch.tensor(0), at[:, None], at[None, :])
        assert torch.equal(found.expand(T, T), expected)
    assert it.is_causal == (order == CAUSAL and not padded)


def test_memory_is_seen_within_the_segment():
    queries, keys = view(CAUSAL, True), View(ids=torch.ones(2, 7, dtype=torch.long), segments=packed(7, 2)[0])
    expected = queries.segments[:, None, :, None] == keys.segments[:, None, None, :]
    assert torch.equal(queries.visible_memory(keys), expected)
    unpadded = view(CAUSAL, False)  # which is one segment, the first
    assert torch.equal(
        unpadded.visible_memory(keys), (keys.segments == 1)[:, None, None].expand(2, 1, unpadded.length, 7)
    )
    assert unpadded.visible_memory(View(ids=keys.ids)) is None


def changed(model, batch, side: str, at: int) -> torch.Tensor:
    """(T,) whether the logits of each scored position change with the token of `side` at `at`."""
    other = batch[f"{side}_ids"].clone()
    other[:, at] = (other[:, at] + 1) % 100 + 2
    with torch.no_grad():
        difference = model.logits(batch) - model.logits({**batch, f"{side}_ids": other})
    return difference.abs().amax((0, 2)) > 1e-6


def eval_model(*overrides: str):
    model = tiny(*overrides).eval()
    set_all(model, (0.3,))
    return model


def test_causal_decoder_sees_the_past_alone():
    model = eval_model("topology=causal_decoder")
    seen = changed(model, batch_for(model), "decoder", 5)
    assert seen.tolist() == [at >= 5 for at in range(TARGETS)]


def test_encoder_sees_all():
    model = eval_model("topology=encoder")
    assert changed(model, batch_for(model), "encoder", 5).all()


def test_decoder_sees_the_encoder_and_its_own_past():
    model = eval_model()
    batch = batch_for(model)
    assert changed(model, batch, "encoder", LENGTH - 1).all()
    assert changed(model, batch, "decoder", 5).tolist() == [at >= 5 for at in range(TARGETS)]


@pytest.mark.parametrize(
    "position", ["relative_bias", "rope", "alibi", "relative_representation", "contextual", "learned"]
)
def test_prefix_decoder_sees_its_prefix_and_the_past(position):
    model = eval_model("topology=prefix_decoder", f"position={position}")
    batch = batch_for(model)
    batch["prefix_lengths"] = torch.tensor([4, 4])
    assert changed(model, batch, "decoder", 3).all()
    assert changed(model, batch, "decoder", 4).tolist() == [at >= 4 for at in range(TARGETS)]
    assert changed(model, batch, "decoder", 7).tolist() == [at >= 7 for at in range(TARGETS)]


def test_prefix_lengths_belong_to_their_rows():
    model = eval_model("topology=prefix_decoder")
    batch = batch_for(model)
    with torch.no_grad():
        both = model.logits({**batch, "prefix_lengths": torch.tensor([2, 6])})
        for row, length in ((0, 2), (1, 6)):
            alone = model.logits({"decoder_ids": batch["decoder_ids"][[row]], "prefix_lengths": torch.tensor([length])})
            torch.testing.assert_close(both[[row]], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("position", ["none", "rope", "alibi", "sinusoidal"])
def test_without_a_prefix_a_prefix_decoder_is_causal(position):
    """Bucketed positions differ: with a prefix they tell keys ahead from keys behind."""
    prefix, causal = (
        eval_model(f"topology={name}", f"position={position}") for name in ("prefix_decoder", "causal_decoder")
    )
    batch = batch_for(causal)
    expected = causal.logits(batch)
    for lengths in (None, torch.tensor([0, 1])):
        given = {} if lengths is None else {"prefix_lengths": lengths}
        torch.testing.assert_close(prefix.logits({**batch, **given}), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("topology", ["encoder_decoder", "causal_decoder", "encoder"])
@pytest.mark.parametrize("position", ["relative_bias", "rope", "learned", "sinusoidal", "relative_representation"])
def test_packed_segments_are_sequences_of_their_own(topology, position):
    """Two sequences in one row, with positions that start again, have the logits that each has alone."""
    model = eval_model(f"topology={topology}", f"position={position}")
    batch = batch_for(model, rows=1, padded=True)
    with torch.no_grad():
        together = model.logits(batch)
        for segment in (1, 2):
            alone, there = {}, batch[f"{model.topology.scored}_segments"][0] == segment
            for stack in model.topology.stacks:
                alone[f"{stack}_ids"] = batch[f"{stack}_ids"][:, batch[f"{stack}_segments"][0] == segment]
            torch.testing.assert_close(together[:, there], model.logits(alone), atol=1e-5, rtol=1e-4)


def test_one_segment_without_padding_is_the_fast_path():
    model = eval_model()
    batch = batch_for(model)
    marked = dict(batch)
    for stack in model.topology.stacks:
        marked[f"{stack}_segments"] = torch.ones_like(batch[f"{stack}_ids"])
    torch.testing.assert_close(model.logits(batch), model.logits(marked), atol=1e-5, rtol=1e-4)
