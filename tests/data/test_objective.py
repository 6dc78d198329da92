"""What becomes of windows: exact lengths, the authors' own results, and no text lost."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ablate.data import segments, spans
from ablate.data.objective import Causal, Masked, Prefix, SpanCorruption
from ablate.data.vocabulary import Layout
from ablate.errors import UserError

GOLDEN = Path(__file__).parents[1] / "golden"
PAPER = Layout(32128, 32000, 100, pad_id=0, eos_id=1)
SMALL = Layout(1000, 872, 100, pad_id=0, eos_id=1)
BOTH, DECODER, ENCODER = ("encoder", "decoder"), ("decoder",), ("encoder",)


def rng(seed=0):
    return np.random.default_rng(seed)


def windows(rows, length, layout=SMALL, seed=0):
    return rng(seed).integers(3, layout.text_size, (rows, length)).astype(layout.dtype)


def spans_of(length, layout=SMALL, stacks=BOTH, documents=False, density=0.15, mean=3.0):
    return SpanCorruption(layout, stacks, documents, length, density, mean)


# --- span corruption -----------------------------------------------------------------------------------------------


def test_lengths_are_those_of_the_authors():
    """Two rows of the table have no span by its rounding, though their masks have one; here the minimum is one."""
    table = json.loads((GOLDEN / "span_lengths.json").read_text())
    without_span = []
    for inputs, density, mean, raw, targets in table["rows"]:
        found = spans.lengths_for(inputs, density, mean)
        if round(round(raw * density) / mean) == 0:
            without_span.append((inputs, mean))
            assert found.input == inputs and found.spans == 1
        else:
            assert (found.raw, found.target) == (raw, targets), (inputs, density, mean)
    assert without_span == [(16, 10.0), (32, 10.0)]


@given(st.integers(3, 5000))
@settings(max_examples=200, deadline=None)
def test_any_length_is_filled_exactly(length):
    found = spans.lengths_for(length, 0.15, 3.0)
    assert found.input == length
    assert spans.lengths_of(found.raw + 1, 0.15, 3.0).input > length


def golden_cases():
    stored = np.load(GOLDEN / "span_corruption.npz")
    names = sorted({name.split("/")[0] for name in stored})
    return [
        {key: stored[f"{name}/{key}"] for key in ("tokens", "mask", "inputs_without_eos", "targets_without_eos")}
        for name in names
    ]


def pieces_of(mask):
    """The sizes of text and noise by turns, of one row."""
    borders = np.flatnonzero(np.diff(mask.astype(int))) + 1
    return np.diff([0, *borders, len(mask)]).reshape(1, -1, 2)


def test_inputs_and_targets_are_those_of_the_authors():
    cases = golden_cases()
    assert len(cases) == 18
    for case in cases:
        sides = spans.sides(pieces_of(case["mask"]))
        for side, name in zip(sides, ("inputs_without_eos", "targets_without_eos"), strict=True):
            (ids,) = side.fill(case["tokens"][None], PAPER.sentinels, PAPER.eos_id)
            assert ids[-1] == 1 and list(ids[:-1]) == list(case[name])


def test_a_whole_batch_equals_its_rows():
    lengths = spans.lengths_for(64, 0.15, 3.0)
    pieces, text = spans.draw(50, lengths, rng()), windows(50, lengths.raw)
    together = [side.fill(text, SMALL.sentinels, 1) for side in spans.sides(pieces)]
    for row in range(50):
        alone = [side.fill(text[row : row + 1], SMALL.sentinels, 1)[0] for side in spans.sides(pieces[row : row + 1])]
        assert all((one[row] == other).all() for one, other in zip(together, alone, strict=True))


def restored(inputs, targets):
    """The text that inputs and targets stand for."""
    spans_by_sentinel, current = {}, None
    for token in targets[:-1]:
        if token >= SMALL.text_size:
            current = spans_by_sentinel.setdefault(token, [])
        else:
            current.append(token)
    return [t for token in inputs[:-1] for t in (spans_by_sentinel[token] if token >= SMALL.text_size else [token])]


@pytest.mark.parametrize("length", [3, 4, 16, 62, 64, 128, 511, 512, 513])
def test_no_text_is_lost(length):
    objective = spans_of(length)
    text = windows(20, objective.raw_length)
    batch = objective.apply(text, rng())
    assert batch["encoder_ids"].shape == (20, length)
    assert batch["targets"].shape == batch["decoder_ids"].shape == (20, objective.lengths.target)
    assert set(batch) == {"encoder_ids", "decoder_ids", "targets"}
    assert (batch["encoder_ids"][:, -1] == 1).all() and (batch["targets"][:, -1] == 1).all()
    assert (batch["decoder_ids"][:, 0] == 0).all()
    assert (batch["decoder_ids"][:, 1:] == batch["targets"][:, :-1]).all()
    for row in range(20):
        assert restored(batch["encoder_ids"][row].tolist(), batch["targets"][row].tolist()) == text[row].tolist()


def test_the_paper_takes_568_tokens():
    objective = spans_of(512, PAPER)
    assert (objective.raw_length, objective.lengths.target, objective.lengths.spans) == (568, 114, 28)


def test_all_ways_to_cut_are_equally_likely():
    """6 items in 3 pieces: 10 ways, by chi-square."""
    sizes = spans._cut(20_000, 6, 3, rng())
    assert (sizes.sum(axis=1) == 6).all() and sizes.min() == 1
    counts = Counter(map(tuple, sizes.tolist()))
    assert len(counts) == 10
    assert sum((count - 2000) ** 2 / 2000 for count in counts.values()) < 27.9  # 99.9 % of 9 degrees of freedom


@pytest.mark.parametrize("n, pieces", [(1, 1), (5, 1), (5, 5), (483, 28), (85, 28), (5000, 300)])
def test_pieces_fill_what_is_cut(n, pieces):
    sizes = spans._cut(7, n, pieces, rng())
    assert sizes.shape == (7, pieces) and sizes.min() >= 1 and (sizes.sum(axis=1) == n).all()


@pytest.mark.parametrize(
    "length, density, mean, reason",
    [
        (2, 0.15, 3.0, "objective.length=2: too short"),
        (8, 0.5, 1.0, "objective.length=8: no amount of text gives inputs of exactly this .*; 7 is possible"),
        (64, 1.5, 3.0, "objective.noise_density=1.5"),
        (64, 0.15, 0.5, "objective.mean_span=0.5"),
        (64, 0.9, 1.0, "choose a longer mean_span or a lower noise_density"),
        (2048, 0.15, 3.0, "needs 114 sentinels, and the vocabulary has 100; set tokenizer.sentinels=114"),
    ],
)
def test_what_cannot_be_corrupted(length, density, mean, reason):
    with pytest.raises(UserError, match=reason):
        spans_of(length, density=density, mean=mean)


def packed(rows=30, length=70, seed=1):
    """Windows with documents in them."""
    text = windows(rows, length, seed=seed)
    text[rng(seed).random(text.shape) < 0.05] = SMALL.eos_id
    return text


def test_documents_of_corrupted_rows():
    objective = spans_of(64, documents=True)
    text = packed()
    batch = objective.apply(text, rng(2))
    plain = spans_of(64).apply(text, rng(2))
    assert (batch["encoder_ids"] == plain["encoder_ids"]).all() and (batch["targets"] == plain["targets"]).all()
    raw = segments.of_documents(text, SMALL.eos_id)
    for row in range(len(text)):
        encoder, decoder = batch["encoder_segments"][row], batch["decoder_segments"][row]
        of_sentinel = {}
        for ids, numbers in ((batch["encoder_ids"][row], encoder), (batch["targets"][row], decoder)):
            assert (np.diff(numbers) >= 0).all() and numbers[0] >= 1
            for token, number in zip(ids, numbers, strict=True):
                if token >= SMALL.text_size:
                    of_sentinel.setdefault(token, set()).add(number)
        assert all(len(found) == 1 for found in of_sentinel.values())  # the same on both sides
        assert set(decoder) <= set(encoder) <= set(raw[row])
        inside = batch["encoder_ids"][row][:-1] < SMALL.text_size
        ends = np.flatnonzero((batch["encoder_ids"][row][:-1] == SMALL.eos_id) & inside)
        assert all(encoder[end] < encoder[end + 1] or end + 2 == len(encoder) for end in ends)
        first = np.flatnonzero(np.diff(decoder, prepend=0))
        assert (batch["decoder_ids"][row][first] == 0).all()
        assert (batch["decoder_positions"][row][first] == 0).all()


# --- the others ----------------------------------------------------------------------------------------------------


def test_segments_and_positions():
    text = np.array([[5, 6, 1, 7, 8, 9, 1, 1, 4]])
    numbers = segments.of_documents(text, 1)
    assert numbers.tolist() == [[1, 1, 1, 2, 2, 2, 2, 3, 4]]
    assert segments.positions(numbers).tolist() == [[0, 1, 2, 0, 1, 2, 3, 0, 0]]
    assert segments.shifted(text, 0).tolist() == [[0, 5, 6, 1, 7, 8, 9, 1, 1]]
    assert segments.shifted(text, 0, numbers).tolist() == [[0, 5, 6, 0, 7, 8, 9, 0, 0]]


def test_as_many_sentinels_as_spans_are_enough():
    spans_needed = SpanCorruption(SMALL, BOTH, False, 64, 0.15, 3.0).lengths.spans

    def with_sentinels(count):
        return SpanCorruption(Layout(1000, 872, count, pad_id=0, eos_id=1), BOTH, False, 64, 0.15, 3.0)

    assert with_sentinels(spans_needed).apply(windows(2, 80), rng())["encoder_ids"].shape == (2, 64)
    with pytest.raises(UserError, match=f"needs {spans_needed} sentinels.*set tokenizer.sentinels={spans_needed}"):
        with_sentinels(spans_needed - 1)


def test_causal_scores_every_token_once():
    objective = Causal(SMALL, DECODER, False, 64)
    text = windows(4, objective.raw_length)
    batch = objective.apply(text, rng())
    assert objective.raw_length == 64
    assert (batch["targets"] == text).all() and (batch["decoder_ids"][:, 1:] == text[:, :-1]).all()
    assert set(batch) == {"decoder_ids", "targets"}
    apart = Causal(SMALL, DECODER, True, 70).apply(packed(), rng())
    assert {"decoder_segments", "decoder_positions"} < set(apart)


def test_prefix_in_one_sequence():
    objective = Prefix(SMALL, DECODER, False, 16)
    text = windows(2000, 16)
    batch = objective.apply(text, rng())
    assert (batch["targets"] == text).all() and (batch["decoder_ids"][:, 1:] == text[:, :-1]).all()
    prefix = batch["prefix_lengths"] - 1  # the start symbol is one of it
    assert set(prefix) == set(range(1, 16))
    assert (batch["scored"] == (np.arange(16) >= prefix[:, None])).all()
    for row in range(50):  # what is seen whole is never what is scored
        seen_whole = batch["decoder_ids"][row][: batch["prefix_lengths"][row]][1:]
        assert (seen_whole == text[row][: prefix[row]]).all()


def test_prefix_in_encoder_and_decoder():
    objective = Prefix(SMALL, BOTH, False, 16)
    text = windows(200, 16)
    batch = objective.apply(text, rng())
    for row in range(200):
        read = batch["encoder_ids"][row][batch["encoder_segments"][row] == 1]
        written = batch["targets"][row][batch["scored"][row]]
        assert [*read, *written] == text[row].tolist() and len(read) and len(written)
        shown = batch["decoder_ids"][row][batch["decoder_segments"][row] == 1]
        assert shown.tolist() == [0, *written[:-1]]
    assert (batch["decoder_segments"] == batch["scored"]).all()
    assert (batch["targets"][~batch["scored"]] == 0).all()
    with pytest.raises(UserError, match="use topology=prefix_decoder"):
        Prefix(SMALL, BOTH, True, 16)
    with pytest.raises(UserError, match="2 tokens or more"):
        Prefix(SMALL, DECODER, False, 1)


def test_long_rows_have_the_same_number_of_masked_tokens():
    """Short ones are sorted as a whole on some processors, whatever place is asked for."""
    objective = Masked(SMALL, ENCODER, False, 4096, 0.15, 0.1, 0.1)
    assert (objective.apply(windows(4, 4096), rng())["scored"].sum(axis=1) == 614).all()


def test_masked_hides_replaces_and_keeps():
    objective = Masked(SMALL, ENCODER, False, 100, 0.15, 0.1, 0.1)
    text = windows(2000, 100)
    batch = objective.apply(text, rng())
    scored, ids = batch["scored"], batch["encoder_ids"]
    assert (scored.sum(axis=1) == 15).all() and (batch["targets"] == text).all()
    assert (ids[~scored] == text[~scored]).all()
    hidden, kept = (ids == SMALL.mask_id) & scored, (ids == text) & scored
    assert abs(hidden.sum() / scored.sum() - 0.8) < 0.01
    assert abs(kept.sum() / scored.sum() - 0.1) < 0.01
    assert ids.max() == SMALL.mask_id and (ids[scored & ~hidden] < SMALL.text_size).all()
    where = scored.mean(axis=0)
    assert abs(where - 0.15).max() < 0.04  # no place is preferred


def test_random_ids_are_ids_of_text():
    objective = Masked(SMALL, ENCODER, False, 100, 0.15, 1.0, 0.0)
    objective.text_ids = np.array([5, 7, 400])
    text = windows(200, 100)
    batch = objective.apply(text, rng())
    drawn = batch["encoder_ids"][batch["scored"]]
    assert set(drawn.tolist()) == {5, 7, 400} and drawn.dtype == text.dtype
    assert Counter(drawn.tolist())[5] / len(drawn) == pytest.approx(1 / 3, abs=0.03)


@pytest.mark.parametrize(
    "change, reason", [((1.0, 0.1, 0.1), "objective.probability=1.0"), ((0.15, 0.6, 0.6), "nor add up to more than 1")]
)
def test_masked_shares(change, reason):
    with pytest.raises(UserError, match=reason):
        Masked(SMALL, ENCODER, False, 64, *change)


@pytest.mark.parametrize(
    "objective",
    [
        spans_of(64),
        Causal(SMALL, DECODER, False, 70),
        Prefix(SMALL, DECODER, False, 70),
        Prefix(SMALL, BOTH, False, 70),
        Masked(SMALL, ENCODER, False, 70, 0.15, 0.1, 0.1),
    ],
    ids=lambda objective: type(objective).__name__,
)
def test_the_same_draw_gives_the_same_batch_and_the_windows_stay(objective):
    text = windows(8, 70)
    before = text.copy()
    one, again, other = (objective.apply(text, rng(seed)) for seed in (1, 1, 2))
    assert (text == before).all()
    assert all((one[name] == again[name]).all() for name in one)
    assert isinstance(objective, Causal) or any((one[name] != other[name]).any() for name in one)


@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize(
    "objective",
    [
        lambda documents: spans_of(64, documents=documents),
        lambda documents: Causal(SMALL, DECODER, documents, 70),
        lambda documents: Prefix(SMALL, DECODER, documents, 70),
        lambda documents: Prefix(SMALL, BOTH, False, 70),
        lambda documents: Masked(SMALL, ENCODER, documents, 70, 0.15, 0.1, 0.1),
    ],
)
def test_an_objective_gives_what_it_declares(objective, documents):
    made = objective(documents)
    batch = made.apply(windows(8, made.raw_length), rng(1))
    given = {name for name in batch if not name.endswith(("targets", "scored", "_segments", "_positions"))}
    assert given in (made.gives if isinstance(made.gives, tuple) else (made.gives,))
