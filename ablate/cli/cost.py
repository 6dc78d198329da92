"""`ablate cost [overrides]`: parameters and operations of one configuration, or of every row of a sweep."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Iterator
from typing import Any

from ablate import garbage
from ablate.cli import arguments
from ablate.cli.counting import costs, count
from ablate.errors import UserError
from ablate.terminal import say
from ablate.text import aligned

FORMATS = ("text", "csv", "json")
PUBLISHED_SHAPE = "paper"  # that of every table in ablate/reference
COLUMNS = ("row", "parameters", "parameters_published_m", "ops_paper", "ops_published_t", "flops_per_step")

HELP = """Count what a model costs, without allocating it.

usage: ablate cost [overrides] [--format text|csv|json]
       ablate cost --reference NAME [overrides] [--format text|csv|json]     every row of sweeps/NAME.yaml

  ablate cost shape=paper
  ablate cost shape=paper activation=swiglu --format json
  ablate cost --reference axes_all shape=paper --format csv

ops_paper counts as Narang et al. 2021 do: multiply-accumulates of one forward pass over the global batch, look-ups as
products with one-hot vectors. flops_per_step counts forward and backward pass, two operations a multiply-accumulate.
"""


def run(words: list[str]) -> int:
    """Print the costs."""
    with garbage.kept():
        return _run(words)


def _run(words: list[str]) -> int:
    given = arguments.sort(words, valued=("--format", "--reference"))
    form = given.flags.get("--format", "text")
    if form not in FORMATS:
        raise UserError(f"--format {form}: must be one of {', '.join(FORMATS)}")
    overrides = arguments.only_overrides(given, "ablate cost")
    if "--reference" in given.flags:
        say(FORMS[form](list(_rows(given.flags["--reference"], overrides))))
        return 0
    from ablate.config import compose

    say(_one(count(compose(overrides)), form))
    return 0


def _rows(name: str, extra: list[str]) -> Iterator[dict[str, Any]]:
    """The costs of every row of a sweep file, beside the published ones where the sweep names a reference."""
    from ablate.config import compose
    from ablate.study import definition, runs
    from ablate.study.paths import Paths

    sweep = definition.load(name, Paths.of(extra).sweeps)
    errors, configs = [], {}
    for row in sweep.rows:
        try:
            configs[row] = compose(runs.overrides(sweep, row, 0, extra))
        except UserError as error:
            errors.append(str(error.of(name, row)))
    if errors:
        raise UserError("\n".join(errors))
    is_comparable = _has_published_size(configs[sweep.baseline])
    published = _published(sweep.reference, list(configs)) if sweep.reference and is_comparable else {}
    for row, counted in zip(configs, costs(list(configs.values())), strict=True):
        if isinstance(counted, UserError):
            raise counted.of(name, row)
        yield {
            "row": row,
            "parameters": counted["parameters"]["total"],
            "parameters_published_m": published.get(row, {}).get("parameters_millions"),
            "ops_paper": counted["ops_paper"],
            "ops_published_t": published.get(row, {}).get("ops_trillions"),
            "flops_per_step": counted["flops_per_step"],
        }
    if sweep.reference and not is_comparable:
        say(f"the published counts are those of shape={PUBLISHED_SHAPE}, and left out at another size", file=sys.stderr)


def _has_published_size(config: Any) -> bool:
    """Whether a config has the dimensions, and the tokens of a step, that the published tables count."""
    from omegaconf import OmegaConf

    from ablate.config import compose

    published = compose([f"shape={PUBLISHED_SHAPE}"])
    keys = [f"shape.{key}" for key in published.shape if key != "steps"]
    keys += ["objective.length", "trainer.global_batch_tokens"]
    return all(OmegaConf.select(config, key) == OmegaConf.select(published, key) for key in keys)


def _published(reference: str, rows: list[str]) -> dict[str, dict[str, float]]:
    """The published numbers of the rows that the reference has, by our label; absent numbers are left out."""
    from ablate.report.analysis.reference import load

    table = load(reference)
    labels = {row: table.find(row) for row in rows}
    return {
        row: {column: number for column, number in table.rows[label].items() if not math.isnan(number)}
        for row, label in labels.items()
        if label
    }


def _one(counted: dict[str, Any], form: str) -> str:
    flat = {**counted.pop("parameters"), **counted}
    flat = {"parameters": flat.pop("total"), **flat}
    if form == "json":
        return json.dumps(flat, indent=1)
    if form == "csv":
        return _csv([flat], list(flat))
    return "\n".join(aligned([[key, f"{value:>22,}{_short(value)}"] for key, value in flat.items()]))


def _short(value: int) -> str:
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"  {value / size:.4g} {letter}"
    return ""


def _csv(rows: list[dict[str, Any]], columns: list[str]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().rstrip("\n")


def _table(rows: list[dict[str, Any]]) -> str:
    cells = [COLUMNS, *([_cell(row[column]) for column in COLUMNS] for row in rows)]
    return "\n".join(aligned(cells, right=range(1, len(COLUMNS))))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)


FORMS = {
    "text": _table,
    "csv": lambda rows: _csv(rows, list(COLUMNS)),
    "json": lambda rows: json.dumps(rows, indent=1, ensure_ascii=False),
}
