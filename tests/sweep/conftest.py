"""A sweep in a temporary folder, driven with the stand-in for training."""

import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from ablate.sweep import command
from ablate.sweep.workers import Program

PROGRAM = Program(
    train="tests.sweep.fake:train",
    prepare="tests.sweep.fake:prepare",
    measure="tests.sweep.fake:measure",
    try_out="tests.sweep.fake:try_out",
    preload="tests.sweep.fake",
)
SWEEP = """
question: Which?
baseline: Base
rows:
  Base: []
  Rms: [norm=rmsnorm]
  Gelu: [activation=gelu]
seeds: {baseline: 2, rows: 1}
"""


@dataclass
class Place:
    """A folder with sweeps/try.yaml, and the calls that tests make of it."""

    folder: Path

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    @property
    def overrides(self) -> list[str]:
        return [f"paths.{name}={self.folder / name}" for name in ("runs", "sweeps", "reports", "data")]

    def write(self, text: str = SWEEP) -> None:
        (self.folder / "sweeps").mkdir(exist_ok=True)
        (self.folder / "sweeps" / "try.yaml").write_text(text)

    def behave(self, **rows) -> None:
        (self.folder / "behaviour.json").write_text(json.dumps(rows))

    def drive(self, *extra: str, **options) -> tuple[int, str]:
        """Drive the sweep in this process; returns the exit code and what was said."""
        out = io.StringIO()
        options = {"report": False, "timing": 0, **options}
        code = command.run("try", [*self.overrides, *extra], program=PROGRAM, out=out, **options)
        return code, out.getvalue()

    def start(self, **options) -> subprocess.Popen:
        """Drive the sweep in a process of its own."""
        options = {"report": False, "timing": 0, **options}
        script = (
            "import sys; from ablate.sweep import command; from tests.sweep.conftest import PROGRAM; "
            f"sys.exit(command.run('try', {self.overrides!r}, program=PROGRAM, **{options!r}))"
        )
        line = [sys.executable, "-c", script]
        return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def records(self) -> dict[tuple[str, int], dict]:
        found = [json.loads(path.read_text()) for path in self.runs.glob("try/*/seed-[0-9]/record.json")]
        return {(record["row"], record["seed"]): record for record in found}

    def states(self) -> dict[tuple[str, int], str]:
        return {key: record["status"] for key, record in self.records().items()}

    def trace(self, word: str) -> list[str]:
        """The runs that did `word` (start, done, measure), in order."""
        try:
            lines = (self.folder / "trace").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [line.partition(" ")[2] for line in lines if line.startswith(f"{word} ")]

    def processes(self) -> list[str]:
        """Processes that know of this folder, but for this one."""
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if str(self.folder) in path.read_text(errors="replace") and int(path.parent.name) != os.getpid():
                    found.append((path.parent / "cmdline").read_text())
            except OSError:
                continue
        return found


@pytest.fixture
def place(tmp_path, monkeypatch) -> Place:
    monkeypatch.setenv("FAKE_BEHAVIOUR", str(tmp_path / "behaviour.json"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    found = Place(tmp_path)
    found.write()
    return found
