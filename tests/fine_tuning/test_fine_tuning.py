"""Fine-tuning as an evaluation: it learns, it is scored, and interrupted it goes on to the same numbers."""

import csv
import itertools
import json
import types

import pytest
import torch

from ablate.errors import UserError
from ablate.evaluation.contract import StopRequested
from ablate.fine_tuning import judging, validation
from ablate.fine_tuning.loop import Diverged, Loop
from ablate.run import outcomes
from tests.fine_tuning import tiny


@pytest.fixture
def cfg(tmp_path):
    return lambda *more: tiny.composed(tiny.superglue(tmp_path / "data"), *more)


def weights(folder):
    """The weights after the last step, and the metrics without their times."""
    (path, *_) = sorted((folder / "checkpoints").glob("*.ckpt"), reverse=True)
    state = torch.load(path, weights_only=True)["state_dict"]
    lines = [line.split(",") for line in (folder / "metrics.csv").read_text().splitlines()]
    return {name: tensor.numpy().tobytes() for name, tensor in state.items()}, [line[:1] + line[2:] for line in lines]


def metrics(folder, kind):
    """The rows of metrics.csv of one kind."""
    with open(folder / "metrics.csv", newline="") as file:
        return [row for row in csv.DictReader(file) if row["kind"] == kind]


@pytest.mark.parametrize("topology", tiny.TOPOLOGIES)
def test_it_learns_what_can_be_learned(cfg, tmp_path, topology):
    longer = ["evaluation.superglue.steps=120", "evaluation.superglue.checkpoint_every=60"]
    found = tiny.evaluated(cfg("evaluation.superglue.dropout=0", *longer, *tiny.TOPOLOGIES[topology]), tmp_path / "run")
    score = found["superglue_cb"]
    assert score.value > score.chance + 20 and score.unit == "%" and score.items == 12
    assert found["superglue"].value > 0


def test_the_scores(cfg, tmp_path):
    found = tiny.evaluated(cfg(), tmp_path / "run")
    assert list(found) == [
        "superglue", "superglue_loss", "superglue_cb", "superglue_cb_f1_macro", "superglue_cb_accuracy",
        "superglue_cb_loss",
        "superglue_copa", "superglue_copa_loss",
    ]  # fmt: skip
    assert [name for name, score in found.items() if not score.exploratory] == ["superglue"]
    average = found["superglue"]
    assert average.source["mean_of"] == ["superglue_cb"]
    assert average.source["tasks"] == ["cb"] and average.source["left_out"] == ["copa"]  # 6 items, of at least 8
    assert average.value == found["superglue_cb"].value == max(average.curve.ys)
    assert not average.source["comparable"] and "fine-tuned" in average.source["not_comparable_because"]
    assert average.curve.x == "fine-tuning step" and average.curve.xs == (10, 20, 30)
    assert average.source["step"] == average.curve.xs[average.curve.ys.index(average.value)]
    assert average.source["comparable"] is False and average.source["splits"] == {"cb": "val.jsonl"}
    source = found["superglue_copa"].source
    assert set(source["sha256"]) == {"train.jsonl.gz", "val.jsonl"} and source["scorer"] == "accuracy"
    assert found["superglue_copa"].chance == 50
    stored = outcomes.read(tmp_path / "run" / source["outcomes"])
    assert [item.id for item in stored.items] == [f"copa/{number}" for number in range(6)]
    assert sum(stored.values("superglue_copa").values()) / 6 == pytest.approx(found["superglue_copa"].value)
    assert source["data"] == "COPA"  # no path of this machine
    assert not (tmp_path / "run" / "validation").exists() and not list((tmp_path / "run" / "checkpoints").glob("*"))
    assert [row["step"] for row in metrics(tmp_path / "run", "train")] == ["1", "5", "10", "15", "20", "25", "30"]


def test_the_loss_of_the_reference_answers(cfg, tmp_path):
    """Of each task as a score, with what each item adds to it; in metrics.csv their mean at each step."""
    found = tiny.evaluated(cfg("keep_checkpoints=all"), tmp_path / "run")
    losses = {task: found[f"superglue_{task}_loss"] for task in ("cb", "copa")}
    for task, score in losses.items():
        assert (score.unit, score.higher_is_better, score.chance) == ("nats a token", False, None)
        stored = outcomes.read(tmp_path / "run" / score.source["outcomes"])
        values = stored.values(f"superglue_{task}_loss")
        assert len(values) == score.items == len(stored.items)
        assert sum(values.values()) / len(values) == pytest.approx(score.value)
        assert all(len(item.log_likelihoods) == 1 and item.log_likelihoods[0] < 0 for item in stored.items)
    average = found["superglue_loss"]
    assert (average.value, average.source["mean_of"]) == (losses["cb"].value, ["superglue_cb_loss"])  # copa: too few
    assert (average.unit, average.higher_is_better, average.chance) == ("nats a token", False, None)
    rows = metrics(tmp_path / "run", "validation")
    assert [row["step"] for row in rows] == ["10", "20", "30"]
    lowest = min(rows, key=lambda row: float(row["loss"]))
    assert {score.source["step"] for score in [average, *losses.values()]} == {int(lowest["step"])}
    assert float(lowest["loss"]) == pytest.approx(sum(score.value for score in losses.values()) / 2)


def test_the_loss_has_a_best_step_of_its_own(cfg, tmp_path, monkeypatch):
    """Where the official score is best at a step and the loss at another; the items have what each score is of."""
    judge = validation.judged

    def first_is_best(task, names, examples, outputs, *rest, **named):
        is_first = not (tmp_path / "run" / "validation" / "step-00000020").exists()
        right = [one.targets[0] if is_first else "" for one in examples]
        return judge(task, names, examples, right, *rest, **named)

    monkeypatch.setattr(validation, "judged", first_is_best)
    found = tiny.evaluated(cfg("keep_checkpoints=all"), tmp_path / "run")
    score, loss = found["superglue_copa"], found["superglue_copa_loss"]
    assert score.value == 100 and score.source["step"] == found["superglue"].source["step"] == 10
    assert loss.source["step"] == found["superglue_loss"].source["step"] == 30
    placed = outcomes.read(tmp_path / "run" / "copa.jsonl")
    last = outcomes.read(tmp_path / "run" / "validation" / "step-00000030" / "copa.jsonl")
    assert placed.values("superglue_copa_loss") == last.values("superglue_copa_loss")
    assert [item.log_likelihoods for item in placed.items] == [item.log_likelihoods for item in last.items]
    assert all(item.right == 1 and item.values["superglue_copa"] == 100 for item in placed.items)
    assert loss.source["outcomes_sha256"] == outcomes.sha256(placed.items)


class Stop:
    """Requests to stop at the call with this number."""

    def __init__(self, at):
        self.at, self.calls = at, 0

    def __call__(self):
        self.calls += 1
        return self.calls >= self.at


@pytest.mark.parametrize("topology", tiny.TOPOLOGIES)
def test_stopped_anywhere_it_goes_on_to_the_same_numbers(cfg, tmp_path, topology):
    made = cfg("keep_checkpoints=all", *tiny.TOPOLOGIES[topology])
    whole = tiny.evaluated(made, tmp_path / "whole")
    stops = 0
    for at in (7, 9, 1, 12, 6):  # in training and while it is judged
        try:
            tiny.evaluated(made, tmp_path / "parts", stop=Stop(at))
        except StopRequested:
            stops += 1
    assert stops >= 3
    assert tiny.evaluated(made, tmp_path / "parts") == whole
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")


def test_killed_it_goes_on_from_its_checkpoint(cfg, tmp_path, monkeypatch):
    made = cfg("keep_checkpoints=all")
    whole = tiny.evaluated(made, tmp_path / "whole")
    take = Loop._take

    def killed(self):
        if self.step == 17:
            raise KeyboardInterrupt
        take(self)

    with monkeypatch.context() as patched:
        patched.setattr(Loop, "_take", killed)
        with pytest.raises(KeyboardInterrupt):
            tiny.evaluated(made, tmp_path / "parts")
    steps = []
    monkeypatch.setattr(Loop, "_take", lambda self: (steps.append(self.step), take(self)))
    judged = []
    monkeypatch.setattr(validation, "judged", _counting(validation.judged, judged))
    assert tiny.evaluated(made, tmp_path / "parts") == whole
    assert steps == list(range(10, 30))  # the checkpoint of step 10
    assert len(judged) == 4  # two tasks at steps 20 and 30
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")


def _counting(function, calls):
    def counted(*arguments, **named):
        calls.append(arguments[0].name)
        return function(*arguments, **named)

    return counted


def test_a_task_that_was_judged_is_not_judged_again(cfg, tmp_path, monkeypatch):
    written = validation.Writer.outputs

    def interrupted(self, model, inputs, *rest):
        if len(inputs) == 6:
            raise KeyboardInterrupt
        return written(self, model, inputs, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(validation.Writer, "outputs", interrupted)
        with pytest.raises(KeyboardInterrupt):
            tiny.evaluated(cfg(), tmp_path / "run")
    judged = []
    monkeypatch.setattr(validation, "judged", _counting(validation.judged, judged))
    assert tiny.evaluated(cfg(), tmp_path / "run") == tiny.evaluated(cfg(), tmp_path / "whole")
    assert judged[:2] == ["copa", "cb"]


@pytest.mark.parametrize("lost", ["copa.jsonl", "cb.jsonl"])
def test_a_step_whose_outcomes_are_lost_is_judged_again(cfg, tmp_path, monkeypatch, lost):
    """The best step is chosen among all, so what was trained behind the lost one is trained again."""
    made = cfg("keep_checkpoints=all")
    whole = tiny.evaluated(made, tmp_path / "run")
    (tmp_path / "run" / "validation" / "step-00000010" / lost).write_text("{}")
    for kept in (tmp_path / "run").glob("*.jsonl"):
        kept.unlink()
    judged = []
    monkeypatch.setattr(validation, "judged", _counting(validation.judged, judged))
    assert tiny.evaluated(made, tmp_path / "run") == whole
    assert judged == [lost.removesuffix(".jsonl")]


@pytest.mark.parametrize("at", [0, 1, 2], ids=["first", "second", "last"])
def test_a_task_that_cannot_be_judged_loses_no_other(cfg, tmp_path, monkeypatch, at):
    """Its name, and why; the next attempt judges it alone, and comes to what an attempt without failures gives."""
    whole, judge, judged = tiny.evaluated(cfg(), tmp_path / "whole"), validation.judged, []

    def fails(task, *rest, **named):
        judged.append(task.name)
        if task.name == "copa" and judged.count("copa") == at + 1:
            raise RuntimeError("no room")
        return judge(task, *rest, **named)

    with monkeypatch.context() as patched:
        patched.setattr(validation, "judged", fails)
        found = tiny.evaluated(cfg(), tmp_path / "run")
    assert found.failed == {"copa": f"at step {10 * (at + 1)}: RuntimeError: no room"}
    assert all(score.exploratory for score in found.scores.values())
    assert {*found.scores} == {"superglue_cb", "superglue_cb_f1_macro", "superglue_cb_accuracy", "superglue_cb_loss"}
    again = []
    monkeypatch.setattr(validation, "judged", _counting(judge, again))
    assert tiny.evaluated(cfg(), tmp_path / "run") == whole and again == ["copa"]


def test_where_no_task_can_be_judged_the_reasons_are_raised(cfg, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise ValueError("no memory")

    monkeypatch.setattr(validation, "judged", broken)
    with pytest.raises(RuntimeError, match="cb at step 10: ValueError: no memory; copa at step 10"):
        tiny.evaluated(cfg(), tmp_path / "run")


def test_what_was_cut_stands_once_for_each_task(cfg, tmp_path):
    found = tiny.evaluated(cfg("evaluation.superglue.input_length=8"), tmp_path / "run")
    assert [name for name, score in found.items() if "cut" in score.source] == ["superglue_cb", "superglue_copa"]
    cut = found["superglue_cb"].source["cut"]
    assert set(cut) <= {"train inputs", "validation inputs", "train targets", "validation targets"}
    assert 0 < cut["train inputs"] <= 60


def test_it_says_how_far_it_is(cfg, tmp_path, monkeypatch):
    clock = map(float, itertools.count(0, 7))
    monkeypatch.setattr(judging, "time", types.SimpleNamespace(monotonic=lambda: next(clock)))
    lines = []
    tiny.evaluated(cfg("evaluation.superglue.micro_batch=4"), tmp_path / "run", say=lines.append)
    assert "fine-tuning judges cb: 8 of 12, 10 s left" in lines  # eight in 21 s
    (step,) = (line for line in lines if line.startswith("fine-tuning step 20/30  loss"))
    assert " cb " in step and " copa " in step


def test_other_weights_or_other_files_begin_anew(cfg, tmp_path):
    made = cfg("keep_checkpoints=all")
    first = tiny.evaluated(made, tmp_path / "run")
    other = cfg("keep_checkpoints=all", "seed.init=5")
    assert tiny.evaluated(other, tmp_path / "run") == tiny.evaluated(other, tmp_path / "new")
    assert tiny.evaluated(made, tmp_path / "run") == first


def test_a_divergence_is_named(cfg, tmp_path):
    with pytest.raises(Diverged, match=r"fine-tuning diverged: the (loss|gradient norm) was (nan|inf) at step \d+"):
        tiny.evaluated(cfg("evaluation.superglue.learning_rate=1e30"), tmp_path / "run")


def test_the_rate_is_that_of_the_optimizers_kind(cfg, tmp_path):
    settings = ["evaluation.superglue.learning_rate=0.02", "evaluation.superglue.learning_rate_absolute=0.003"]
    for optimizer, rate in (("adafactor", 0.02), ("adam", 0.003)):
        tiny.evaluated(cfg(f"optimizer={optimizer}", *settings), tmp_path / optimizer)
        rates = [float(row["learning_rate"]) for row in metrics(tmp_path / optimizer, "train")]
        assert rates == pytest.approx([0, rate * 4 / 5, *[rate] * 5])


def test_slices_add_up(cfg, tmp_path):
    """The same gradients in slices of 4 as in one of 16, but for rounding."""
    losses = []
    for micro in (16, 4):
        tiny.evaluated(
            cfg(f"evaluation.superglue.micro_batch={micro}", "evaluation.superglue.dropout=0"), tmp_path / str(micro)
        )
        losses.append([float(row["loss"]) for row in metrics(tmp_path / str(micro), "train")])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("evaluation.superglue.data=nowhere", r"evaluation\.superglue\.data: there is no folder nowhere/CB"),
        ("evaluation.superglue.tasks=[cbb]", r"superglue\.tasks: there is no task 'cbb'.*did you mean 'cb'"),
        ("evaluation.superglue.tasks=[]", "tasks is empty"),
        ("topology=encoder", "one of encoder alone writes no text; choose topology=encoder_decoder, "),
        ("evaluation.superglue.micro_batch=3", r"batch_tokens=512 makes 16 examples .* parts of 3"),
        ("evaluation.superglue.input_length=64 position=learned", r"_length is too large: .* position.max_length=32"),
        (
            "evaluation.superglue.target_length=64 attention=synthesizer_random attention.n_heads=2",
            r"_length is too large: .* attention.max_length=32",
        ),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_before_anything_is_trained(cfg, override, line):
    from ablate.evaluation.build import build

    made = cfg(*override.split())
    with pytest.raises(UserError, match=line):
        build(made)["superglue"].check(made)


@pytest.mark.parametrize("topology", tiny.TOPOLOGIES)
def test_what_fits_is_not_refused(cfg, topology):
    from ablate.evaluation.build import build

    made = cfg("position=learned", *tiny.TOPOLOGIES[topology])
    build(made)["superglue"].check(made)


def test_a_run_with_a_bad_task_file_is_refused_before_it_trains(asked, tmp_path, monkeypatch):
    from ablate.training import fit
    from tests.training.standin import run

    data = tiny.superglue(tmp_path / "data")
    (data / "COPA" / "val.jsonl").write_text(json.dumps({"premise": "p"}) + "\n")
    monkeypatch.setattr(fit.Fit, "run", lambda self: pytest.fail("it trains"))
    with pytest.raises(UserError, match=r"COPA/val\.jsonl:1: there is no field 'choice1'"):
        run(asked("shape.batch_tokens=512", "shape.length=32", *tiny.SUPERGLUE, f"evaluation.superglue.data={data}"))


def test_a_limit_judges_so_many_items(cfg, tmp_path):
    found = tiny.evaluated(cfg("evaluation.superglue.limit=5", "evaluation.superglue.steps=5"), tmp_path / "run")
    assert (found["superglue_cb"].items, found["superglue_copa"].items) == (5, 5)
    assert found["superglue"].source["tasks"] == ["cb", "copa"]  # none has as many as wanted
