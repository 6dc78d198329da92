"""A sweep that grows, shrinks to a part, or changes its mind."""

import io
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from ablate.config import compose_resolved, evaluations
from ablate.errors import UserError
from ablate.naming import slug
from ablate.run.folder import RunFolder
from ablate.run.record import DONE, SCHEMA, Data, Record
from ablate.run.score import Curve, Score
from ablate.run.status import RunStatus
from ablate.study.runs import PlannedRun
from ablate.sweep import command, corpora, preflight, request
from ablate.sweep.session import Options
from tests.run.sealed import sealed
from tests.sweep.conftest import PROGRAM, SWEEP

pytestmark = pytest.mark.timeout(60)


def test_rows_and_seeds_can_be_added(place):
    place.drive()
    place.write(SWEEP.replace("rows: 1", "rows: 2").replace("Gelu:", "Swish: [activation=swish]\n  Gelu:"))
    assert place.drive()[0] == 0
    assert sorted(place.trace("start")[4:]) == ["Gelu 1", "Rms 1", "Swish 0", "Swish 1"]


def test_only_runs_what_it_names(place):
    assert place.drive(only="[GR]*")[0] == 0
    assert sorted(place.trace("start")) == ["Gelu 0", "Rms 0"]
    with pytest.raises(UserError, match="no row 'Gelo' in try; did you mean 'Gelu'"):
        place.drive(only="Gelo")


def test_a_row_whose_overrides_changed_is_refused_by_its_keys(place):
    place.drive()
    place.write(SWEEP.replace("activation=gelu", "activation=gelu, dropout=0.1"))
    with pytest.raises(UserError) as caught:
        place.drive()
    assert str(caught.value) == (
        "try: 'Gelu' already contains a run with a different configuration: dropout was 0.0, is 0.1; "
        "replace=true moves such runs aside"
    )
    assert len(place.trace("start")) == 4


def test_replace_moves_such_a_row_aside_and_only_such(place):
    place.drive()
    place.write(SWEEP.replace("activation=gelu", "activation=gelu, dropout=0.1"))
    code, said = place.drive(replace=True)
    assert code == 0 and "Gelu · seed 0: dropout was 0.0, is 0.1; moved to seed-0.replaced-1" in said
    assert place.trace("start")[4:] == ["Gelu 0"]
    (old,) = place.runs.glob("try/*/seed-0.replaced-1/record.json")
    assert json.loads(old.read_text())["row"] == "Gelu"
    place.write()
    place.drive(replace=True)
    assert len(list(place.runs.glob("try/*/seed-0.replaced-2"))) == 1


def test_an_override_of_the_command_line_counts_as_a_change(place):
    place.drive()
    with pytest.raises(UserError) as caught:
        place.drive("trainer.steps=7")
    assert len(str(caught.value).splitlines()) == 3  # a line for each row, not for each run
    assert "trainer.steps was 200, is 7" in str(caught.value)
    assert place.drive("trainer.log_every=7")[0] == 0  # what cannot change a result may change


def test_another_text_is_refused(place, monkeypatch):
    place.drive()
    for path in place.runs.glob("try/*/seed-0/record.json"):
        record = json.loads(path.read_text())
        from ablate.config import compose, identity
        from ablate.study.settled import settled

        record["data"]["sha256"] = "b" * 64
        record["identity"] = identity(settled(compose(record["overrides"])), "b" * 64)
        path.write_text(sealed(record))
    place.write(SWEEP.replace("rows: 1", "rows: 2"))
    message = "Base · seed 0 already contains a run .* trained on different data .data.sha256 was b{12}, is a{12}"
    with pytest.raises(UserError, match=message):
        place.drive()
    assert place.drive(replace=True)[0] == 0
    assert len(list(place.runs.glob("try/*/seed-0.replaced-1"))) == 3


def test_every_row_that_cannot_run_is_named_before_any_begins(place):
    place.write(SWEEP.replace("rmsnorm", "rmsnrm").replace("gelu", "gellu"))
    with pytest.raises(UserError) as caught:
        place.drive()
    first, second = str(caught.value).splitlines()
    assert first.startswith("try: Rms: norm=rmsnrm: unknown option; did you mean 'rmsnorm'")
    assert second.startswith("try: Gelu: activation=gellu")
    assert not place.trace("start")


def test_a_run_of_two_nodes_is_refused(place):
    with pytest.raises(UserError, match="trainer.nodes: a sweep starts runs of one node each"):
        place.drive("trainer.nodes=2")
    assert not place.trace("start")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"jobs": 0}, "jobs=0: must be at least 1"),
        ({"retry": "all"}, "retry=failed"),
        ({"timeout": 0.0}, "timeout=0: must be above 0"),
        ({"patience": 0.0}, "patience=0: must be above 0"),
        ({"timing": -1.0}, "timing=-1: must be at least 0"),
    ],
)
def test_options_that_make_no_sense(place, options, expected):
    with pytest.raises(UserError, match=expected):
        place.drive(**options)


def test_nothing_is_moved_before_it_is_known_that_all_can_run(place):
    place.drive()
    place.write(SWEEP.replace("activation=gelu", "activation=gelu, dropout=0.1"))
    place.behave(preparing=["data.files: no such file"])
    with pytest.raises(UserError, match="no such file"):
        place.drive(replace=True)
    assert not list(place.runs.glob("try/*/*.replaced-*")) and set(place.states().values()) == {"done"}


def test_a_run_under_way_is_not_moved(place):
    place.drive()
    place.write(
        SWEEP.replace("activation=gelu", "activation=gelu, dropout=0.1").replace("rmsnorm", "rmsnorm, dropout=0.1")
    )
    (folder,) = place.runs.glob("try/gelu-*/seed-0")
    with (
        RunFolder(folder).lock(),
        pytest.raises(UserError, match="Gelu · seed 0: is under way with a different configuration"),
    ):
        place.drive(replace=True)
    assert not list(place.runs.glob("try/*/*.replaced-*"))


@pytest.mark.parametrize("name", ["prepare.log", "timing.lock", "timing.json", "gelu", "rms/seed-0"])
def test_a_link_in_the_folder_of_the_sweep_is_refused_and_nothing_begun(place, name):
    """Of a folder that came out of an archive: each of these names is one that the sweep writes to."""
    place.drive(only="Base")
    outside = place.folder / "precious"
    outside.write_text("precious")
    link = place.runs / "try" / name.replace("rms", slug("Rms"))
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(outside)
    with pytest.raises(UserError, match=f"{link.name} is a symbolic link"):
        place.drive()
    assert outside.read_text() == "precious" and len(place.trace("start")) == 2


def test_folders_are_read_as_the_runs_read_them(place, monkeypatch):
    monkeypatch.setenv("SCRATCH", str(place.folder / "scratch"))
    others = [text for text in place.overrides if not text.startswith("paths.runs")]

    def drive(runs):
        return command.run("try", [*others, runs], program=PROGRAM, out=io.StringIO(), report=False, timing=0)

    assert drive("paths.runs=${oc.env:SCRATCH}/runs") == 0
    assert len(list(place.folder.glob("scratch/runs/try/*/seed-*/record.json"))) == 4 and not place.runs.exists()
    with pytest.raises(UserError, match="paths: .*NOWHERE"):
        drive("paths.runs=${oc.env:NOWHERE}/runs")
    for text in (
        SWEEP.replace("baseline: Base", "base: [paths.runs=here]\nbaseline: Base"),
        SWEEP.replace("norm=rmsnorm", "paths.runs=here"),
    ):
        place.write(text)
        with pytest.raises(UserError, match="paths.runs says where a machine keeps things"):
            place.drive()


def test_finished_runs_take_the_scores_that_they_lack_where_their_weights_were_kept(place):
    place.drive()
    for run in ("base", "rms"):
        (weights,) = (RunFolder(path).weights for path in place.runs.glob(f"try/{run}*/seed-0"))
        weights.parent.mkdir(exist_ok=True)
        weights.touch()
    assert place.drive()[0] == 0 and place.trace("again") == []
    assert place.drive("evaluation=[heldout,by_position]")[0] == 0
    assert sorted(place.trace("again")) == ["Base 0", "Rms 0"]


def test_a_point_of_training_without_a_score_is_settled_when_its_record_names_it(tmp_path):
    chosen = ["evaluation=[heldout,by_position]", "evaluation.by_position.at=[0.5,1]"]
    config = compose_resolved([*chosen, "shape.steps=40", "row=one"])
    item = preflight.RunRequest(PlannedRun("s", "one", 0, ()), config, tmp_path, "")
    source = {"evaluation": "by_position", "hash": evaluations.hashes(config, "d")["by_position"]}
    score = Score(1.0, "x", True, source=source)
    record = Record(schema=SCHEMA, sweep="s", row="one", seed=0, status=DONE, data=Data(sha256="d"))
    taken = replace(score, history=Curve("step", (20, 40), (0.5, 1.0)))
    for content, is_settled in (
        ({"scores": {"a": score}}, False),
        ({"scores": {"a": taken}}, True),
        ({"scores": {"a": score}, "scores_missed": {"by_position at step 20": "past"}}, True),
        ({"scores": {"a": score}, "scores_missed": {"by_position at step 2": "past"}}, False),
        ({}, True),  # of a run without weights
    ):
        status = RunStatus(tmp_path, DONE, replace(record, **content))
        assert item.is_settled(status) is is_settled, content
        assert item.is_settled(replace(status, is_stored=True))


def test_several_runs_on_each_gpu(place, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    jobs = lambda *more, **options: request.parts("try", [*place.overrides, *more], options)[0][0].jobs  # noqa: E731
    assert jobs("trainer.accelerator=gpu") == 2
    assert jobs("trainer.accelerator=gpu", jobs_per_device=3) == 6
    assert jobs("trainer.accelerator=cpu", jobs_per_device=3) == jobs("trainer.accelerator=cpu")
    with pytest.raises(UserError, match="jobs=2 says already"):
        jobs(jobs=2, jobs_per_device=3)


def test_what_the_gpu_of_several_runs_has_is_told_to_who_builds_the_rows(place, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setattr(corpora, "gpu_memory", lambda: 24)
    items = request.parts("try", [*place.overrides, "trainer.accelerator=gpu"], {})[0][0].items
    sharing = lambda jobs: corpora._sharing(  # noqa: E731
        SimpleNamespace(options=Options(), starters=SimpleNamespace(jobs=jobs)), items
    )
    assert sharing(2) is None and sharing(4) == {"runs": 2, "bytes": 24}
    monkeypatch.setattr(corpora, "gpu_memory", lambda: None)
    assert sharing(4) is None
