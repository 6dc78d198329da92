"""Scores that are taken while a run trains: they change nothing of it, and none is taken twice or lost."""

import random
import signal

import numpy as np
import pytest
import torch

from ablate.config import compose, points
from ablate.errors import UserError
from ablate.evaluation.by_position import NAME, LossByPosition
from ablate.run.folder import checkpoint_name
from ablate.run.score import Curve, Score
from ablate.training import fit, later
from ablate.training.callback import RunCallback
from ablate.training.unchanged import unchanged
from tests.faults import faults
from tests.training.standin import folder_of, in_child, result, run

CHOSEN = ("evaluation=[heldout,by_position]", "evaluation.by_position.bins=4")
AT = (*CHOSEN, "evaluation.by_position.at=[0.125,0.5,1]")  # of 40 steps


def counted(monkeypatch):
    """The steps after which the evaluation is taken from here on, by the files of its folder; None for the last."""
    steps, evaluate = [], LossByPosition.evaluate

    def noted(self, model, context):
        steps.append(context.folder.name)
        return evaluate(self, model, context)

    monkeypatch.setattr(LossByPosition, "evaluate", noted)
    return steps


def test_scores_on_the_way_and_at_the_end_are_a_curve(asked):
    plain, found = run(asked("sweep=plain", *CHOSEN)), run(asked("sweep=more", *AT))
    score = found.scores[NAME]
    assert score.history.xs == (5, 20, 40) and score.history.x == "step"
    assert score.history.ys[-1] == score.value == plain.scores[NAME].value
    assert score.history.ys[0] > score.history.ys[1] > score.history.ys[2]
    assert found.identity == plain.identity and found.loss == plain.loss
    assert score.source["hash"] == plain.scores[NAME].source["hash"]
    assert folder_of(asked("sweep=more")).read() == found and not found.scores_missed
    at_the_end = run(asked("sweep=short", "shape.steps=5", "schedule=constant", *CHOSEN)).scores[NAME]
    again = run(asked("sweep=long", "shape.steps=40", "schedule=constant", *AT)).scores[NAME]
    assert again.history.ys[0] == at_the_end.value  # of a run that ends there


@pytest.mark.parametrize("norm", ["layernorm", "batchnorm_encoder"])
def test_not_a_bit_of_the_training_changes(asked, monkeypatch, norm):
    """Whatever an evaluation does to the model, its gradients, its buffers and the random numbers."""
    evaluate = LossByPosition.evaluate

    def careless(self, model, context):
        random.seed(1), np.random.seed(1), torch.manual_seed(1)
        found = evaluate(self, model, context)
        for tensor in [*model.parameters(), *model.buffers()]:
            tensor.fill_(3)
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
            parameter.requires_grad_(False)
        model.train()
        return found

    monkeypatch.setattr(LossByPosition, "evaluate", careless)
    plain, more = asked("sweep=plain", f"norm={norm}"), asked("sweep=more", f"norm={norm}", *AT)
    found = [result(folder_of(overrides)) for overrides in (plain, more) if run(overrides)]
    assert found[0] == found[1]
    assert run(more).scores[NAME].history.xs == (5, 20, 40)


def test_random_numbers_and_buffers_are_put_back():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    model.register_buffer("kept_out_of_the_state", torch.ones(2), persistent=False)
    model[0].eval()
    torch.manual_seed(5), random.seed(5), np.random.seed(5)
    expected = torch.rand(1), random.random(), np.random.rand()
    torch.manual_seed(5), random.seed(5), np.random.seed(5)
    before = [tensor.clone() for tensor in (*model.parameters(), *model.buffers())]
    with pytest.raises(ZeroDivisionError), unchanged(model):
        torch.rand(3), random.random(), np.random.rand(3)
        model.train()
        model(torch.rand(4, 2)).sum().backward()
        model.half()
        model.kept_out_of_the_state.zero_()
        raise ZeroDivisionError
    assert (torch.rand(1), random.random(), np.random.rand()) == expected
    after = (*model.parameters(), *model.buffers())
    assert all(torch.equal(one, other) and one.dtype == other.dtype for one, other in zip(before, after, strict=True))
    assert all(parameter.grad is None for parameter in model.parameters())
    assert [module.training for module in model.modules()] == [True, False, True]


def killed_at(step, number):
    """A signal to itself after that step, when its scores are taken and the next step is not."""

    def fault():
        between = RunCallback._between_steps

        def patched(self, trainer, requests=(False, False)):
            between(self, trainer, requests)
            if self.progress.step == step:
                faults._self(number)

        RunCallback._between_steps = patched

    return fault


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("step", [5, 15])
def test_stopped_after_a_point_it_is_not_taken_again(asked, monkeypatch, number, step):
    whole = asked("sweep=whole", *AT)
    expected = run(whole)
    overrides = asked(*AT)
    assert in_child(overrides, killed_at(step, number)) == (143 if number == signal.SIGTERM else -9)
    steps = counted(monkeypatch)
    found = run(overrides)
    assert [name.partition("-")[0] for name in steps] == ["step", "by_position"] and steps[0] == "step-00000020"
    assert found.scores == expected.scores and not found.scores_missed
    assert result(folder_of(overrides)) == result(folder_of(whole))


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_stopped_within_a_point_it_is_taken_by_the_next_attempt(asked, monkeypatch, number, code):
    whole = asked("sweep=whole", *AT)
    expected = run(whole)
    overrides = asked(*AT)

    def fault():
        evaluate = LossByPosition.evaluate

        def patched(self, model, context):
            if context.folder.name == "step-00000020":
                faults._self(number)
            return evaluate(self, model, context)

        LossByPosition.evaluate = patched

    assert in_child(overrides, fault) == code
    assert (folder_of(overrides).checkpoints / checkpoint_name(20)).exists()
    steps = counted(monkeypatch)
    found = run(overrides)
    assert steps[0] == "step-00000020" and len(steps) == 2
    assert found.scores == expected.scores and result(folder_of(overrides)) == result(folder_of(whole))


def test_added_to_a_run_that_is_past_it_a_point_stays_empty_and_is_named(asked, monkeypatch, capsys):
    before = run(asked(*CHOSEN))
    monkeypatch.setattr(fit.Fit, "run", lambda self: pytest.fail("it trains again"))
    steps = counted(monkeypatch)
    found = run(asked(*AT))
    reason = "the run was past it, and kept no weights of that step"
    assert found.scores_missed == {f"by_position at step {step}": reason for step in (5, 20)}
    assert found.scores == before.scores and not steps and found.status == "done"
    assert f"no score at step 5 ({reason})" in capsys.readouterr().out
    assert folder_of(asked()).read_config()["evaluation"]["by_position"]["at"] == [0.125, 0.5, 1]
    monkeypatch.setattr(later, "score", lambda *_: pytest.fail("it is looked at again"))
    assert run(asked(*AT)) == found


def test_a_point_that_is_added_leaves_the_others_as_they_are(asked, monkeypatch):
    first = run(asked(*CHOSEN, "evaluation.by_position.at=[0.5,1]"))
    steps = counted(monkeypatch)
    found = run(asked(*AT))
    assert found.scores == first.scores and list(found.scores_missed) == ["by_position at step 5"] and not steps
    assert run(asked(*CHOSEN)).scores == first.scores  # left out, they stay


def test_checkpoints_of_that_very_step_are_used(asked, monkeypatch):
    expected = run(asked("sweep=whole", *AT))
    keeps = ("keep_checkpoints=all", "trainer.checkpoint_every=20")
    run(asked(*keeps, *CHOSEN))
    steps = counted(monkeypatch)
    found = run(asked(*keeps, *AT))
    assert steps == ["step-00000020"] and list(found.scores_missed) == ["by_position at step 5"]
    assert found.scores[NAME].history == Curve("step", (20, 40), expected.scores[NAME].history.ys[1:])


def test_a_run_that_goes_on_uses_its_checkpoints_for_points_that_were_added(asked, monkeypatch):
    expected = run(asked("sweep=whole", *AT))
    overrides = asked(*CHOSEN, "trainer.checkpoint_every=20")
    assert in_child(overrides, killed_at(30, signal.SIGTERM)) == 143
    found = run(asked(*AT, "trainer.checkpoint_every=20"))
    assert found.scores[NAME].history == Curve("step", (20, 40), expected.scores[NAME].history.ys[1:])
    assert list(found.scores_missed) == ["by_position at step 5"]


def test_one_that_fails_on_the_way_is_named_and_loses_nothing_else(asked, monkeypatch, capsys):
    evaluate = LossByPosition.evaluate

    def fails(self, model, context):
        if context.folder.name == "step-00000005":
            raise RuntimeError("no luck")
        return evaluate(self, model, context)

    monkeypatch.setattr(LossByPosition, "evaluate", fails)
    found = run(asked(*AT))
    assert found.status == "done" and not found.scores_failed
    assert found.scores_missed == {"by_position at step 5": "RuntimeError: no luck"}
    assert found.scores[NAME].history.xs == (20, 40)
    assert "evaluation by_position at step 5: failed: RuntimeError: no luck" in capsys.readouterr().out


def test_a_divergence_after_a_point_has_its_own_status(asked):
    assert in_child(asked(*AT), faults.weights_of(18, float("nan"))) == 3


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("[0,1]", "each part must be a number above 0 and at most 1, and 0 is not"),
        ("[1.5,1]", "at most 1, and 1.5 is not"),
        ("[x,1]", "each entry must be a number"),
        ("[true,1]", "each entry must be a number"),
        ("x", "must be a list"),
        ("0.5", "must be a list"),
        ("[]", "must be a list of parts of training, such as [0.125,1]"),
        ("null", "must be a list"),
        ("[0.5,0.5,1]", "0.5 is there twice"),
        ("[1,1.0]", "1 is there twice"),
        ("[0.5]", "must contain 1, the end"),
    ],
)
def test_a_point_that_is_none_is_refused_in_a_line(value, told):
    with pytest.raises(UserError) as error:
        compose([*CHOSEN, f"evaluation.by_position.at={value}"])
    assert told in str(error.value) and "evaluation.by_position.at=" in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["heldout", "initial_gradients", "wmt_en_de"])
def test_what_does_not_look_at_the_weights_of_a_point_has_none(name):
    chosen = "heldout" if name == "heldout" else f"heldout,{name}"
    with pytest.raises(UserError, match=f"{name} cannot be taken on the way"):
        compose([f"evaluation=[{chosen}]", f"evaluation.{name}.at=[0.5,1]"])


def test_the_key_of_one_that_is_part_of_training_is_refused():
    flat = {"evaluation.mine.part_of_training": True, "evaluation.mine.at": [0.5, 1]}
    (line,) = points.problems(flat, "evaluation", "part_of_training")
    assert "it is part of training" in line


def test_parts_are_steps_after_which_the_run_is_as_far():
    assert points.before_end({"at": [1.0, 0.5, 0.001]}, 40) == {1: 0.001, 20: 0.5}
    assert points.before_end({"at": [0.5, 0.5001, 1]}, 40) == {20: 0.5}
    assert points.before_end({}, 40) == points.before_end({"at": [0.999, 1]}, 40) == {}


def test_a_history_is_read_as_it_was_written():
    score = Score(1.0, "x", True, history=Curve("step", (5, 40), (0.5, 1.0)))
    assert Score.from_json(score.to_json()) == score
    with pytest.raises(ValueError, match="history must be a mapping"):
        Score.from_json({**score.to_json(), "history": [1]})
