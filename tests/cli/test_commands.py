"""The command as a person uses it: help, lists, one line for each mistake, no heavy imports."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys

import pytest

from ablate import cli
from ablate.config import options

SWEEP = """
question: Does it run?
base: [shape=nano]
baseline: Base
rows:
  Base: []
  RMS Norm: [norm=rmsnorm]
  GeLU, (x): [activation=gelu]
reference: narang2021
seeds: {baseline: 3, rows: 3}
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A current directory with one sweep file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "tiny.yaml").write_text(SWEEP)
    return tmp_path


def test_help_names_every_verb(capsys):
    assert cli.run(["--help"]) == cli.run([]) == 0
    told = capsys.readouterr().out
    assert all(f"  {verb} " in told for verb in cli.VERBS)


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_explains_itself(verb, capsys):
    assert cli.run([verb, "--help"]) == 0
    told = capsys.readouterr().out
    assert f"usage: ablate {verb}" in told and f"\n  ablate {verb}" in told
    assert len(told.splitlines()) < 25 and max(map(len, told.splitlines())) <= 120


def test_options_lists_everything_with_a_line_each(capsys):
    assert cli.run(["options"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for group, files in options.groups().items():
        assert group in lines
        for option in files:
            told = [line[4:].split(maxsplit=1) for line in lines if line[4:].split()[:1] == [option]]
            assert told and all(len(words) == 2 for words in told), f"{group}={option} has no description"


def test_options_of_one_group_and_one_option(capsys):
    assert cli.run(["options", "norm"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("norm\n") and "  * layernorm " in told and "activation" not in told.splitlines()
    assert cli.run(["options", "norm=rmsnorm"]) == 0
    assert "_target_: ablate.model.norm.RMSNorm" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["trian"], ["trian: unknown verb; did you mean 'train'?"]),
        (["train", "norm=rmsnom"], ["norm=rmsnom: unknown option; did you mean 'rmsnorm'?"]),
        (["train", "norm=rmsnom", "dropout=2"], ["norm=rmsnom", "dropout=2.0: must be at least 0 and below 1"]),
        (["train", "norm=batchnorm"], ["norm=batchnorm takes its statistics over all tokens of the batch"]),
        (["train", "block.placement=mid"], ["block.placement=mid: must be one of pre, post, sandwich"]),
        (["train", "-m", "norm=rmsnorm,batchnorm"], ["norm=batchnorm takes its statistics"]),
        (["train", "rmsnorm"], ["rmsnorm: ablate train takes overrides"]),
        (["train", "--multrun"], ["--multrun: unknown flag; did you mean '--multirun'?"]),
        (["train", "lr=1"], ["lr=1: there is no key 'lr'; the peak learning rate: set schedule.peak=1e-3"]),
        (["train", "-m", "lr=1,2"], ["lr=1: there is no key 'lr'; the peak learning rate: set schedule.peak=1e-3"]),
        (["train", "lr"], ["lr: ablate train takes overrides", "; the peak learning rate: set schedule.peak=1e-3"]),
        (["train", "--lr=1"], ["--lr=1: unknown flag; the peak learning rate: set schedule.peak=1e-3"]),
        (["cost", "--batch-size", "8"], ["--batch-size: unknown flag", "set trainer.global_batch_tokens="]),
        (["cost", "bs=8"], ["bs=8: there is no key 'bs'", "set trainer.global_batch_tokens="]),
        (["sweep", "tiny", "epochs=3"], ["epochs=3: no setting and no group; training is counted in steps: set train"]),
        (["plan", "tiny", "wd=1"], ["wd=1: no setting and no group; weight decay is AdamW's: set optimizer=adamw opt"]),
        (["plan", "tiny", "router=top"], ["no setting and no group; if a package of yours", "name the package in ABL"]),
        (["plan", "tiny", "optimizer.lr=1"], ["tiny: Base: optimizer.lr=1: there is no key", "set schedule.peak="]),
        (["compare", "gpus=2"], ["gpus=2: there is no key 'gpus'; GPUs: set trainer=gpu trainer.devices=2"]),
        (["compare", "norm=none", "base=lr=1"], ["Baseline: lr=1: there is no key 'lr'", "set schedule.peak="]),
        (["train", "sweep=tny", "row=Base"], ["no sweep 'tny' in sweeps; did you mean 'tiny'?"]),
        (["train", "sweep=tiny"], ["sweep=tiny needs row=LABEL (one of: Base, RMS Norm, GeLU, (x))"]),
        (["train", "sweep=tiny", "row=RMSNorm"], ["no row 'RMSNorm' in tiny; did you mean 'RMS Norm'?"]),
        (["train", "sweep=../tiny", "row=Base"], ["sweep='../tiny'", "a sweep's name has"]),
        (["train", "sweep=tiny", "row=Base", "seed=x"], ["seed=x: must be a whole number"]),
        (["train", "-m", "norm=layernorm,rmsnom"], ["norm=rmsnom: unknown option"]),
        (
            ["train", "-m", "seed=0,1", "sweep=tiny"],
            ["sweep=tiny: rows of a sweep file are run by `ablate sweep NAME`"],
        ),
        (["train", "--cfg", "jib"], ["--cfg jib: must be one of job, hydra, all; did you mean 'job'?"]),
        (["train", "--info"], ["must be one of all, config, defaults"]),
        (["train", "-m", "norm=("], ["cannot be read"]),
        (["train", "-m", "seed=0,1", "hydra.sweep.dir=../x"], ["only hydra/launcher, hydra/sweeper"]),
        (["train", "-m", "norm=glob(*)"], ["norm=glob(*): name the options, as in norm=one,another"]),
        (["train", "sweep=tiny", "row=Base", "seed=²"], ["seed=²: must be a whole number"]),
        (["sweep"], ["ablate sweep takes the name of one sweep, and was given none"]),
        (["sweep", "tny"], ["no sweep 'tny' in sweeps; did you mean 'tiny'? (there are: tiny, activations"]),
        (["sweep", "tiny", "jbs=2"], ["jbs=2: no setting and no group; did you mean 'jobs'?"]),
        (["sweep", "tiny", "jobs=two"], ["jobs=two: must be a whole number"]),
        (["sweep", "tiny", "timeout=soon"], ["timeout=soon: must be a number"]),
        (["sweep", "tiny", "only="], ["only= needs a value"]),
        (["sweep", "tiny", "-n"], ["-n: unknown flag"]),
        (["sweep", "tiny", "replace=yes"], ["replace=yes: must be true or false"]),
        (["sweep", "tiny", "jobs=1", "jobs=2"], ["jobs=2: jobs is given twice"]),
        (["sweep", "tiny", "--dry"], ["--dry: unknown flag; did you mean '--dry-run'?"]),
        (["sweep", "tiny", "seed=1"], ["seed=1: seeds are the sweep file's"]),
        (["plan", "tiny", "jobs=0"], ["jobs=0: must be at least 1"]),
        (["plan", "tiny", "budget=two"], ["budget=two: must be a time such as 45min, 2h or 1.5d"]),
        (["plan", "tiny", "jobs_per_device=0"], ["jobs_per_device=0: must be at least 1"]),
        (["sweep", "tiny", "jobs=2", "jobs_per_device=2"], ["jobs_per_device=2: jobs=2 says already how many"]),
        (["sweep", "tiny", "slurm.minutes=9", "jobs_per_device=2"], ["on Slurm each run has GPUs of its own"]),
        (["plan", "tiny", "norm=rmsnom"], ["norm=rmsnom: unknown option"]),
        (["status", "tny"], ["no sweep 'tny'"]),
        (["report", "tny"], ["'tny'"]),
        (["cost", "--format", "xml"], ["--format xml: must be one of text, csv, json"]),
        (["cost", "norm"], ["norm: ablate cost takes overrides, as in norm=rmsnorm; choose norm=OPTION"]),
        (
            ["cost", "--reference", "tiny", "topology=causal_decoder", "stack=funnel"],
            ["tiny: Base: stack=funnel is for models of"],
        ),
        (
            ["cost", "--reference", "tiny", "feedforward.d_ff=${of:2/7,shape.d_ff}"],
            ["tiny: Base: ", "tiny: RMS Norm: ", "tiny: GeLU, (x): ", "is 54.8571, and must be whole"],
        ),
        (["cost", "--format"], ["--format needs a value"]),
        (["cost", "--reference", "tny"], ["no sweep 'tny'"]),
        (["options", "norms"], ["norms: unknown group; did you mean 'norm'?"]),
        (["data", "prepair"], ["data prepair: must be one of prepare, check; did you mean 'prepare'?"]),
        (["data", "check", "data=local", "data.files=[nothing.txt]"], ["nothing.txt"]),
        (["diff", "a"], ["ablate diff takes two runs, and was given 1"]),
        (["diff", "x/c/²", "x"], ["x/c/²: no run there"]),
        (["data", "prepare", "paths.data=sweeps/tiny.yaml"], ["sweeps/tiny.yaml"]),
        (["diff", "tiny/Base/0", "x"], ["tiny/Base/0: no run there"]),
    ],
    ids=" ".join,
)
def test_a_mistake_gets_one_line_and_exit_code_2(words, told, here, capsys):
    assert cli.run(words) == 2
    shown = capsys.readouterr()
    lines = shown.err.splitlines()
    assert all(line.startswith("ablate: ") for line in lines)
    for part in told:
        assert any(part in line for line in lines), shown.err
    assert "Traceback" not in shown.err
    assert not (here / "runs").exists()


@pytest.mark.parametrize(
    "text, told", [("a: [1", "cannot be read (did not find expected"), ("[1, 2]", "config.yaml must be a mapping")]
)
def test_a_damaged_config_is_told_by_diff(text, told, tmp_path, capsys):
    (tmp_path / "config.yaml").write_text(text)
    assert cli.run(["diff", str(tmp_path), str(tmp_path)]) == 2
    assert told in capsys.readouterr().err


def test_multirun_refuses_several_devices_with_the_right_command(capsys):
    assert cli.run(["train", "-m", "norm=layernorm,rmsnorm", "trainer.devices=2"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("run each alone: ablate train norm=layernorm trainer.devices=2")


@pytest.mark.parametrize("flags", [["--cfg", "job"], ["--cfg=job"], ["-c", "job", "--resolve"], ["--info", "defaults"]])
def test_hydra_shows_the_config(flags):
    words = [sys.executable, "-m", "ablate", "train", "norm=rmsnorm", "seed=4", *flags]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "norm/rmsnorm" in done.stdout if "--info" in flags else "ablate.model.norm.RMSNorm" in done.stdout
    assert "--resolve" not in flags or "data: 4" in done.stdout


def test_hydra_shows_the_config_of_a_sweeps_row():
    words = ["train", "sweep=narang2021", "row=Switch Transformer", "shape=paper", "--cfg", "job", "--resolve"]
    done = subprocess.run([sys.executable, "-m", "ablate", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for line in (
        "row: Switch Transformer",
        "steps: 524288",
        "_target_: ablate.model.experts.Switch",
        "batch_tokens: 65536",
    ):
        assert line in done.stdout


def test_a_traceback_for_those_who_ask(here, monkeypatch):
    from ablate.errors import UserError

    below_a_file = ["init", "mine", "paths.sweeps=sweeps/tiny.yaml/below"]
    assert cli.run(["trian"]) == cli.run(below_a_file) == 2
    monkeypatch.setenv("ABLATE_TRACEBACK", "1")
    with pytest.raises(UserError):
        cli.run(["trian"])
    with pytest.raises(NotADirectoryError):
        cli.run(below_a_file)


def test_cost_of_one_configuration(capsys):
    assert cli.run(["cost", "shape=paper", "--format", "json"]) == 0
    counted = json.loads(capsys.readouterr().out)
    assert counted["parameters"] == 223_043_328 and 11.06e12 <= counted["ops_paper"] <= 11.07e12
    assert cli.run(["cost", "shape=paper"]) == 0
    assert "223,043,328" in capsys.readouterr().out


def test_the_version(capsys):
    import ablate

    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out == f"{ablate.__version__}\n"


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (KeyboardInterrupt(), 130, "ablate: interrupted\n"),
        (FileNotFoundError(2, "No such file or directory", "a/b"), 2, "ablate: a/b: No such file or directory\n"),
    ],
)
def test_how_a_verb_can_end(error, code, told, monkeypatch, capsys):
    def fail(words):
        raise error

    monkeypatch.setattr("ablate.cli.options.run", fail)
    assert cli.run(["options"]) == code
    assert capsys.readouterr().err == told


def test_an_error_without_a_file_is_no_mistake_of_the_user(monkeypatch):
    def fail(words):
        raise OSError("odd")

    monkeypatch.setattr("ablate.cli.options.run", fail)
    with pytest.raises(OSError, match="odd"):
        cli.run(["options"])


def test_cost_as_text_and_csv(here, capsys):
    given = ["feedforward.d_ff=64", "shape=nano"]
    assert cli.run(["cost", *given, "--format", "json"]) == 0
    counted = json.loads(capsys.readouterr().out)
    assert list(counted) == [
        *("parameters", "non_embedding", "active", "ops_paper", "flops_per_step", "tokens_per_step")
    ]
    assert cli.run(["cost", *given, "--format", "csv"]) == 0
    header, line = csv.reader(io.StringIO(capsys.readouterr().out))
    assert header == list(counted) and line == [str(number) for number in counted.values()]
    assert cli.run(["cost", *given]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [[key, f"{number:,}"] for key, number in counted.items()]
    assert [line.split()[2:] for line in lines] == [
        [f"{counted[key] / size:.4g}", letter]
        for key, size, letter in (
            ("parameters", 1e3, "k"),
            ("non_embedding", 1e3, "k"),
            ("active", 1e3, "k"),
            ("ops_paper", 1e6, "M"),
            ("flops_per_step", 1e9, "G"),
            ("tokens_per_step", 1e3, "k"),
        )
    ]


def test_cost_of_a_sweep_as_text(here, capsys):
    assert cli.run(["cost", "--reference", "tiny"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        *("row", "parameters", "parameters_published_m", "ops_paper", "ops_published_t", "flops_per_step")
    ]
    assert cli.run(["cost", "--reference", "tiny", "--format", "json"]) == 0
    told = capsys.readouterr()
    assert "published counts are those of shape=paper" in told.err
    rows = json.loads(told.out)
    assert [row["row"] for row in rows] == ["Base", "RMS Norm", "GeLU, (x)"]
    for line, row in zip(lines[1:], rows, strict=True):
        shown = [f"{value:,}" if isinstance(value, int) else f"{value:g}" for value in list(row.values())[1:] if value]
        assert line.startswith(row["row"]) and line[len(row["row"]) :].split() == shown
        assert len(line) == len(lines[0])
    assert not any(row["ops_published_t"] or row["parameters_published_m"] for row in rows)  # which are of shape=paper


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (999, ""),
        (1000, "  1 k"),
        (10**6, "  1 M"),
        (1_234_567_890, "  1.235 G"),
        (10**12, "  1 T"),
        (10**16, "  1e+04 T"),
    ],
)
def test_short_numbers(value, text):
    from ablate.cli.cost import _short

    assert _short(value) == text


def test_a_corpus_is_prepared_and_checked(here, capsys):
    from ablate.config import compose
    from ablate.data import build_corpus

    (here / "good.txt").write_text("".join(f"Number {number} of some lines of text.\n\n" for number in range(4000)))
    given = ["data=local", "data.files=[good.txt]", "paths.data=corpora", "shape.vocab_size=768"]
    assert cli.run(["data", "prepare", *given]) == 0
    told = capsys.readouterr().out
    description = build_corpus.prepare(compose(given)).describe()
    shown = [line.split(None, 1) for line in told.splitlines()[-len(description) :]]
    assert shown == [
        [key, f"{value:,}" if isinstance(value, int) else str(value)] for key, value in description.items()
    ]
    assert cli.run(["data", "check", *given]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "local: 0 faults, 0 oddities"
    (here / "bad.jsonl").write_text('{"text": "good"}\n{"text": 3}\n{"text": ""}\nnot JSON\n')
    assert cli.run(["data", "check", "data=local", "data.files=[bad.jsonl]"]) == 1
    *lines, last = capsys.readouterr().out.splitlines()
    assert len(lines) >= 2 and all("bad.jsonl" in line for line in lines)
    assert last.startswith("local: ") and last.split()[1] != "0"


@pytest.mark.parametrize(
    ("words", "settings", "others"),
    [
        (["a=b"], None, ["a=b"]),
        (["slurm=false", "a=b"], None, ["a=b"]),
        (["slurm=true"], {}, []),
        (["slurm.minutes=240", "a=b", "slurm.partition=gpu"], {"minutes": 240, "partition": "gpu"}, ["a=b"]),
        (["slurm=false", "slurm.minutes=7"], {"minutes": 7}, []),
        (["slurmy=1"], None, ["slurmy=1"]),
    ],
)
def test_settings_of_a_cluster(words, settings, others):
    from ablate.cli.sweep import slurm

    assert slurm(words) == (settings, others)


def test_settings_of_a_cluster_need_values():
    from ablate.cli.sweep import slurm
    from ablate.errors import UserError

    with pytest.raises(UserError, match="slurm=yes: must be true or false"):
        slurm(["slurm=yes"])
    with pytest.raises(UserError, match="slurm.partition= needs a value"):
        slurm(["slurm.partition="])


def test_settings_reach_the_driver(here, monkeypatch):
    from ablate.sweep import command

    given = []
    monkeypatch.setattr(command, "run", lambda *words, **settings: given.append((words, settings)) or 0)
    words = ["jobs=3", "only=Base", "retry=failed", "replace=true", "timeout=1.5", "patience=9", "timing=0"]
    assert cli.run(["sweep", "tiny", *words, "report=false", "norm=rmsnorm", "slurm.minutes=4", "--dry-run"]) == 0
    settings = {"jobs": 3, "only": "Base", "retry": "failed", "replace": True, "timeout": 1.5, "patience": 9.0}
    settings |= {"timing": 0.0, "report": False, "slurm": {"minutes": 4}, "dry_run": True}
    assert given == [(("tiny", ["norm=rmsnorm"]), settings)]
    given.clear()
    assert cli.run(["sweep", "tiny"]) == 0
    assert given == [(("tiny", []), {"dry_run": False})]


@pytest.mark.parametrize(
    ("status", "loss", "rank", "told"),
    [
        ("done", 1.23456, "0", "RMS Norm, seed 2: done, final loss 1.2346 nats a token\n"),
        ("failed", None, "0", ""),
        ("done", 1.5, "1", ""),
    ],
)
def test_how_a_run_ended_is_printed_once(status, loss, rank, told, monkeypatch, capsys):
    from ablate.cli.sweep_row import print_result
    from ablate.run.record import Loss, Record

    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "any")
    record = Record(schema=1, sweep="s", row="RMS Norm", seed=2, status=status, loss=Loss(final=loss))
    assert print_result(record) is record
    assert capsys.readouterr().out == told


def test_cost_of_a_sweep_beside_published_numbers(here, capsys):
    assert cli.run(["cost", "--reference", "tiny", "shape=paper", "--format", "csv"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("row,parameters,parameters_published_m,ops_paper,ops_published_t,flops_per_step\n")
    rows = {row["row"]: row for row in csv.DictReader(io.StringIO(told))}
    assert rows["RMS Norm"]["parameters"] == "222995712" and rows["RMS Norm"]["parameters_published_m"] == "223.0"
    assert rows["RMS Norm"]["ops_published_t"] == "11.1"
    assert rows["GeLU, (x)"]["parameters"] == "223043328"
    assert rows["Base"]["flops_per_step"] == rows["RMS Norm"]["flops_per_step"]


def test_plan_and_status(here, capsys):
    assert cli.run(["plan", "tiny", "jobs=1", "only=Base,RMS*"]) == 0
    assert "RMS Norm" in capsys.readouterr().out
    assert cli.run(["status", "tiny"]) == 0
    assert "9 runs: 9 missing" in capsys.readouterr().out
    assert cli.run(["sweep", "tiny", "--dry-run"]) == 0
    assert "9 runs" in capsys.readouterr().out


def test_a_row_of_a_sweep_becomes_its_overrides(here):
    from ablate.cli.sweep_row import expand_sweep_row

    given = expand_sweep_row(["sweep=tiny", "row=RMS Norm", "seed=2", "dropout=0.1"])
    assert set(given) == {"shape=nano", "dropout=0.1", "norm=rmsnorm", "sweep=tiny", "row='RMS Norm'", "seed.base=2"}
    assert expand_sweep_row(["norm=rmsnorm"]) == ["norm=rmsnorm"]


def test_runs_are_compared_by_what_can_change_them(here, capsys):
    import yaml

    from ablate.config import compose, resolved
    from ablate.run.folder import RunFolder, run_path
    from ablate.run.record import Data, Record

    for row, overrides in (("Base", []), ("RMS Norm", ["norm=rmsnorm", "trainer.log_every=7"])):
        folder = run_path("runs", "tiny", row, 0)
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(yaml.safe_dump(resolved(compose(overrides))))
        data = Data(sha256=row)
        RunFolder(folder).write(Record(schema=1, sweep="tiny", row=row, seed=0, status="running", data=data))
    assert cli.run(["diff", "tiny/Base/0", "tiny/RMS Norm/0"]) == 0
    told = capsys.readouterr().out
    assert "norm._target_" in told and "LayerNorm" in told and "log_every" not in told
    assert "Base  ->  RMS Norm" in told
    assert cli.run(["diff", "tiny/Base/0", "tiny/Base/0"]) == 0
    assert "no setting differs" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--help"], ["options"], ["plan", "tiny"], ["status", "tiny"], ["train", "--help"]])
def test_quick_verbs_import_nothing_heavy(words, here):
    program = (
        "import sys; from ablate.cli import run; code = run(sys.argv[1:]);"
        "heavy = {'torch', 'lightning', 'pandas', 'scipy', 'matplotlib', 'datasets', 'wandb'} & set(sys.modules);"
        "print(heavy, file=sys.stderr); sys.exit(code or bool(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_module_is_the_command():
    done = subprocess.run([sys.executable, "-m", "ablate", "options", "shape"], capture_output=True, text=True)
    assert done.returncode == 0 and "nano" in done.stdout
    done = subprocess.run([sys.executable, "-m", "ablate", "optoins"], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("ablate: optoins: unknown verb") and done.stdout == ""


def test_a_closed_pipe_is_no_mistake():
    done = subprocess.run(f"{sys.executable} -m ablate options | head -1", shell=True, capture_output=True, text=True)
    assert done.stdout == "shape\n" and done.stderr == ""
