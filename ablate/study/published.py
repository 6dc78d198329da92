"""The published tables that come with the package, which a sweep may name as its reference."""

from __future__ import annotations

from pathlib import Path

import ablate
from ablate.errors import UserError, nearest

FOLDER = Path(ablate.__file__).parent / "reference"


def names() -> list[str]:
    """The tables that there are."""
    return sorted(table.stem for table in FOLDER.glob("*.csv"))


def path_of(name: object) -> Path:
    """The file of the table `name`; raises `UserError` where there is none."""
    there = names()
    if name not in there:
        raise UserError(f"no reference {name!r}{nearest(str(name), there)} (there are: {', '.join(there)})")
    return FOLDER / f"{name}.csv"
