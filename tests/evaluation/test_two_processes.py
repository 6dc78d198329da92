"""Zero-shot tasks and the judging of a fine-tuning in two processes: shared, to the same scores, and none waits."""

from __future__ import annotations

import dataclasses
import datetime
import multiprocessing
import traceback

import pytest
import torch

from ablate.evaluation.build import build
from ablate.evaluation.contract import Partial, StopRequested
from ablate.evaluation.likelihood import Scorer
from ablate.evaluation.zero_shot import scoring as of_tasks
from ablate.fine_tuning import validation
from ablate.fine_tuning.forms import form_for
from ablate.run import outcomes
from ablate.training.collectives import any_process, leaving_together, sum_over_processes
from tests.evaluation.zero_shot import made_up
from tests.fine_tuning import tiny

TASKS = ["piqa", "hellaswag", "nq_open", "wikitext"]
SCALE = 0.6  # of weights with which the answers differ


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    for task in TASKS:
        made_up.write(folder, task, made_up.rows(task, 12))
    tiny.superglue(folder / "superglue")
    return folder


def shared(context, stop):
    """The context of one of two processes."""
    rank = torch.distributed.get_rank()
    context = dataclasses.replace(
        context, rank=rank, world_size=2, total=sum_over_processes,
        any_process=lambda flag: any_process(flag, torch.device("cpu")),
    )  # fmt: skip
    return leaving_together(context, stop)


def zero_shot(folder, data, stop=None):
    """What zero-shot tasks come to in `folder`, and the batches that this process has answered."""
    cfg, batches = made_up.config(), []
    answer = Scorer._answer
    Scorer._answer = lambda self, *rest: (batches.append(len(rest[0])), answer(self, *rest))
    try:
        model = made_up.model_of(cfg)
        context = made_up.context(cfg, folder)
        context = shared(context, stop) if stop else context
        found = made_up.zero_shot(TASKS, data, batch_tokens=128).evaluate(model, context)
    finally:
        Scorer._answer = answer
    return found, len(batches)


def superglue(folder, data, stop):
    """What a fine-tuning of one step comes to."""
    more = ["evaluation.superglue.steps=1", "evaluation.superglue.micro_batch=4", "evaluation.superglue.warmup_steps=0"]
    cfg = tiny.composed(data / "superglue", *more)
    return build(cfg)["superglue"].evaluate(tiny.model(cfg), shared(tiny.context(cfg, folder), stop))


def outputs(data, stop=None):
    """What a model writes for the items of a task, and for how many of them this process has."""
    cfg, groups = tiny.composed(data / "superglue"), []
    model, context = tiny.model(cfg), tiny.context(cfg, data / "written")
    context = shared(context, stop) if stop else context
    made_up.set_all(model, (SCALE,), seed=1)
    layout = context.corpus.layout
    form = form_for(model.topology.reads, layout.pad_id)
    inputs = [context.corpus.tokenizer.encode([f"premise number {'so ' * number}{number}"])[0] for number in range(20)]
    write = validation.Writer._written
    validation.Writer._written = lambda self, *rest: (groups.append(len(rest[1])), write(self, *rest))[1]
    try:
        writer = validation.Writer(form, context.corpus.tokenizer, layout.eos_id, 8, 2, 0.6, 3)
        with torch.no_grad():
            written = writer.outputs(model, inputs, context, lambda done, of: context.check_stop())
    finally:
        validation.Writer._written = write
    return written, sum(groups)


def same(folder, data, stop):
    """Phase 1: the scores of both."""
    return zero_shot(folder / "zero_shot", data, stop), outputs(data, stop)


def one_fails(folder, data, stop):
    """Phase 2: process 1 fails in one task of each."""
    if torch.distributed.get_rank() == 1:
        score, judged = of_tasks.score, validation.judged

        def fails(loaded, *rest):
            if loaded.name == "hellaswag":
                raise RuntimeError("no luck")
            return score(loaded, *rest)

        def cannot_judge(task, *rest, **named):
            if task.name == "copa":
                raise RuntimeError("no judge")
            return judged(task, *rest, **named)

        of_tasks.score, validation.judged = fails, cannot_judge
    try:
        found = zero_shot(folder / "failing", data, stop)[0], superglue(folder / "failing_too", data, stop)
    finally:
        if torch.distributed.get_rank() == 1:
            of_tasks.score, validation.judged = score, judged
    return found


def one_is_stopped(folder, data, stop):
    """Phase 3: process 1 alone is requested to stop in the second task, then both go on."""
    begin = of_tasks.score
    stopping, asked = [False], []

    def begins(loaded, *rest):
        asked.append(loaded.name)
        stopping[0] = loaded.name == "hellaswag" and torch.distributed.get_rank() == 1
        return begin(loaded, *rest)

    of_tasks.score = begins
    try:
        with pytest.raises(StopRequested):
            zero_shot(folder / "stopped", data, lambda: stopping[0])
        there = sorted(path.name for path in (folder / "stopped").glob("*.jsonl"))
        stopping[0] = False
        torch.distributed.barrier()
        asked.append("again")
        of_tasks.score = lambda loaded, *rest: (asked.append(loaded.name), begin(loaded, *rest))[1]
        return zero_shot(folder / "stopped", data, stop)[0], asked, there
    finally:
        of_tasks.score = begin


PHASES = (same, one_fails, one_is_stopped)


def work(rank, folder, data, results):
    """All that is to be done by one of two processes, which are started once."""
    torch.set_num_threads(1)
    limit = datetime.timedelta(seconds=100)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2, timeout=limit
    )
    for phase in PHASES:
        try:
            results.put((rank, phase.__name__, phase(folder, data, lambda: False)))
        except BaseException:
            results.put((rank, phase.__name__, traceback.format_exc()))
            raise


@pytest.fixture(scope="module")
def found(data, tmp_path_factory):
    """What each process came to, by phase."""
    folder = tmp_path_factory.mktemp("two")
    spawn = multiprocessing.get_context("spawn")
    results = spawn.Queue()
    started = [spawn.Process(target=work, args=(rank, folder, data, results), daemon=True) for rank in (0, 1)]
    by_phase = {}
    try:
        for process in started:
            process.start()
        for _ in range(2 * len(PHASES)):
            rank, phase, result = results.get(timeout=240)
            assert not isinstance(result, str), result
            by_phase.setdefault(phase, {})[rank] = result
    finally:
        for process in started:
            process.kill()
    return folder, by_phase


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_scores_are_those_of_one_process_to_the_bit(found, data, tmp_path):
    """And so is each item's outcome; each process has asked about half of what there is to ask."""
    folder, by_phase = found
    expected, batches = zero_shot(tmp_path / "one", data)
    written, items = outputs(data)
    assert len(set(written)) > 3
    shares = []
    for rank in (0, 1):
        (scores, mine), (texts, wrote) = by_phase["same"][rank]
        assert scores == expected and texts == written
        shares.append((mine, wrote))
    for at, whole in enumerate((batches, items)):
        parts = [share[at] for share in shares]
        assert sum(parts) == whole and max(parts) <= 0.7 * whole
    for task in TASKS:
        name = outcomes.file_name(task)
        assert (folder / "zero_shot" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_task_that_fails_in_one_process_loses_no_other(found, data, tmp_path):
    expected, _ = zero_shot(tmp_path / "one", data)
    for rank, why in ((0, "it failed in another process"), (1, "RuntimeError: no luck")):
        zero, fine_tuned = found[1]["one_fails"][rank]
        assert isinstance(zero, Partial) and dict(zero.failed) == {"hellaswag": why}
        others = {
            name: score for name, score in expected.items() if score.source.get("task") not in (None, "hellaswag")
        }
        assert zero.scores == others
        assert isinstance(fine_tuned, Partial) and [*fine_tuned.failed] == ["copa"]
        assert fine_tuned.failed["copa"].endswith(why.replace("luck", "judge"))
        assert "superglue_cb" in fine_tuned.scores


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_where_one_process_is_stopped_both_leave_and_go_on_at_the_task_where_they_were(found, data, tmp_path):
    expected, _ = zero_shot(tmp_path / "one", data)
    for rank in (0, 1):
        scores, asked, there = found[1]["one_is_stopped"][rank]
        assert scores == expected and there == ["piqa.jsonl"]
        assert asked == ["piqa", "hellaswag", "again", "hellaswag", "nq_open", "wikitext"]
