"""The share of right first choices against counting by hand, and where the key stands."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ablate.config import compose
from ablate.data import objective
from ablate.data.vocabulary import Layout
from ablate.errors import UserError
from ablate.evaluation.target_accuracy import NAME, TargetAccuracy, earlier
from tests.evaluation.test_by_position import context

LAYOUT = Layout(300, 250, 22, pad_id=0, eos_id=1)
CORPUS = SimpleNamespace(layout=LAYOUT, text_ids=np.arange(LAYOUT.text_size))
RETRIEVAL = ["topology=causal_decoder", "objective=retrieval", "objective.length=20", "objective.pairs=6"]
RETRIEVAL += ["trainer.global_batch_tokens=1280"]  # 64 sequences


class Reader:
    """Gives the token that has followed the earlier occurrence, where that is not before `blind`."""

    def __init__(self, blind=0):
        self.blind = blind

    def logits(self, batch):
        ids = batch["decoder_ids"]
        guess = torch.zeros_like(ids)
        for row in range(len(ids)):
            for place in range(ids.shape[1]):
                for before in range(self.blind, place):
                    if ids[row, before] == ids[row, place]:
                        guess[row, place] = ids[row, before + 1]
        return torch.nn.functional.one_hot(guess, LAYOUT.vocab_size).float()


def made_up(config, rows=64):
    arrays = objective.build(config, CORPUS).apply(np.zeros((rows, 1), np.uint16), np.random.default_rng(1))
    batch = {name: torch.from_numpy(array) for name, array in arrays.items()}
    weights = batch.pop("scored").float()
    return [
        {name: tensor[part] for name, tensor in {**batch, "weights": weights}.items()}
        for part in (slice(0, 40), slice(40, rows))
    ]


def scored(model, config, batches, bins=4, **changes):
    given = context(batches, config=config, corpus=CORPUS, **changes)
    return TargetAccuracy(bins=bins, tokens=64, seed=1).evaluate(model, given)[NAME]


def test_earlier_occurrences():
    """The last one counts; an id that is new has none."""
    assert earlier(torch.tensor([[3, 4, 3, 3, 4], [5, 5, 6, 7, 6]])).tolist() == [[0, 0, 0, 2, 1], [0, 0, 0, 0, 2]]


def test_a_model_that_looks_up_is_right():
    config = compose(RETRIEVAL)
    found = scored(Reader(), config, made_up(config))
    assert (found.value, found.standard_error, found.items) == (100.0, 0.0, 64)
    assert found.chance == pytest.approx(100 / 6) and found.unit == "% of targets" and found.higher_is_better
    assert found.curve.x == "position of the key" and found.curve.xs == (5, 10, 15, 20)
    assert found.curve.ys == (100.0,) * 4


def test_a_model_that_does_not_see_the_beginning_is_right_behind_it():
    """Counted by hand: the key of each row, and whether it stands at position 10 or later."""
    config = compose(RETRIEVAL)
    batches = made_up(config)
    found = scored(Reader(blind=10), config, batches)
    keys = [row.index(row[-1]) for batch in batches for row in batch["decoder_ids"].tolist()]
    right = np.array([key >= 10 for key in keys])
    assert found.value == pytest.approx(100 * right.mean())
    assert found.standard_error == pytest.approx(100 * right.std(ddof=1) / 8)
    assert found.curve.ys == pytest.approx([0, 0, 100, 100])


def test_processes_add_up():
    config = compose(["topology=causal_decoder", "objective=recall", "objective.length=32", "objective.pairs=3"])
    batches, sums = made_up(config), []
    for part in batches:
        scored(Reader(8), config, [part], total=lambda tensor: sums.append(tensor.clone()) or tensor)
    together = scored(Reader(8), config, batches[:1], total=lambda tensor: sum(sums))
    assert together == scored(Reader(8), config, batches) and together.items == 3 * 64


def test_of_text_there_is_neither_chance_nor_curve():
    config = compose(["topology=causal_decoder"])
    targets = torch.tensor([[4, 5, 6, 4]])
    model = SimpleNamespace(logits=lambda batch: torch.nn.functional.one_hot(torch.full_like(targets, 4), 300).float())
    found = scored(model, config, [{"decoder_ids": targets, "targets": targets}])
    assert (found.value, found.items, found.chance, found.curve) == (50.0, 4, None, None)


def test_numbers_out_of_range_are_refused():
    with pytest.raises(UserError, match=r"evaluation\.target_accuracy\.bins=0: must be a whole number"):
        TargetAccuracy(bins=0, tokens=64, seed=1)
