"""Where the files are that come with the package and are not code: options, sweeps.

In a checkout `conf` and `sweeps` are top-level folders beside the package `ablate`; a wheel has them inside it.
"""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parent


def conf() -> Path:
    """The folder of the groups and their options, which Hydra composes."""
    return _folder("conf")


def sweeps() -> Path:
    """The folder of the sweep files that come with the package."""
    return _folder("sweeps")


def _folder(name: str) -> Path:
    inside = PACKAGE / name
    return inside if inside.is_dir() else PACKAGE.parent / name
