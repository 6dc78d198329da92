"""Completion: what a word may become, and bash at the TAB key."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time

import pytest

from ablate import cli
from ablate.cli import complete, completion, hydra_app
from ablate.config import options as library

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(cli.__file__)))  # of what is tested, whatever is installed


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A current folder with a sweep."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "mine.yaml").write_text("")
    for name in ("made", "other"):
        (tmp_path / "runs" / name / "row" / "seed-0").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("", list(cli.VERBS)),
        ("--", ["--help", "--version"]),
        ("s", ["sweep", "status"]),
        ("comp", ["compare", "completion"]),
        ("compare nam", ["name="]),
        ("compare norm=rms", ["norm=rmsnorm", "norm=rmsnorm_encoder"]),
        ("nothing ", []),
        ("train nor", ["norm="]),
        ("train norm=rms", ["norm=rmsnorm", "norm=rmsnorm_encoder"]),
        ("train norm=rmsnorm nor", []),
        ("train nrm=", []),
        ("train -m norm=layernorm,rms", ["norm=layernorm,rmsnorm", "norm=layernorm,rmsnorm_encoder"]),
        ("train norm=layernorm,rms", []),
        ("train trainer.ste", ["trainer.steps="]),
        ("train --c", ["--cfg"]),
        ("train --cfg ", list(hydra_app.PARTS)),
        ("train --info default", ["defaults", "defaults-tree"]),
        ("train sweep=mi", ["sweep=mine"]),
        ("sweep mi", ["mine"]),
        ("plan ax", ["axes", "axes-c4", "axes_all"]),
        ("status mi", ["mine"]),
        ("report mi", ["mine"]),
        ("report mine ", []),
        ("sweep mine paths.sweeps=x mi", []),
        ("sweep mine jo", ["jobs=", "jobs_per_device="]),
        ("sweep mine replace=", ["replace=true", "replace=false"]),
        ("sweep mine sto", ["stored="]),
        ("compare norm=rmsnorm sto", ["stored="]),
        ("sweep mine stored=", ["stored=true", "stored=false"]),
        ("sweep mine --", ["--dry-run", "--help"]),
        ("plan mine shape=mi", ["shape=micro", "shape=mistral_7b"]),
        ("plan mine --", ["--count", "--measure", "--help"]),
        ("cost --format ", ["text", "csv", "json"]),
        ("cost --format=j", ["--format=json"]),
        ("cost --reference mi", ["mine"]),
        ("cost sha", ["shape=", "sharing="]),
        ("evaluate ", ["made", "other"]),
        ("evaluate m", ["made"]),
        ("evaluate made o", ["other"]),
        ("evaluate made m", []),
        ("evaluate mi", []),  # it has no runs
        ("evaluate made ev", ["evaluation="]),
        ("evaluate made evaluation=[by_position] ev", []),
        ("evaluate made evaluation=by", ["evaluation=by_position"]),
        ("evaluate made evaluation=held", []),
        ("evaluate made evaluation=[by", ["evaluation=[by_position"]),
        ("evaluate made evaluation=[by_position,ini", ["evaluation=[by_position,initial_gradients"]),
        (
            "evaluate made evaluation.by_position.",
            [
                "evaluation.by_position.at=",
                "evaluation.by_position.bins=",
                "evaluation.by_position.tokens=",
                "evaluation.by_position.seed=",
            ],
        ),
        ("evaluate made paths", ["paths.runs="]),
        ("train evaluation=[heldout,by", ["evaluation=[heldout,by_position"]),
        ("data p", ["prepare"]),
        ("data prepare data=h", ["data=hub"]),
        ("options posit", ["position"]),
        ("options position=sinu", ["position=sinusoidal"]),
        ("completion ", ["bash", "zsh", "fish"]),
        ("completion bash ", []),
        ("init ", []),
        ("diff ", []),
    ],
)
def test_what_a_word_may_become(line, found, here):
    words = line.split(" ")
    assert complete.candidates(words) == found


def test_every_group_and_option(here):
    groups = library.groups()
    assert {f"{group}=" for group in groups} <= set(complete.candidates(["train", ""]))
    for group, options in groups.items():
        assert complete.candidates(["train", f"{group}="]) == [f"{group}={option}" for option in options]


@pytest.mark.parametrize("verb", cli.VERBS)
def test_flags_that_a_verb_knows(verb, here, capsys):
    """They are read from the help; none of them is refused as unknown."""
    for flag in complete.candidates([verb, "-"]):
        if flag != "--help":
            cli.run([verb, flag, "none"])
            assert "unknown flag" not in capsys.readouterr().err, flag


def test_no_mistake_is_told_at_the_tab_key(here, capsys, monkeypatch):
    monkeypatch.setenv(library.PLUGINS, "no_such_package")
    assert cli.run(["complete", "--", "train", "norm="]) == 0
    assert capsys.readouterr() == ("", "")
    assert cli.run(["complete", "--", "train", "--help"]) == 0
    assert capsys.readouterr() == ("--help\n", "")
    assert cli.run(["complete"]) == 0 and "complete " not in cli.HELP


def test_it_is_quick_and_loads_no_torch(here):
    program = (
        "import sys; from ablate.cli import run; run(sys.argv[1:]);"
        "print({'torch', 'hydra', 'numpy', 'pandas', 'lightning'} & set(sys.modules))"
    )
    for words in (["train", "norm=rms"], ["train", "--"], ["sweep", "m"], ["train", "trainer.st"]):
        command = [sys.executable, "-c", program, "complete", "--", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONPATH": ROOT})
        *found, heavy = done.stdout.splitlines()
        assert found == complete.candidates(words) != [] and heavy == "set()", words


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_a_script_for_each_shell(shell, capsys):
    assert cli.run(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "complete --" in script and f"ablate completion {shell}" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["bsh"], "completion bsh: must be one of bash, zsh, fish; did you mean 'bash'?"),
        ([], "ablate completion takes the name of one shell (bash, zsh or fish), and was given none"),
    ],
)
def test_a_wrong_shell(words, told, capsys):
    assert cli.run(["completion", *words]) == 2
    assert told in capsys.readouterr().err


@pytest.fixture
def bash(here):
    """`bash(keys)`: what an interactive bash runs after these keys, its words between brackets."""
    if not shutil.which("bash"):
        pytest.skip("there is no bash")
    programs = here / "bin"
    programs.mkdir()
    program = programs / "ablate"
    program.write_text(
        '#!/bin/sh\nif [ "$1" = complete ] || [ "$1" = completion ]; then\n'
        f'PYTHONPATH="{ROOT}" exec "{sys.executable}" -m ablate "$@"\nfi\n'
        "printf 'ran'\nprintf '[%s]' \"$@\"\necho .\n"
    )
    program.chmod(0o755)
    (here / "rc").write_text("source <(ablate completion bash)\nPS1='ready> '\nbind 'set enable-bracketed-paste off'\n")
    pid, terminal = pty.fork()
    if pid == 0:
        env = {"PATH": f"{programs}:{os.environ['PATH']}", "TERM": "dumb", "HOME": str(here)}
        os.execvpe("bash", ["bash", "--noprofile", "--rcfile", str(here / "rc"), "-i"], env)
    text = ""

    def until(pattern):
        nonlocal text
        deadline = time.monotonic() + 30
        while not (match := re.search(pattern, text)):
            ready, _, _ = select.select([terminal], [], [], max(0, deadline - time.monotonic()))
            assert ready, text
            text += os.read(terminal, 4096).decode(errors="replace")
        text = text[match.end() :]
        return match

    def typed(keys):
        os.write(terminal, keys.encode() + b"\n")
        return re.findall(r"\[(.*?)\]", until(r"ran((\[.*?\])*)\.\r?\n").group(1))

    until("ready> ")
    yield typed
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(terminal)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("ablate trai\tnor\tbatchnorm_\t", ["train", "norm=batchnorm_encoder"]),
        ("ablate train norm=scale\tposition=sinu\tx", ["train", "norm=scalenorm", "position=sinusoidal", "x"]),
        ("ablate plan mi\t--c\tonl\t2", ["plan", "mine", "--count", "only=2"]),
        ("ablate train -m norm=layernorm,scale\t", ["train", "-m", "norm=layernorm,scalenorm"]),
        ("ablate cost --format=js\t", ["cost", "--format=json"]),
    ],
)
def test_bash_completes_at_the_tab_key(bash, keys, words):
    assert bash(keys) == words
