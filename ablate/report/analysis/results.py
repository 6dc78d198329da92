"""The runs of a sweep, as everything in a report is computed from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ablate.naming import context_of
from ablate.report.analysis.curves_csv import Point
from ablate.report.analysis.items_jsonl import ItemValues
from ablate.report.text import is_number

if TYPE_CHECKING:
    import pandas

RUN_NUMBERS = {
    "parameters": ("parameters", "total"),
    "parameters_non_embedding": ("parameters", "non_embedding"),
    "parameters_active": ("parameters", "active"),
    "ops_paper": ("ops_paper",),
    "flops_per_step": ("flops_per_step",),
    "steps_per_second": ("steps_per_second", "median"),
    "steps_per_second_p25": ("steps_per_second", "p25"),
    "steps_per_second_p75": ("steps_per_second", "p75"),
    "steps_per_second_exclusive": ("steps_per_second", "exclusive"),
    "tokens_per_second": ("tokens_per_second",),
    "mfu": ("mfu",),
    "peak_memory_bytes": ("peak_memory_bytes",),
    "early_step": ("loss", "early_step"),
    "final_step": ("loss", "final_step"),
    "early_loss": ("loss", "early"),
    "final_loss": ("loss", "final"),
    "bits_per_byte": ("loss", "bits_per_byte"),
    "seconds": ("seconds",),
    "attempts": ("attempts",),
}
RUN_TEXTS = {
    "identity": ("identity",),
    "data": ("data", "name"),
    "data_sha256": ("data", "sha256"),
    "device": ("hardware", "device"),
    "git": ("git", "sha"),
    "torch": ("versions", "torch"),
    "reason": ("reason",),
    "overrides": ("overrides",),
}


@dataclass(frozen=True)
class Results:
    """A sweep and its runs: `sweep` is the first line of records.jsonl, `records` the other lines.

    `curves` maps (row, seed, kind) to a list of points: (step, loss) where the kind is train or validation, else (x, y)
    of the curve of the score with the kind's name. `items` maps (row, seed, score) to what each item adds to the score.
    `rungs` are the runs of the baseline at other budgets, by the factor of steps that the sweep file asks for, `sizes`
    those of the sweep's sizes by name, this one included, where the sweep has some.
    """

    sweep: dict[str, Any]
    records: list[dict[str, Any]]
    curves: dict[tuple[str, int, str], list[Point]] = field(default_factory=dict)
    items: dict[tuple[str, int, str], ItemValues] = field(default_factory=dict)
    rungs: dict[float, Results] = field(default_factory=dict)
    sizes: dict[str, Results] = field(default_factory=dict)

    def frame(self) -> pandas.DataFrame:
        """The runs as a table: a line a run, as `lines` has them."""
        import pandas

        columns, lines = self.lines()
        return pandas.DataFrame(lines, columns=columns)

    def lines(self) -> tuple[list[str], list[list[Any]]]:
        """Columns, and a line a run: row, section, seed, status, numbers (NaN where unknown), scores, and texts.

        In a context of a sweep, its name stands before them.
        """
        sections = {row["row"]: row["section"] for row in self.sweep["rows"]}
        tasks = sorted({task for record in self.records for task in record.get("downstream") or {}})
        context = context_of(self.sweep["name"])
        lines = [
            [
                *([context] if context else []),
                *(record["row"], sections[record["row"]], record["seed"], record["status"]),
                *(number(record, *keys) for keys in RUN_NUMBERS.values()),
                *(number(record, "downstream", task) for task in tasks),
                *(_text(record, *keys) for keys in RUN_TEXTS.values()),
            ]
            for record in self.records
        ]
        first = ["context"] if context else []
        return [*first, "row", "section", "seed", "status", *RUN_NUMBERS, *tasks, *RUN_TEXTS], lines


def number(record: dict[str, Any], *keys: str) -> float:
    """The number under nested `keys` of a record; NaN where there is none."""
    value: Any = record
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return float(value) if is_number(value) else np.nan


def identity_schema(record: dict[str, Any]) -> int:
    """Under which schema the identity of a run was made; older records do not say it."""
    schema = number(record, "identity_schema")
    return 1 if np.isnan(schema) else int(schema)


def _text(record: dict[str, Any], *keys: str) -> str:
    value: Any = record
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return " ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
