"""`ablate init [NAME]`: a sweep file to begin with."""

from __future__ import annotations

from pathlib import Path

from ablate.cli import arguments
from ablate.errors import UserError
from ablate.naming import check_sweep_name
from ablate.terminal import say

HELP = """Write sweeps/NAME.yaml in the current folder: a small sweep that runs as it is, each key explained.

usage: ablate init [NAME]

  ablate init                  sweeps/my_sweep.yaml
  ablate init gates            sweeps/gates.yaml; a file that is there is never replaced
"""
NAME = "my_sweep"
TEMPLATE = Path(__file__).parent / "templates" / "sweep.yaml"


def run(words: list[str]) -> int:
    """Write the file and say what to do with it."""
    given = arguments.sort(words)
    name = arguments.one_name(given, "sweep", "ablate init") if given.names else NAME
    from ablate import packaged
    from ablate.study.paths import Paths

    folder = Paths.only(given.overrides).sweeps
    check_sweep_name(name)
    if name.endswith((".yaml", ".yml")):
        raise UserError(f"{name}: give the sweep's name without the ending, as in {name.rpartition('.')[0]}")
    if (packaged.sweeps() / f"{name}.yaml").exists():
        raise UserError(
            f"{name}: a sweep of that name comes with ablate; choose another, and say extends: {name} in it"
        )
    path = folder / f"{name}.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(TEMPLATE.read_text(encoding="utf-8"))
    except FileExistsError:
        raise UserError(f"{path} is there already; move it away, or give another name") from None
    say(f"{path}: edit it, then  ablate plan {name}  and  ablate sweep {name}")
    return 0
