"""Published tables, and what a study concludes from its rows as a whole."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ablate.errors import UserError
from ablate.statistics.ranks import rank_correlations
from ablate.study import published

TEXT_COLUMNS = ("row", "section", "aliases", "unconfirmed")
LOSSES = ("early_loss", "final_loss")  # lower is better; a score, in a column right of them, is better when higher


@dataclass(frozen=True)
class Published:
    """A published table: `rows` maps a label to its numbers; absent numbers are NaN.

    `scores` names the columns that are better when higher.
    """

    name: str
    title: str
    baseline: str
    rows: dict[str, dict[str, float]]
    scores: tuple[str, ...]
    aliases: dict[str, str]
    unconfirmed: dict[str, tuple[str, ...]]

    def find(self, label: str) -> str | None:
        """The label in this table that matches `label` in letters and digits, case ignored; None if none does."""
        return self.aliases.get(_key(label))


@dataclass(frozen=True)
class Findings:
    """What a study, ours or a published one, shows as a whole.

    `better` maps a column to (rows that beat the baseline, rows with a number); `correlations` maps a column to its
    Spearman correlation with the final loss, positive where a lower final loss goes with a better number.
    """

    better: dict[str, tuple[int, int]]
    correlations: dict[str, float]


def load(name: str) -> Published:
    """Read the published table `name`: a line `# title`, then CSV.

    Raises `UserError` for an unknown table, and with the line number for one that cannot be read.
    """
    path = published.path_of(name)
    rows, aliases, unconfirmed, baseline = {}, {}, {}, ""
    with open(path, encoding="utf-8", newline="") as file:
        title = file.readline()
        table = csv.DictReader(file)
        columns = list(table.fieldnames or [])
        _check_head(path, title, columns)
        for row in table:
            label = row["row"]
            rows[label] = _numbers(row, f"{path}, line {table.line_num + 1}")
            unconfirmed[label] = tuple((row.get("unconfirmed") or "").split())
            baseline = label if row["section"] == "baseline" else baseline
            for alias in (label, *filter(None, (row.get("aliases") or "").split(";"))):
                aliases[_key(alias)] = label
    if not baseline:
        raise UserError(f"{path}: no row has the section 'baseline'")
    title = title.removeprefix("#").strip()
    scores = [column for column in columns[columns.index(LOSSES[-1]) + 1 :] if column not in TEXT_COLUMNS]
    return Published(name, title, baseline, rows, tuple(scores), aliases, unconfirmed)


def _check_head(path: Path, title: str, columns: list[str]) -> None:
    if not title.startswith("#"):
        raise UserError(f"{path}, line 1: must be the table's title, as in # Narang et al. 2021, Table 1")
    if lacking := [column for column in ("row", "section", *LOSSES) if column not in columns]:
        raise UserError(f"{path}, line 2: missing {', '.join(lacking)}")


def _numbers(row: dict[str, str], where: str) -> dict[str, float]:
    """The numbers of a line, NaN where a cell is empty."""
    if None in row or None in row.values():
        raise UserError(f"{where}: the number of cells differs from that of the header")
    found = {}
    for column, cell in row.items():
        if column not in TEXT_COLUMNS:
            try:
                found[column] = float(cell or "nan")
            except ValueError:
                raise UserError(f"{where}: {column} is {cell!r}; it must be a number or empty") from None
    return found


def findings(
    rows: dict[str, dict[str, float]], baseline: str, scores: tuple[str, ...], lower: tuple[str, ...] = LOSSES
) -> Findings:
    """What the rows of one study, {label: {column: number}}, show as a whole; columns without numbers are left out.

    Of the columns in `lower` the lower number is better. There is no correlation for fewer than 5 rows.
    """
    better, correlations = {}, {}
    final = np.array([row.get(LOSSES[-1], np.nan) for row in rows.values()])
    for column in (*LOSSES, *scores):
        values = np.array([row.get(column, np.nan) for row in rows.values()])
        sign = 1 if column in lower else -1
        gains = sign * (rows[baseline].get(column, np.nan) - np.delete(values, list(rows).index(baseline)))
        if known := int(np.isfinite(gains).sum()):
            better[column] = int((gains > 0).sum()), known
        both = np.isfinite(final + values)
        if column != LOSSES[-1] and np.isfinite(found := rank_correlations(final[both], values[both])[0]):
            correlations[column] = sign * found
    return Findings(better, correlations)


def _key(label: str) -> str:
    return re.sub(r"[^a-z0-9]+", "", label.lower())
