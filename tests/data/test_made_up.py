"""Made-up sequences against a reader that goes through each row token by token, and against slow constructions."""

import numpy as np
import pytest

from ablate.config import compose
from ablate.data import objective
from ablate.data.made_up.copying import Copying
from ablate.data.made_up.induction import Induction
from ablate.data.made_up.recall import Recall
from ablate.data.made_up.retrieval import Retrieval
from ablate.data.made_up.sequences import distinct, weighted_distinct
from ablate.data.vocabulary import Layout
from ablate.errors import UserError

SMALL = Layout(1000, 872, 100, pad_id=0, eos_id=1)
DECODER = ("decoder",)
RECALL = {"length": 32, "pairs": 4, "keys": 10, "values": 12, "fillers": 7, "power": 0.01}
RETRIEVAL = {"length": 24, "pairs": 5, "keys": 10, "values": 12, "fillers": 7}
COPYING = {"length": 24, "block": 6, "ids": 30}
INDUCTION = {"length": 24, "ids": 20}
ALL = [(Recall, RECALL), (Retrieval, RETRIEVAL), (Copying, COPYING), (Induction, INDUCTION)]
TIGHT = [
    (Recall, {"length": 12, "pairs": 4, "keys": 4, "values": 4, "fillers": 1, "power": 1.0}),
    (Retrieval, {"length": 11, "pairs": 5, "keys": 5, "values": 5, "fillers": 1}),
    (Copying, {"length": 12, "block": 6, "ids": 6}),
    (Induction, {"length": 3, "ids": 1}),
]


def made(kind, numbers, layout=SMALL, documents=False):
    return kind(layout, DECODER, documents, **numbers)


def batch(kind, numbers, rows=200, seed=0, layout=SMALL):
    windows = np.zeros((rows, 1), layout.dtype)
    return made(kind, numbers, layout).apply(windows, np.random.default_rng(seed))


def rows_of(found):
    return zip(found["decoder_ids"].tolist(), found["targets"].tolist(), found["scored"].tolist(), strict=True)


@pytest.mark.parametrize(("kind", "numbers"), ALL + TIGHT)
def test_each_target_is_what_followed_the_earlier_occurrence_of_the_input(kind, numbers):
    found = batch(kind, numbers)
    assert {array.shape for array in found.values()} == {(200, numbers["length"])}
    assert found["decoder_ids"].dtype == found["targets"].dtype == np.int64
    for ids, targets, scored in rows_of(found):
        assert any(scored)
        for place, (target, counts) in enumerate(zip(targets, scored, strict=True)):
            earlier = [at for at in range(place) if ids[at] == ids[place]]
            if counts:
                assert len(earlier) == 1 and ids[earlier[0] + 1] == target
            else:
                assert target == SMALL.pad_id
        assert not {SMALL.pad_id, SMALL.eos_id} & {*ids} and max(ids) < SMALL.text_size


@pytest.mark.parametrize(("kind", "numbers"), ALL)
def test_a_batch_follows_from_the_generator_and_the_number_of_rows_alone(kind, numbers):
    first, again, other = (batch(kind, numbers, seed=seed) for seed in (3, 3, 4))
    assert all((first[name] == again[name]).all() for name in first)
    assert (first["decoder_ids"] != other["decoder_ids"]).any()
    text = np.random.default_rng(9).integers(3, 800, (200, 1)).astype(np.uint16)
    of_text = made(kind, numbers).apply(text, np.random.default_rng(3))
    assert all((first[name] == of_text[name]).all() for name in first)


def test_recall_row_by_row():
    """Pairs, then each key once among fillers, none of which is a key."""
    keys, values, fillers = set(range(2, 12)), set(range(12, 24)), set(range(24, 31))
    for ids, targets, scored in rows_of(batch(Recall, RECALL)):
        asked, answers = ids[0:8:2], dict(zip(ids[0:8:2], ids[1:8:2], strict=True))
        assert len({*asked}) == 4 and {*asked} <= keys and len({*answers.values()}) == 4
        assert {*answers.values()} <= values
        places = [place for place in range(8, 32) if ids[place] in keys]
        assert places == [place for place in range(32) if scored[place]]
        assert sorted(ids[place] for place in places) == sorted(asked)
        assert [targets[place] for place in places] == [answers[ids[place]] for place in places]
        assert all(ids[place] in fillers for place in range(8, 32) if place not in places)


def test_gaps_of_recall_are_those_of_numpys_own_draws_one_after_the_other():
    """The same draw as in the authors' code, numpy.random.choice without replacement, for one row at a time."""
    weights = np.arange(1, 25.0) ** -0.99
    slow = np.random.default_rng(1)
    expected = np.array([slow.choice(24, 4, replace=False, p=weights / weights.sum()) for _ in range(4000)])
    found = weighted_distinct(np.random.default_rng(2), 20000, 4, weights)
    for place in range(4):
        shares = [np.bincount(drawn[:, place], minlength=24) / len(drawn) for drawn in (expected, found)]
        assert np.abs(shares[0] - shares[1]).max() < 0.03
    ids = batch(Recall, RECALL, rows=20000)["decoder_ids"]
    gaps = np.array([np.flatnonzero(row[8:] == row[0])[0] for row in ids])
    assert (
        np.abs(np.bincount(gaps, minlength=24) / 20000 - np.bincount(expected[:, 0], minlength=24) / 4000).max() < 0.03
    )


def test_retrieval_row_by_row():
    """Pairs anywhere before the question, without overlap; the asked key is any of them, at any place."""
    keys, starts, numbers = set(range(2, 12)), [], []
    for ids, _, scored in rows_of(batch(Retrieval, RETRIEVAL, rows=4000)):
        places = [place for place in range(23) if ids[place] in keys]
        assert len(places) == 5 and len({ids[place] for place in places}) == 5
        assert all(ids[place + 1] in range(12, 24) for place in places)
        assert sum(id >= 24 for id in ids) == 24 - 11
        assert scored == [False] * 23 + [True] and ids[-1] in {ids[place] for place in places}
        numbers.append([ids[place] for place in places].index(ids[-1]))
        starts.append(places)
    assert np.abs(np.bincount(numbers) / 4000 - 0.2).max() < 0.03
    slow = np.random.default_rng(5)  # places drawn again until no two of them touch
    expected = []
    while len(expected) < 4000:
        drawn = np.sort(slow.choice(22, 5, replace=False))
        if (np.diff(drawn) > 1).all():
            expected.append(drawn)
    assert np.array(starts).mean(0) == pytest.approx(np.array(expected).mean(0), abs=0.3)


def test_copying_row_by_row():
    starts = []
    for ids, targets, scored in rows_of(batch(Copying, COPYING, rows=2000)):
        block = ids[18:]
        (start,) = (place for place in range(13) if ids[place : place + 6] == block)
        assert len({*ids[:18]}) == 18 and {*ids} <= set(range(2, 32))
        assert scored == [False] * 18 + [True] * 5 + [False] and targets[18:23] == block[1:]
        starts.append(start)
    assert set(starts) == set(range(13)) and np.mean(starts) == pytest.approx(6, abs=0.4)


def test_induction_row_by_row():
    places = []
    for ids, targets, scored in rows_of(batch(Induction, INDUCTION, rows=2000)):
        (place,) = (place for place in range(23) if ids[place] == 2)
        assert ids[-1] == 2 and targets[-1] == ids[place + 1] and scored == [False] * 23 + [True]
        assert {*ids} <= set(range(2, 23))
        places.append(place)
    assert set(places) == set(range(22))


def test_distinct_draws_are_all_equally_likely():
    found = distinct(np.random.default_rng(0), 24000, 2, np.array([5, 6, 7, 8]))
    pairs, counts = np.unique(found, axis=0, return_counts=True)
    assert len(pairs) == 12 and np.abs(counts / 2000 - 1).max() < 0.1


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (
            Recall,
            {"length": 11},
            "objective.pairs=4 and a question for each need 12 positions, and objective.len",
        ),
        (Recall, {"keys": 3}, "objective.keys=3: 4 pairs with different keys need 4 or more"),
        (Recall, {"values": 3}, "objective.values=3: 4 pairs with different values need 4 or more"),
        (
            Recall,
            {"keys": 800, "values": 100},
            "objective.values=100 and objective.fillers=7: the vocabulary has 870 ids",
        ),
        (Recall, {"power": 0}, "objective.power=0: must be above 0"),
        (Retrieval, {"length": 10}, "objective.pairs=5 and a question need 11 positions, and objective.length=10"),
        (Copying, {"block": 13}, "objective.block=13: a block has 2 tokens or more, and twice it must go into"),
        (Copying, {"ids": 17}, "objective.ids=17: 18 different tokens need 18 or more"),
        (Induction, {"length": 2}, "objective.length=2: a mark, what follows it and the question need 3 positions"),
        (Induction, {"ids": 900}, "the vocabulary has 870 ids for them; lower them, or raise tokenizer.vocab_size"),
    ],
)
def test_too_few_ids_or_positions_are_refused_in_one_line(kind, changes, message):
    with pytest.raises(UserError) as refusal:
        made(kind, {**dict(ALL)[kind], **changes})
    assert message in str(refusal.value) and "\n" not in str(refusal.value)


def test_documents_are_refused():
    with pytest.raises(UserError, match=r"data\.document_mask=true: made-up sequences have no documents"):
        made(Recall, RECALL, documents=True)


@pytest.mark.parametrize("name", ["recall", "retrieval", "copying", "induction"])
def test_options_are_no_text_and_know_their_chance(name):
    cfg = compose(["topology=causal_decoder", f"objective={name}"])

    class Ids:
        layout, text_ids = SMALL, np.arange(SMALL.text_size)

    found = objective.build(cfg, Ids)
    assert not found.targets_are_text and found.raw_length == 1
    assert found.chance == {"recall": 1 / 8, "retrieval": 1 / 8, "copying": 1 / 16, "induction": 1 / 64}[name]
