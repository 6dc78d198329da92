"""Which row each row is compared with: the baseline, or another row that the sweep file names with `against`.

A row that another names is its control: it has what the other changes besides, such as its optimizer. A control has a
verdict of its own, against the baseline or against a control in turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ablate.errors import UserError, nearest


def check(against: Mapping[str, str], rows: Iterable[str], where: str) -> None:
    """Raise `UserError` where a row of `against` is compared with no row, with itself, or in a circle."""
    known = set(rows)
    for row, control in against.items():
        if control not in known:
            raise UserError(f"{where}: {row!r}: against: no row {control!r}{nearest(control, known)}")
        if control == row:
            raise UserError(f"{where}: {row!r}: against: a row cannot be compared with itself")
    for row in against:
        way = [row]
        while (control := against.get(way[-1], "")) and control not in way:
            way.append(control)
        if control:
            circle = [*way[way.index(control) :], control]
            raise UserError(f"{where}: against goes in a circle: {', '.join(map(repr, circle))}")
