"""`ablate options [group]`: every group, its options, a line each."""

from __future__ import annotations

from ablate.cli import arguments
from ablate.config import options, preset_table, presets
from ablate.errors import UserError, nearest
from ablate.terminal import say
from ablate.text import aligned

HELP = """List what can be chosen in each group; * marks the baseline's choice.

usage: ablate options [GROUP | GROUP=OPTION]

  ablate options                 all groups
  ablate options position        one group
  ablate options position=rope   the settings of one option
  ablate options preset          the published models, what each is made of
"""

NUMBERS = [preset_table.COLUMNS.index(column) for column in ("d_ff / d_model", "head width", "vocabulary")]


def run(words: list[str]) -> int:
    """Print all groups, one group, or the settings of one option."""
    given = arguments.sort(words).rest
    for word in given or list(options.groups()):
        group, equals, option = word.partition("=")
        if group not in options.groups():
            raise UserError(f"{group}: unknown group{nearest(group, options.groups())}")
        if equals:
            say(options.file_of(group, option).read_text(encoding="utf-8").rstrip())
        elif group == presets.GROUP and given:
            say("\n".join(aligned([preset_table.COLUMNS, *preset_table.lines()], right=NUMBERS)))
        else:
            say(_listing(group))
    return 0


def _listing(group: str) -> str:
    chosen = options.listed(options.defaults().get(group, []))
    cells = [
        [f"  {'*' if option in chosen else ' '} {option}", options.description(path)]
        for option, path in options.groups()[group].items()
    ]
    return "\n".join([group, *aligned(cells)])
