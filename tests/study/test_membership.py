"""Which runs on disk count for a sweep, by its file as it is now."""

from dataclasses import replace

import pytest
import yaml

from ablate.config import compose, identity, resolved
from ablate.config.identity import SCHEMA
from ablate.errors import UserError
from ablate.run.folder import RunFolder, run_path
from ablate.run.record import Data, Loss, Record
from ablate.run.status import look
from ablate.study import definition, runs
from ablate.study.membership import DIFFERENT, Membership, extra_of
from ablate.study.settled import settled

DATA = "d" * 64
SWEEP = """question: Which?
base: [trainer.steps=20]
baseline: A
rows:
  A: []
  B: [norm=rmsnorm]
seeds: {baseline: 3, rows: 3}
early_fraction: 0.25
"""


@pytest.fixture
def sweep(tmp_path):
    return lambda text=SWEEP: _load(tmp_path / "sweeps", text)


def _load(folder, text):
    folder.mkdir(exist_ok=True)
    (folder / "mine.yaml").write_text(text)
    return definition.load("mine", folder)


@pytest.fixture
def made(tmp_path):
    """`made(sweep, row, seed, *extra)`: the status of such a run, as `ablate sweep` would have made it."""

    def make(sweep, row, seed, *extra, **changes):
        given = runs.overrides(sweep, row, seed, extra)
        cfg = settled(compose(given))
        words = ["ablate", "train", "sweep=mine", f"row={row}", f"seed={seed}", *extra]
        record = Record(
            schema=1, sweep="mine", row=row, seed=seed, overrides=tuple(given), command=" ".join(words), status="done",
            identity=identity(cfg, DATA), identity_schema=SCHEMA, data=Data(sha256=DATA), loss=Loss(final=5.0),
        )  # fmt: skip
        folder = RunFolder(run_path(tmp_path / "runs", "mine", row, seed))
        folder.write(replace(record, **changes))
        folder.config.write_text(yaml.safe_dump(resolved(cfg)))
        return look(folder.path)

    return make


def verdicts(membership, status):
    """What status and report say: they have to agree."""
    judged = membership.judged(status)
    reason = membership.reason(status.record, RunFolder(status.folder))
    assert (judged.state == DIFFERENT) == bool(reason) and (not reason or reason.endswith(judged.reason))
    return reason


@pytest.mark.parametrize("seed", [0, 2])
@pytest.mark.parametrize("extra", [[], ["dropout=0.1"], ["trainer.steps=30", "dropout=0.1"], ["logger=wandb"]])
def test_a_run_as_it_was_asked_for_counts(sweep, made, seed, extra):
    status = made(sweep(), "B", seed, *extra)
    assert extra_of(status.record) == extra
    assert verdicts(Membership(sweep()), status) == ""
    changed = Membership(sweep(SWEEP.replace("rmsnorm", "scalenorm")))
    assert "norm._target_ was ablate.model.norm.RMSNorm" in verdicts(changed, status)


@pytest.mark.parametrize(
    "command",
    [
        "",
        "ablate train 'unclosed",
        "ablate train sweep=mine row=B seed=0 norm={_target_: os.system}",
        "ablate train sweep=mine row=B seed=0 ''=1 =3",
        "ablate train sweep=mine row=B seed=0 nothing=3",
        "ablate train sweep=mine row=B seed=0 norm=" + "[" * 2000,
    ],
)
def test_a_command_that_cannot_have_been_given_changes_no_verdict(sweep, made, command):
    status = made(sweep(), "B", 0, command=command)
    assert verdicts(Membership(sweep()), status) == ""
    assert verdicts(Membership(sweep(SWEEP.replace("rmsnorm", "scalenorm"))), status)


def test_a_plan_is_judged_by_what_it_is_given(sweep, made):
    status = made(sweep(), "B", 1, "dropout=0.1")
    assert Membership(sweep(), ["dropout=0.1"]).judged(status) == status
    for given, was in ((), "dropout was 0.1, is 0.0"), (("dropout=0.2",), "dropout was 0.1, is 0.2"):
        judged = Membership(sweep(), given).judged(status)
        assert (judged.state, judged.reason, judged.finished) == (DIFFERENT, was, False)


def test_what_is_given_and_cannot_be_composed_is_said_not_left_out(sweep, made):
    """By the same words a run's own command, which a stranger may have written, changes nothing (above)."""
    status = made(sweep(), "B", 0)
    with pytest.raises(UserError, match="there is no key 'nothing'"):
        Membership(sweep(), ["nothing=3"]).changes(RunFolder(status.folder), status.record)


def test_only_finished_runs_are_judged(sweep, made):
    status = made(sweep(), "B", 0, "dropout=0.1", status="preempted")
    assert Membership(sweep(), ()).judged(status) == status


def test_a_row_that_is_gone_has_no_runs(sweep, made):
    status = made(sweep(), "B", 0)
    gone = Membership(sweep(SWEEP.replace("B: [norm", "C: [norm")))
    assert gone.reason(status.record, RunFolder(status.folder)) == "the sweep has no row 'B'"
    assert gone.reason(status.record) == "the sweep has no row 'B'"


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ("", "", ""),
        ("[norm=rmsnorm]", "[norm=rmsnorm, dropout=0.1]", "made without dropout=0.1, which the sweep now sets"),
        ("[trainer.steps=20]", "[]", "made with trainer.steps=20, which the sweep does not set for this row"),
        ("steps=20", "steps=30", "made without trainer.steps=30, which"),
        ("early_fraction: 0.25\n", "", ""),  # set by the sweep's own key
        ("[norm=rmsnorm]", "[norm=rmsnorm, keep_checkpoints=all]", ""),  # of no effect
        ("[norm=rmsnorm]", "[norm=rmsnorm, 'evaluation=[heldout,by_position]']", ""),  # can be taken later
    ],
)
def test_a_record_alone_is_judged_by_its_overrides(sweep, made, before, after, reason):
    record = made(sweep(), "B", 0, "schedule.peak=0.02").record
    found = Membership(sweep(SWEEP.replace(before, after))).reason(record)
    assert found.startswith(reason) and bool(found) == bool(reason)
    assert Membership(sweep(SWEEP.replace(before, after))).reason(replace(record, overrides=())) == ""
