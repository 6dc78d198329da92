"""`ablate evaluate`: scores are added to finished runs, and nothing else about them changes."""

from __future__ import annotations

import json
import shutil

import pytest

from ablate import cli
from ablate.errors import UserError
from ablate.evaluation.by_position import NAME, LossByPosition
from ablate.evaluation.contract import Partial
from ablate.training import fit
from tests.training.standin import folder_of, run

TRAIN = fit.Fit.run
FOUR_BINS = ("evaluation=by_position", "evaluation.by_position.bins=4")


@pytest.fixture
def runs(asked, tmp_path, monkeypatch):
    """Two finished runs of a sweep in `runs/`, in the current folder; no run may train any more."""
    monkeypatch.chdir(tmp_path)
    folders = []
    for seed in (0, 1):
        overrides = asked("sweep=mine", f"seed={seed}")
        run(overrides)
        folders.append(folder_of(overrides))
    monkeypatch.setattr(fit.Fit, "run", lambda self: pytest.fail("it trains again"))
    return folders


def without_scores(folder):
    content = json.loads(folder.record.read_text())
    return {key: value for key, value in content.items() if key not in ("scores", "downstream", "checksum")}


def test_a_run_gets_a_score_and_keeps_all_else(runs, capsys):
    folder, other = runs
    before, of_other = without_scores(folder), other.record.read_bytes()
    weights = folder.weights.read_bytes()
    assert cli.run(["evaluate", str(folder.path), *FOUR_BINS]) == 0
    score = folder.read().scores[NAME]
    assert score.curve.xs == (2, 4, 6, 8)
    assert without_scores(folder) == before and folder.weights.read_bytes() == weights
    assert other.record.read_bytes() == of_other
    assert f"mine: tiny, seed 0: {NAME} {score.value:.4g} nats a token" in capsys.readouterr().out


@pytest.mark.parametrize("word", ["mine", "runs/mine", "runs/mine/tiny", "runs"])
def test_all_runs_of_a_sweep_or_below_a_folder(runs, word, capsys):
    assert cli.run(["evaluate", word, *FOUR_BINS]) == 0
    assert all(NAME in folder.read().scores for folder in runs)
    assert "[2/2] mine: tiny, seed 1" in capsys.readouterr().out


def test_what_is_there_is_not_measured_again_and_other_settings_replace_it(runs, monkeypatch):
    folder = runs[0]
    words = ["evaluate", str(folder.path), *FOUR_BINS]
    assert cli.run(words) == 0
    assert cli.run([*words[:-1], "evaluation.by_position.bins=2"]) == 0
    assert folder.read().scores[NAME].curve.xs == (4, 8)
    assert folder.read_config()["evaluation"]["by_position"]["bins"] == 2
    monkeypatch.setattr(LossByPosition, "evaluate", lambda *_: pytest.fail("it measures again"))
    assert cli.run([*words[:-1], "evaluation.by_position.bins=2"]) == 0


def test_one_that_fails_is_named_and_the_others_go_on(runs, monkeypatch, capsys):
    evaluate = LossByPosition.evaluate

    def fails_once(self, model, context):
        if context.seed == 0:
            raise RuntimeError("no luck")
        return evaluate(self, model, context)

    monkeypatch.setattr(LossByPosition, "evaluate", fails_once)
    assert cli.run(["evaluate", "mine", *FOUR_BINS]) == 1
    assert "seed 0: by_position failed: RuntimeError: no luck" in capsys.readouterr().out
    assert not runs[0].read().scores and NAME in runs[1].read().scores


def test_parts_that_fail_are_named_beside_the_scores_of_others(runs, monkeypatch, capsys):
    evaluate = LossByPosition.evaluate
    monkeypatch.setattr(
        LossByPosition,
        "evaluate",
        lambda self, model, context: Partial(evaluate(self, model, context), {"second": "no file"}),
    )
    assert cli.run(["evaluate", str(runs[0].path), *FOUR_BINS]) == 1
    told = capsys.readouterr().out
    assert f"{NAME} " in told and "by_position.second failed: no file" in told
    assert NAME in runs[0].read().scores


def test_a_run_without_weights_or_result_is_named_and_the_others_go_on(runs, capsys):
    shutil.rmtree(runs[0].checkpoints)
    assert cli.run(["evaluate", "mine", *FOUR_BINS]) == 2
    assert "its weights are gone" in capsys.readouterr().err
    assert NAME in runs[1].read().scores
    runs[0].record.unlink()
    assert cli.run(["evaluate", "mine", *FOUR_BINS]) == 0
    assert "seed-0 (" in capsys.readouterr().err


def test_what_is_wrong_with_all_runs_is_told_once(runs, capsys, monkeypatch):
    def check(self, config):
        raise UserError("tasks/piqa.jsonl:3: has no field 'goal'")

    monkeypatch.setattr(LossByPosition, "check", check)
    assert cli.run(["evaluate", "mine", *FOUR_BINS]) == 2
    assert capsys.readouterr().err == "ablate: tasks/piqa.jsonl:3: has no field 'goal'\n"
    assert not any(folder.read().scores for folder in runs)


def test_a_run_that_was_moved_is_scored_where_it_is(runs, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    shutil.move("runs", "elsewhere/kept")
    assert cli.run(["evaluate", "elsewhere/kept/mine/tiny/seed-1", *FOUR_BINS]) == 0
    record = json.loads((tmp_path / "elsewhere/kept/mine/tiny/seed-1/record.json").read_text())
    assert NAME in record["scores"]
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "at least one run or sweep"),
        (["mine"], "choose what to measure: evaluation=NAME, of "),
        (["mine", "evaluation=by_positon"], "evaluation=by_positon: unknown option; did you mean 'by_position'?"),
        (["mine", "evaluation=heldout"], "evaluation=heldout is part of training"),
        (["mine", "evaluation=by_position", "norm=rmsnorm"], "norm=rmsnorm: a finished run takes evaluation=NAME"),
        (["mine", "evaluation=by_position", "evaluation.by_position.bin=2"], "there is no key"),
        (["mime", "evaluation=by_position"], "no sweep in runs; did you mean 'mine'?"),
        (["mine", "evaluation=by_position", "evaluation.by_position.bins=0"], "bins"),
    ],
)  # fmt: skip
def test_a_mistake_is_a_line_before_any_run_is_looked_at(words, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "mine" / "tiny" / "seed-0").mkdir(parents=True)
    assert cli.run(["evaluate", *words]) == 2
    errors = capsys.readouterr().err
    assert told in errors and "Traceback" not in errors


def test_a_point_that_the_run_is_past_is_named_in_a_line(runs, capsys):
    words = ["evaluate", str(runs[0].path), *FOUR_BINS, "evaluation.by_position.at=[0.125,1]"]
    assert cli.run(words) == 0
    reason = "the run was past it, and kept no weights of that step"
    score = runs[0].read().scores[NAME]
    line = f"{NAME} {score.value:.4g} nats a token, no score of by_position at step 5 ({reason})"
    assert f"mine: tiny, seed 0: {line}" in capsys.readouterr().out
    assert runs[0].read().scores_missed == {"by_position at step 5": reason} and score.history is None
    assert cli.run(words) == 0 and "no score of by_position at step 5" in capsys.readouterr().out
    assert cli.run(words[:-1]) == 0 and "at step 5" not in capsys.readouterr().out  # not asked for


def test_points_are_asked_of_one_run_and_another(runs, asked, tmp_path, monkeypatch, capsys):
    """`status` says which runs have a score at each point."""
    point = "evaluation.by_position.at=[0.125,1]"
    monkeypatch.setattr(fit.Fit, "run", TRAIN)
    run(asked("sweep=mine", "seed=2", "evaluation=[heldout,by_position]", *FOUR_BINS[1:], point))
    assert cli.run(["evaluate", str(runs[0].path), *FOUR_BINS, point]) == 0
    overrides = [text for text in runs[0].read().overrides if not text.startswith(("row=", "sweep=", "seed", "paths."))]
    (tmp_path / "sweeps").mkdir()
    base = json.dumps([*overrides, "evaluation=[heldout,by_position]", *FOUR_BINS[1:], point])
    rows = "rows: {tiny: [], RMS Norm: [norm=rmsnorm]}"
    text = f"question: Which?\nbase: {base}\nbaseline: tiny\n{rows}\nseeds: {{baseline: 3, rows: 1}}\n"
    (tmp_path / "sweeps" / "mine.yaml").write_text(text)
    for verb in ("status", "plan"):
        capsys.readouterr()
        assert cli.run([verb, "mine"]) == 0
        told = capsys.readouterr().out
        assert "evaluation by_position: of 3 runs that are done, 2 have it, 1 lack it" in told
        assert "evaluation by_position at step 5: of 3 runs that are done, 1 have it, 2 are past it without" in told


def test_plan_and_status_say_which_runs_have_it(runs, tmp_path, capsys):
    words = ["evaluate", str(runs[0].path), *FOUR_BINS]
    assert cli.run(words) == 0
    overrides = [text for text in runs[0].read().overrides if not text.startswith(("row=", "sweep=", "seed", "paths."))]
    (tmp_path / "sweeps").mkdir()
    base = [*overrides, "evaluation=[heldout,by_position]", "evaluation.by_position.bins=4"]
    lines = [
        "question: Which?",
        f"base: {json.dumps(base)}",
        "baseline: tiny",
        "rows:",
        "  tiny: []",
        "  RMS Norm: [norm=rmsnorm]",
    ]
    (tmp_path / "sweeps" / "mine.yaml").write_text("\n".join([*lines, "seeds: {baseline: 2, rows: 2}"]))
    told = "evaluation by_position: of 2 runs that are done, 1 have it, 1 lack it"
    for verb in ("status", "plan"):
        capsys.readouterr()
        assert cli.run([verb, "mine"]) == 0
        assert told in capsys.readouterr().out
    shutil.rmtree(runs[1].checkpoints)
    assert cli.run(["status", "mine"]) == 0
    assert "1 have it, 1 lack it and their weights" in capsys.readouterr().out
