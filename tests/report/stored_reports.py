"""Reports of made-up sweeps, stored whole; where words or numbers change on purpose, renew them from the root by

    python -m tests.report.stored_reports

and read the differences before they are committed.
"""

import shutil
import tempfile
from pathlib import Path
from unittest import mock

from ablate.report import build
from ablate.report.render.plots import drawing
from tests.report.described import described
from tests.report.synthetic import false_alarm_sweep, lone_runs, mixed_sweep, troubled_sweep

FOLDER = Path(__file__).parent / "stored"
FILES = ("report.md", "evidence.csv", "results.csv", "runs.csv", "table.tex", "plots.txt")
OF_SCORES = ("downstream.csv", "downstream.tex")  # of runs that have some
SWEEPS = {"false-alarm": false_alarm_sweep, "troubled": troubled_sweep, "mixed": mixed_sweep, "lone-runs": lone_runs}


def made(name, root):
    """Make the sweep `name` and its report below `root`, plots described in plots.txt; returns the report's folder."""
    maker, figures = SWEEPS[name](root), []
    with mock.patch.object(drawing, "save", lambda figure, path: figures.append(f"{path.name}: {described(figure)}")):
        folder = build.build(maker.name, maker.runs, maker.reports, maker.sweeps).path.parent
    (folder / "plots.txt").write_text("\n".join(figures))
    return folder


def renew():
    """Write every stored file again."""
    for name in SWEEPS:
        (FOLDER / name).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as root:
            report = made(name, root)
            for file in (*FILES, *(file for file in OF_SCORES if (report / file).exists())):
                shutil.copyfile(report / file, FOLDER / name / file)


if __name__ == "__main__":
    renew()
