"""Reading piece by piece gives what one pass over the whole sequence gives, whether keys and values are kept or not."""

from __future__ import annotations

import pytest
import torch

from ablate.config import MODEL_SLOTS
from ablate.config.options import groups
from ablate.errors import UserError
from ablate.model.attention import Attention
from ablate.model.cache import is_incremental
from ablate.model.position import Rotary
from ablate.model.reading import CachedReader, RecomputingReader, reader_of
from tests.model.test_options import REFUSED, SWITCHES
from tests.model.tiny import SHAPE, set_all, tiny

WRITERS = ["encoder_decoder", "causal_decoder", "prefix_decoder"]
READ, MORE = 5, 6  # tokens that are read first, and those that follow
MUST_KEEP = {
    f"{group}={option}"
    for group, options in {
        "attention": ["full", "multi_query", "grouped_query", "sliding_window", "factorized", "weighted"],
        "position": groups()["position"],
        "stack": groups()["stack"],
        "block": ["serial", "parallel"],
        "sharing": groups()["sharing"],
        "norm": groups()["norm"],
        "residual": groups()["residual"],
        "activation": groups()["activation"],
        "embedding": groups()["embedding"],
        "head": groups()["head"],
        "feedforward": ["dense", "fixup", "product_key_memory"],
    }.items()
    for option in options
}
EVERYWHERE = ("position", "attention")  # in what every topology is tried
ONCE = [group for group in MODEL_SLOTS if group not in ("topology", "init", "bias", "activation", *EVERYWHERE)]
CASES = [
    (f"{group}={option}", topology)
    for groups_of, topologies in ((EVERYWHERE, WRITERS), (ONCE, WRITERS[:1]))
    for group in groups_of
    for option in groups()[group]
    for topology in topologies
    if topology == WRITERS[0] or f"{group}={option}" in MUST_KEEP
]
CASES += [(switch, topology) for switch in SWITCHES for topology in WRITERS[:1]]
CASES = [case for case in CASES if case not in REFUSED]


def made(*options):
    model = tiny(*options).eval()
    set_all(model, (0.2,))
    return model


def ids(*size, seed=0):
    return torch.randint(2, SHAPE["vocab_size"], size, generator=torch.Generator().manual_seed(seed))


def up_to(lengths, width):
    return (torch.arange(width) < torch.tensor(lengths)[:, None]).long()


def prompt(model, lengths=None):
    """What is read first by three rows, of these lengths if given."""
    batch = {"decoder_ids": ids(3, READ)}
    if "encoder" in model.topology.stacks:
        batch["encoder_ids"] = ids(3, 16, seed=1)
    if lengths is not None:
        batch["decoder_segments"] = up_to(lengths, READ)
        if "encoder_ids" in batch:
            batch["encoder_segments"] = up_to([16, 9, 12], 16)
    return batch


def whole(model, batch, lengths, more):
    """Logits of the tokens `more` (B,N) of each row behind its prompt, each row in one pass of its own."""
    found = []
    for row, length in enumerate(lengths):
        one = {key: value[row : row + 1] for key, value in batch.items()}
        one["decoder_ids"] = torch.cat([one["decoder_ids"][:, :length], more[row : row + 1]], 1)
        one.pop("decoder_segments", None)
        if "prefix" in model.topology.mask_orders.values():
            one["prefix_lengths"] = torch.tensor([length])
        found.append(model.logits(one)[0, length:])
    return torch.stack(found)


def close(found, expected):
    """Equal but for rounding, which is relative to the size of all of them: without norms that is 1000."""
    torch.testing.assert_close(found, expected, atol=2e-6 * max(1.0, expected.abs().max().item()), rtol=1e-5)


@pytest.mark.parametrize(("option", "topology"), CASES, ids=lambda value: value)
@torch.no_grad()
def test_equals_one_pass(option, topology):
    """All at once, token by token, with copies of rows in another order, without and with padding."""
    model = made(f"topology={topology}", *option.split("|"))
    if any(getattr(part, "mixes_segments", False) for part in model.topology.decoder.modules()):
        pytest.skip("what a token gives depends on the others of its batch")
    readers = {type(reader): reader for reader in (reader_of(model, keep_keys=keep) for keep in (True, False))}
    assert CachedReader in readers or option not in MUST_KEEP
    more = ids(3, MORE, seed=2)
    for lengths in (None, [READ, 2, 3]):
        batch = prompt(model, lengths)
        expected = whole(model, batch, lengths or [READ] * 3, more)
        for reader in readers.values():
            _, state = reader.read(batch)
            hidden, longer = reader.extend(state, more)
            close(reader.logits(hidden), expected)
            assert longer.lengths.tolist() == [length + MORE for length in lengths or [READ] * 3]
            rows = torch.tensor([5, 0, 2])  # copies of the third, first and second row
            state, of_row = state.repeated(2).reordered(rows), rows // 2
            for at in range(MORE):
                hidden, state = reader.extend(state, more[of_row, at : at + 1])
                close(reader.logits(hidden)[:, 0], expected[of_row, at])


@torch.no_grad()
def test_types_of_tokens_that_are_written_are_refused():
    model = made("topology=causal_decoder", "embedding.token_types=2")
    with pytest.raises(UserError, match="^decoder_token_types: tokens that are written have no types"):
        reader_of(model).read({**prompt(model), "decoder_token_types": torch.ones(3, READ, dtype=torch.long)})


@pytest.mark.parametrize("topology", WRITERS)
@pytest.mark.parametrize("keep_keys", [True, False])
@torch.no_grad()
def test_answers_of_different_lengths(topology, keep_keys):
    """Padding behind an answer changes nothing, and more may follow it; the state that all go on from stays."""
    model = made(f"topology={topology}")
    reader, batch, more = reader_of(model, keep_keys=keep_keys), prompt(model), ids(3, MORE, seed=2)
    lengths = [MORE, 1, 4]
    expected = whole(model, batch, [READ] * 3, more)
    _, state = reader.read(batch)
    answers = torch.where(up_to(lengths, MORE).bool(), more, 0)
    hidden, longer = reader.extend(state, answers, up_to(lengths, MORE).bool())
    logits = reader.logits(hidden)
    for row, length in enumerate(lengths):
        close(logits[row, :length], expected[row, :length])
    assert longer.lengths.tolist() == [READ + length for length in lengths]
    row = torch.tensor([1])
    hidden, _ = reader.extend(longer.reordered(row), more[row, 1:])
    close(reader.logits(hidden), expected[row, 1:])
    hidden, _ = reader.extend(state, more)
    close(reader.logits(hidden), expected)


@torch.no_grad()
def test_the_first_pass_is_that_of_training():
    for topology in WRITERS:
        model = made(f"topology={topology}")
        batch = prompt(model)
        hidden, _ = reader_of(model).read(batch)
        if topology == "prefix_decoder":
            batch["prefix_lengths"] = torch.tensor([READ] * 3)
        assert torch.equal(hidden, model.topology(batch)[0])


@torch.no_grad()
def test_a_longer_text_behind_a_prefix():
    """What a prefix decoder is given may go on behind its prefix, which alone is seen in both directions."""
    model = made("topology=prefix_decoder")
    text = ids(2, READ + MORE)
    batch = {"decoder_ids": text, "prefix_lengths": torch.tensor([2, 3])}
    expected = model.logits(batch)
    reader = reader_of(model)
    hidden, state = reader.read({**batch, "decoder_ids": text[:, :READ]})
    close(reader.logits(hidden), expected[:, :READ])
    hidden, _ = reader.extend(state, text[:, READ:])
    close(reader.logits(hidden), expected[:, READ:])


@torch.no_grad()
def test_only_new_tokens_pass_the_layers():
    model, seen = made("topology=encoder_decoder"), []
    for block in model.topology.decoder.stack.blocks:
        block.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))
    reader = reader_of(model)
    _, state = reader.read(prompt(model))
    projected = []
    for part in model.topology.decoder.modules():
        if isinstance(part, Attention):
            part.key.register_forward_pre_hook(lambda _, args: projected.append(args[0].shape[1]))
    _, state = reader.extend(state, ids(3, 1))
    reader.extend(state, ids(3, 2))
    assert seen == [READ, READ, 1, 1, 2, 2]
    assert projected == [1, 1, 2, 2]  # nothing of the memory again


class Dilated(Attention):
    """A pattern that does not know of views whose keys are more than its queries."""

    def pattern(self, view):
        at = torch.arange(view.length)
        return (at[:, None] - at) % 2 == 0


class Later(Rotary):
    """A subclass of what may be cached."""


@torch.no_grad()
def test_a_subclass_says_for_itself_whether_it_can():
    """One part of one layer that does not is enough: the whole model computes again."""
    model = made("topology=causal_decoder", "position=rope")
    attention = model.topology.decoder.stack.blocks[1].steps[0].sublayers[0]
    for part, other in ((attention, Dilated), (attention.position, Later)):
        kind = type(part)
        part.__class__ = other
        assert not is_incremental(model.topology.decoder)
        assert isinstance(reader_of(model), RecomputingReader)
        part.__class__ = kind
    assert isinstance(reader_of(model), CachedReader)


@pytest.mark.parametrize("keep_keys", [True, False])
@torch.no_grad()
def test_positions_end(keep_keys):
    model = made("topology=causal_decoder", "position=learned", "position.max_length=8", "objective.length=8")
    reader = reader_of(model, keep_keys=keep_keys)
    _, state = reader.read(prompt(model))
    _, state = reader.extend(state, ids(3, 3))
    with pytest.raises(UserError, match="a sequence of 9 tokens is longer than position.max_length=8"):
        reader.extend(state, ids(3, 1))


@pytest.mark.parametrize("keep_keys", [True, False])
@torch.no_grad()
def test_padding_in_front_is_refused(keep_keys):
    reader = reader_of(made("topology=causal_decoder"), keep_keys=keep_keys)
    segments = torch.tensor([[0, 1, 1]])
    with pytest.raises(ValueError, match="padding must be at the end of a row"):
        reader.read({"decoder_ids": ids(1, 3), "decoder_segments": segments})
    _, state = reader.read({"decoder_ids": ids(1, 3)})
    with pytest.raises(ValueError, match="padding must be at the end of a row"):
        reader.extend(state, ids(1, 3), segments.bool())


def test_an_encoder_is_refused():
    with pytest.raises(UserError, match="an encoder alone cannot write"):
        reader_of(tiny("topology=encoder"))
