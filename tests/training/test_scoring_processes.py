"""Evaluations in two processes, of which one fails while the other waits for it."""

import contextlib
import datetime
import multiprocessing
import types

import pytest
import torch

from ablate.training import scoring
from ablate.training.scoring import CollectiveError, FailedElsewhere, Scoring


class Evaluation:
    """Sums over the processes three times; process `failing` fails before the second."""

    def __init__(self, failing):
        self.failing = failing

    def evaluate(self, model, context):
        for number in range(3):
            if number == 1 and context.rank == self.failing:
                raise ValueError("a broken line")
            total = context.total(torch.ones(5))
            assert total.tolist() == [2.0] * 5
        return {"score": scoring.Score(float(total[0]), "x", higher_is_better=True)}


def score(rank, folder, failing, results):
    """What one of two processes makes of two evaluations, of which the first fails."""
    limit = datetime.timedelta(seconds=40)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2, timeout=limit
    )
    found = object.__new__(Scoring)
    found.folder, found.identity = types.SimpleNamespace(path=folder), "x"
    found.after = {"first": Evaluation(failing), "second": Evaluation(None)}
    found.hashes = dict.fromkeys(found.after, "h")
    context = scoring.Context(
        config=None, corpus=None, heldout=None, device=torch.device("cpu"), rank=rank, world_size=2, precision="fp32",
        autocast=contextlib.nullcontext, seed=0, folder=folder, stop=lambda: False, total=scoring._sum_over_processes,
    )  # fmt: skip
    scored = found.score(torch.nn.Linear(1, 1), context, lambda: False, lambda line: None)
    results.put((rank, scored.failed, {name: one.value for name, one in scored.scores.items()}))


@pytest.mark.slow
@pytest.mark.timeout(100)
@pytest.mark.parametrize("failing", [0, 1])
def test_one_that_fails_does_not_leave_the_other_waiting(tmp_path, failing):
    spawn = multiprocessing.get_context("spawn")
    results = spawn.Queue()
    started = [spawn.Process(target=score, args=(rank, tmp_path, failing, results), daemon=True) for rank in (0, 1)]
    try:
        for process in started:
            process.start()
        found = {rank: rest for rank, *rest in (results.get(timeout=35) for _ in started)}
    finally:
        for process in started:
            process.kill()
    for rank in (0, 1):
        failed, scores = found[rank]
        assert failed["first"] == (
            "ValueError: a broken line" if rank == failing else "it failed in another process"
        ) and list(failed) == ["first"]
        assert scores == {"score": 2.0}


@pytest.fixture
def alone(monkeypatch):
    """A process group of this process, in which `others` says what the other processes add."""
    others = [0.0]
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda tensor: tensor.add_(others.pop(0)))
    return others


def test_a_sum_is_made_after_all_have_said_that_they_go_on(alone):
    alone[:] = [0.0, 3.0]
    assert scoring._sum_over_processes(torch.tensor(1.0)).item() == 4.0
    alone[:] = [1.0, 3.0]
    with pytest.raises(FailedElsewhere):
        scoring._sum_over_processes(torch.tensor(1.0))
    assert alone == [3.0]


def test_all_stop_where_one_is_requested_to(alone):
    at = torch.device("cpu")
    alone[:] = [0.0, 0.0, scoring.REQUEST]
    assert [scoring._stop_of_all(mine, at) for mine in (False, True, False)] == [False, True, True]


@pytest.mark.parametrize("mine", [False, True])
def test_where_they_ask_each_other_the_failure_of_another_is_no_request_to_stop(alone, mine):
    alone[:] = [1.0]
    with pytest.raises(FailedElsewhere):
        scoring._stop_of_all(mine, torch.device("cpu"))


def test_a_collective_that_fails_ends_the_process(monkeypatch):
    def broken(tensor):
        raise RuntimeError("Connection closed by peer")

    monkeypatch.setattr(torch.distributed, "all_reduce", broken)
    found = object.__new__(Scoring)
    found.after = {"one": Evaluation(None)}
    found._folder = lambda name: None
    context = types.SimpleNamespace(seed=0, rank=0, world_size=2, device=torch.device("cpu"))
    monkeypatch.setattr(scoring.dataclasses, "replace", lambda context, folder: context)
    context.total = scoring._sum_over_processes
    with pytest.raises(CollectiveError, match="closed by peer"):
        found._evaluated("one", torch.nn.Linear(1, 1), context)
