"""Evaluations after training: their scores in the record, at once or later, whatever happens to them."""

import dataclasses
import json
import math
import signal

import pytest
import torch

from ablate.errors import UserError
from ablate.evaluation.by_position import NAME, LossByPosition
from ablate.evaluation.contract import Partial
from ablate.run.score import Score
from ablate.training import checkpoint, fit, scoring
from tests.faults import faults
from tests.training.standin import folder_of, in_child, result, run

BOTH = ("evaluation=[heldout,by_position]", "evaluation.by_position.bins=4")


def replaced(monkeypatch, evaluate):
    """Let every evaluation after training be `evaluate(self, model, context)`."""
    monkeypatch.setattr(LossByPosition, "evaluate", evaluate)


def untrained(monkeypatch):
    """From here on no run may train."""
    monkeypatch.setattr(fit.Fit, "run", lambda self: pytest.fail("it trains again"))


def test_scores_are_in_the_record(asked):
    plain, more = run(asked("sweep=plain")), run(asked("sweep=more", *BOTH))
    written = json.loads(folder_of(asked("sweep=plain")).record.read_text())
    assert "scores" not in written and "scores_failed" not in written and plain.downstream == {}
    assert more.loss == plain.loss and more.identity == plain.identity
    score = more.scores[NAME]
    assert more.downstream == {NAME: score.value} and not more.scores_failed
    assert score.unit == "nats a token" and not score.higher_is_better
    assert score.source["evaluation"] == "by_position" and len(score.source["hash"]) == 16
    assert score.curve.xs == (2, 4, 6, 8)  # of 8 target positions
    assert sum(score.curve.ys) / 4 == pytest.approx(more.loss.final, abs=1e-6)
    assert more.status == "done" and list(more.scores) == [NAME]


def test_training_is_the_same_to_the_last_bit(asked):
    overrides = asked("sweep=plain"), asked("sweep=more", *BOTH)
    results = [result(folder_of(o)) for o in overrides if run(o)]
    assert results[0] == results[1]
    assert {path.name for path in folder_of(overrides[1]).checkpoints.iterdir()} == {"weights.pt", "weights.pt.sha256"}


def test_the_model_is_in_evaluation_mode_and_left_as_it_was(asked, monkeypatch):
    plain = asked("sweep=plain")
    run(plain)
    seen = {}

    def evaluate(self, model, context):
        seen.update(mode=model.training, gradients=torch.is_grad_enabled(), drawn=torch.rand(1).item())
        seen.update(folder=context.folder, tokenizer=context.corpus, seed=context.seed, rank=context.rank)
        for parameter in model.parameters():
            parameter.zero_()
        return {"zero": Score(0.0, "x", higher_is_better=True)}

    replaced(monkeypatch, evaluate)
    ruined = asked("sweep=ruined", "seed=0", *BOTH)
    assert run(ruined).downstream == {"zero": 0.0}
    assert seen["mode"] is False and seen["gradients"] is False and (seen["seed"], seen["rank"]) == (0, 0)
    torch.manual_seed(0)
    assert seen["drawn"] == torch.rand(1).item()
    assert seen["folder"].is_dir() and seen["folder"].parent == folder_of(ruined).path / "evaluation"
    assert result(folder_of(ruined)) == result(folder_of(plain))


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (RuntimeError("no such task"), "RuntimeError: no such task"),
        ({"a": Score(math.nan, "x", True)}, "ValueError: a was nan"),
        ({"a": Score(1.0, "x", True, standard_error=math.inf)}, "ValueError: Out of range float values"),
        ({"a b": Score(1.0, "x", True)}, "ValueError: 'a b' cannot name a score"),
        ({"seed": Score(1.0, "x", True)}, "ValueError: 'seed' cannot name a score: reports have a column"),
        (SystemExit(2), "SystemExit: 2"),
        ({"a": 1.0}, "TypeError: it must return a dictionary with at least one score"),
        ({}, "TypeError: it must return a dictionary with at least one score"),
    ],
)
def test_one_that_fails_does_not_lose_the_run(asked, monkeypatch, outcome, reason):
    def evaluate(self, model, context):
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    replaced(monkeypatch, evaluate)
    overrides = asked(*BOTH)
    found = run(overrides)
    assert found.status == "done" and found.loss.final > 0 and found.downstream == {}
    assert found.scores_failed["by_position"].startswith(reason) and not found.scores
    assert f"evaluation by_position: failed: {reason}" in folder_of(overrides).log.read_text()


def test_a_name_that_is_taken_is_a_failure():
    taken = Score(1.0, "x", True, source={"evaluation": "one"})
    found = scoring.Scored({"accuracy": taken})
    found.add("two", Partial({"accuracy": Score(2.0, "x", True)}, {}))
    assert found.failed == {"two": "its score accuracy has the name of a score of one"}
    assert found.scores == {"accuracy": taken}


def test_damaged_weights_of_a_finished_run_are_told_in_a_line(asked):
    overrides = asked()
    found = run(overrides)
    folder = folder_of(overrides)
    before = folder.record.read_bytes()
    (folder.checkpoints / "weights.pt.sha256").write_bytes(b"\xff\xfegarbage")
    with pytest.raises(UserError, match=r"weights.pt is damaged.*: no more scores can be taken of it; move .* away"):
        run(asked(*BOTH))
    assert folder.record.read_bytes() == before and found.status == "done"


def stops_in_evaluation(number):
    """A signal while the evaluation after training goes on."""

    def fault():
        evaluate = LossByPosition.evaluate

        def patched(self, model, context):
            faults._self(number)
            return evaluate(self, model, context)

        LossByPosition.evaluate = patched

    return fault


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_stopped_in_an_evaluation_it_goes_on_without_training(asked, monkeypatch, number, code):
    whole = asked("sweep=whole", *BOTH)
    expected = run(whole)
    overrides = asked(*BOTH)
    assert in_child(overrides, stops_in_evaluation(number)) == code
    folder = folder_of(overrides)
    assert folder.read().status == ("running" if number == signal.SIGKILL else "preempted")
    assert (folder.checkpoints / "step-00000040.ckpt").exists()
    from ablate.training.progress import Progress

    monkeypatch.setattr(Progress, "take", lambda *_: pytest.fail("it takes a step again"))
    found = run(overrides)
    assert found.status == "done" and found.scores == expected.scores and found.loss == expected.loss
    assert result(folder) == result(folder_of(whole))
    assert not list(folder.checkpoints.glob("step-*"))


def test_what_was_found_before_a_stop_is_not_measured_again(asked, monkeypatch):
    overrides = asked(*BOTH)
    assert in_child(overrides, faults.at_the_end(signal.SIGKILL)) == -9
    monkeypatch.setattr(LossByPosition, "evaluate", lambda *_: pytest.fail("it is measured again"))
    found = run(overrides)
    assert found.status == "done" and list(found.scores) == [NAME]


def test_scores_of_another_run_in_the_folder_are_not_taken(asked):
    overrides = asked(*BOTH)
    found = run(overrides)
    folder = folder_of(overrides)
    (kept,) = folder.path.glob("evaluation/*/scores.json")
    kept.write_text(kept.read_text().replace(found.identity, "0" * 16).replace('"value": ', '"value": 1'))
    for path in (folder.record, folder.checkpoints / "weights.pt"):
        path.unlink()
    assert run(overrides).scores == found.scores


def test_added_to_a_finished_run(asked, monkeypatch):
    expected = run(asked("sweep=whole", *BOTH))
    before = run(asked())
    folder = folder_of(asked())
    weights = (folder.checkpoints / "weights.pt").read_bytes()
    untrained(monkeypatch)
    found = run(asked(*BOTH))
    assert found.scores == expected.scores and found.downstream == expected.downstream
    assert found == dataclasses.replace(before, scores=found.scores, downstream=found.downstream)
    assert folder.read() == found and (folder.checkpoints / "weights.pt").read_bytes() == weights
    config = folder.read_config()
    assert config["evaluation"]["by_position"]["bins"] == 4 and config["trainer"]["log_every"] == 5
    monkeypatch.setattr(LossByPosition, "evaluate", lambda *_: pytest.fail("it is measured again"))
    assert run(asked(*BOTH)) == found
    assert run(asked()) == found  # taken away, it changes nothing


def test_another_setting_is_measured_anew_and_takes_the_place_of_the_old(asked, monkeypatch):
    first = run(asked(*BOTH))
    untrained(monkeypatch)
    again = run(asked("evaluation=[heldout,by_position]", "evaluation.by_position.bins=2"))
    assert list(again.scores) == [NAME] and len(again.scores[NAME].curve.xs) == 2
    assert again.scores[NAME].source["hash"] != first.scores[NAME].source["hash"]
    assert again.downstream[NAME] == again.scores[NAME].value != first.downstream[NAME]


def test_what_failed_is_tried_again_later(asked, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr(LossByPosition, "evaluate", lambda *_: 1 / 0)
        assert "by_position" in run(asked(*BOTH)).scores_failed
    untrained(monkeypatch)
    found = run(asked(*BOTH))
    assert list(found.scores) == [NAME] and "scores_failed" not in json.loads(folder_of(asked()).record.read_text())


def test_without_weights_nothing_can_be_added(asked):
    run(asked("keep_checkpoints=none"))
    with pytest.raises(
        UserError,
        match=r"is done without by_position \(or with other settings of it\), and its weights are gone \(keep_check",
    ):
        run(asked("keep_checkpoints=none", *BOTH))
    assert folder_of(asked()).read().status == "done"


def test_with_keep_none_it_is_measured_at_once(asked):
    found = run(asked("keep_checkpoints=none", *BOTH))
    assert list(found.scores) == [NAME] and not list(folder_of(asked()).checkpoints.glob("*"))
    assert run(asked("keep_checkpoints=none", *BOTH)) == found


def test_stopped_in_a_later_evaluation_the_result_stays(asked):
    before = run(asked())
    assert in_child(asked(*BOTH), stops_in_evaluation(signal.SIGTERM)) == 143
    found = folder_of(asked()).read()
    assert found.status == "done" and found.loss == before.loss
    assert list(run(asked(*BOTH)).scores) == [NAME]


def test_stopped_in_a_later_evaluation_its_earlier_score_stays(asked):
    before = run(asked(*BOTH)).scores
    other = asked(*BOTH, "evaluation.by_position.seed=5")
    assert in_child(other, stops_in_evaluation(signal.SIGTERM)) == 143
    assert folder_of(asked()).read().scores == before
    assert run(other).scores[NAME] != before[NAME]


def test_weights_of_another_run_are_refused(asked):
    run(asked())
    path = folder_of(asked()).checkpoints / "weights.pt"
    checkpoint.save({**checkpoint.load(path), "identity": "0" * 16}, path)
    with pytest.raises(UserError, match="belongs to another run"):
        run(asked(*BOTH))


def test_a_divergence_is_not_evaluated(asked, monkeypatch):
    overrides = asked(*BOTH)
    assert in_child(overrides, faults.weights_of(18, math.nan)) == 3
    monkeypatch.setattr(LossByPosition, "evaluate", lambda *_: pytest.fail("it is evaluated"))
    assert run(overrides).status == "diverged"


def test_a_speed_trial_evaluates_nothing(asked, monkeypatch, tmp_path):
    from ablate.config import compose
    from ablate.training import run as train

    monkeypatch.setattr(scoring.Scoring, "score", lambda *_: pytest.fail("it evaluates"))
    monkeypatch.setattr(LossByPosition, "evaluate", lambda *_: pytest.fail("it evaluates"))
    assert train.measure(compose(asked("keep_checkpoints=all", *BOTH)), tmp_path / "trial", 0.1)["median"] > 0
    assert not list((tmp_path / "trial").rglob("*.ckpt"))


def test_a_line_names_the_points_of_its_own_evaluation_alone():
    score = Score(1.0, "x", True, source={"evaluation": "two"})
    found = scoring.Scored({"accuracy": score}, missed={"one at step 5": "past", "two at step 5: part": "no luck"})
    assert found.described("two") == "accuracy 1 x, no score at step 5: part (no luck)"
