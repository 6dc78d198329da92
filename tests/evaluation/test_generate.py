"""Greedy and beam search as `transformers` has them, with the same weights, with and without keys and values kept."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaForCausalLM, T5ForConditionalGeneration

from ablate.config import build_model, compose
from ablate.evaluation.decoding import beam_search, greedy
from ablate.weights.form import LLAMA, T5
from tests.model.tiny import set_all, tiny
from tests.weights import test_llama, test_t5

END, LENGTH = 9, 12
NEVER = 500  # an id that no model writes
KEEP = pytest.mark.parametrize("keep_keys", [True, False])


def pair(form, theirs, std=0.4):
    """The model of transformers, of weights so large that its outputs vary and often end, and ours."""
    set_all(theirs, (std,))
    ours = build_model(compose(form.overrides(theirs.config)))
    form.load(ours, theirs.state_dict())
    return theirs, ours


def llamas():
    return pair(LLAMA, test_llama.made(num_key_value_heads=2))


def t5s():
    return pair(T5, test_t5.made(**test_t5.GATED))


def inputs(rows, length, seed=4):
    return torch.randint(10, 101, (rows, length), generator=torch.Generator().manual_seed(seed))


def generated(theirs, ids, end, **settings):
    """What transformers writes behind `ids`, or behind a start symbol to them, filled with 0 after the end."""
    starts = isinstance(theirs, T5ForConditionalGeneration)
    if starts:
        settings["decoder_start_token_id"] = 0
    found = theirs.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=LENGTH, eos_token_id=end,
        pad_token_id=0,
        **settings,
    )  # fmt: skip
    start = 1 if starts else ids.shape[1]
    return torch.nn.functional.pad(found[:, start:], (0, LENGTH - found.shape[1] + start))


@KEEP
@pytest.mark.parametrize("make", [llamas, t5s])
def test_as_transformers(make, keep_keys):
    """Beams by likelihood alone, without a length penalty, as the penalties have other forms."""
    theirs, ours = make()
    assert isinstance(theirs, (LlamaForCausalLM, T5ForConditionalGeneration))
    ids = inputs(40, 7)
    batch = {"encoder_ids" if make is t5s else "decoder_ids": ids}
    unended = greedy(ours, batch, LENGTH, end=-1)
    end = int(unended[:, LENGTH // 2 :].flatten().bincount().argmax())  # an id that many rows have at some time
    settings = {"end": end, "keep_keys": keep_keys}
    expected = generated(theirs, ids, end)
    assert torch.equal(greedy(ours, batch, LENGTH, **settings), expected)
    ended = (expected == end).any(1)
    assert ended.any() and not ended.all()
    for beams in (2, 4):
        beam = {"beams": beams, "alpha": 0.0, "candidates": 2 * beams, "keep_keys": keep_keys}
        theirs_beam = {"num_beams": beams, "length_penalty": 0.0, "early_stopping": "never"}
        found = beam_search(ours, batch, LENGTH, end=NEVER, **beam)
        assert torch.equal(found, generated(theirs, ids, NEVER, **theirs_beam))
        # transformers takes an end only from the best half of the candidates, so its best may be less likely
        found, expected = beam_search(ours, batch, LENGTH, end=end, **beam), generated(theirs, ids, end, **theirs_beam)
        assert (likelihood(ours, batch, found, end) >= likelihood(ours, batch, expected, end) - 1e-5).all()


@torch.no_grad()
def likelihood(model, batch, written, end):
    """log p(written | what is given) of each row, up to its end."""
    start = batch.get("decoder_ids", torch.zeros(len(written), 1, dtype=torch.long))
    whole = {**batch, "decoder_ids": torch.cat([start, written[:, :-1]], 1)}
    chances = model.eval().logits(whole)[:, start.shape[1] - 1 :].log_softmax(-1)
    counts = (written == end).cumsum(1) - (written == end).long() == 0
    return (chances.gather(-1, written.unsqueeze(-1))[..., 0] * counts).sum(1)


ROWS = [
    *(
        ["topology=causal_decoder", f"position={position}"]
        for position in ("learned", "rope", "relative_bias", "alibi")
    ),
    ["topology=prefix_decoder"],
    ["topology=causal_decoder", "attention=lightweight_convolution"],
    ["topology=encoder_decoder", "position=contextual"],
    ["topology=encoder_decoder", "attention=synthesizer_random"],
]


@pytest.mark.parametrize("row", ROWS, ids=" ".join)
def test_rows_of_different_lengths(row):
    """Each row is written as if it were alone, behind its own end; kept keys change nothing."""
    model = tiny(*row)
    set_all(model, (0.5,))
    lengths, name = [6, 2, 4], "encoder" if "topology=encoder_decoder" in row else "decoder"
    ids = inputs(3, 6)
    present = torch.arange(6) < torch.tensor(lengths)[:, None]
    batch = {f"{name}_ids": torch.where(present, ids, 0), f"{name}_segments": present.long()}
    for write in (greedy, lambda *given, **settings: beam_search(*given, beams=3, alpha=0.6, **settings)):
        kept, anew = (write(model, batch, 8, end=END, keep_keys=keep) for keep in (True, False))
        assert torch.equal(kept, anew)
        for number, length in enumerate(lengths):
            alone = write(model, {f"{name}_ids": ids[number : number + 1, :length]}, 8, end=END)
            assert torch.equal(alone[0], kept[number])


def test_a_prefix_that_is_shorter_than_what_is_given():
    model = tiny("topology=prefix_decoder")
    set_all(model, (0.5,))
    batch = {"decoder_ids": inputs(3, 6), "prefix_lengths": torch.tensor([2, 3, 6])}
    found = greedy(model, batch, 8, end=END)
    assert torch.equal(found, greedy(model, batch, 8, end=END, keep_keys=False))
    assert not torch.equal(found, greedy(model, {"decoder_ids": batch["decoder_ids"]}, 8, end=END))
