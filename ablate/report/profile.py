"""The report of a profile: report.md and a picture, a pure function of the profile.json in its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ablate.report.analysis import step_profile
from ablate.run.files import atomic_write


def write(content: dict[str, Any], folder: Path) -> Path:
    """Store a profile in a folder, and write its report; returns the path of report.md."""
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(folder / step_profile.FILE, json.dumps(content, indent=1) + "\n")
    return rebuild(folder)


def rebuild(folder: Path) -> Path:
    """Write the report again from profile.json alone, byte for byte; returns the path of report.md."""
    from ablate.report.render import step_profile as rendered
    from ablate.report.render.plots import drawing
    from ablate.report.render.plots.step_profile import shares

    profile = step_profile.read(folder)
    with drawing.style([variant.label for variant in profile.variants]):
        plot = shares(profile)
        assert plot.figure is not None
        drawing.save(plot.figure, folder / plot.file)
    atomic_write(folder / "report.md", rendered.markdown(profile, plot.file))
    return folder / "report.md"
