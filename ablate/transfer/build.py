"""Make a transfer report: gather the contexts, keep their records beside it, judge, write."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ablate.errors import UserError
from ablate.naming import check_sweep_name
from ablate.report import build as report
from ablate.report.analysis import records_file, reference
from ablate.report.analysis.judge import judge
from ablate.report.analysis.results import Results
from ablate.report.text import md_escape
from ablate.run.files import atomic_write
from ablate.run.record import DONE
from ablate.study import definition, inheritance, published
from ablate.transfer import context as contexts
from ablate.transfer.analysis import Transfer, analysed
from ablate.transfer.context import Change, Context

PREFIX, SOURCES, RECORDS = "transfer-", "contexts.json", "contexts"
TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class TransferReport:
    """A report that is written: the path of its report.md, the analysis, its first sentences."""

    path: Path
    found: Transfer
    lines: list[str]


def build(
    names: Sequence[str], runs: Path | str, reports: Path | str, sweeps: Path | str, name: str | None = None
) -> TransferReport:
    """Write ``reports/transfer-<name>/`` from sweeps, each with its contexts, and published tables.

    `name` is by default the first of `names`. The records that it rests on are kept in it, so that `rebuild` needs no
    other file. Raises `UserError` for a name that is neither a sweep with runs or a report, nor a published table.
    """
    if not names:
        raise UserError("ablate transfer takes the names of one or more sweeps")
    name = name or names[0].partition("/")[0]
    check_sweep_name(name)
    folder = Path(reports) / f"{PREFIX}{name}"
    tables = [one for one in names if one in published.names()]
    found: dict[str, Results] = {}
    for one in names:
        if one not in tables:
            for table in _tables_of(one, Path(sweeps), Path(reports)):
                results = report.gathered(table, runs, reports, sweeps)
                if any(record["status"] == DONE for record in results.records):
                    found[table] = results
    if len(found) + len(tables) < 2 or not found:
        raise UserError(f"{', '.join(names)}: there are no two contexts with runs to compare")
    for table, results in found.items():
        _keep(results, folder / RECORDS / table)
    atomic_write(folder / SOURCES, json.dumps({"contexts": [*found], "published": tables}, indent=1) + "\n")
    return rebuild(folder)


def rebuild(folder: Path | str) -> TransferReport:
    """Write the report again from the records in its folder alone."""
    folder = Path(folder)
    sources = json.loads((folder / SOURCES).read_text(encoding="utf-8"))
    trained: list[Context] = []
    others: list[Context] = []
    for name in sources["contexts"]:
        place = folder / RECORDS / name
        results = report.with_rungs(records_file.read(place), place)
        final, *early = contexts.of_results(results, judge(results))
        trained.append(final)
        others += early
    labels: dict[Change, str] = {}
    for context in trained:
        for change, effect in context.effects.items():
            labels.setdefault(change, effect.label)
    for name in sources["published"]:
        others += contexts.of_published(reference.load(name), labels)
    return _written(analysed(trained, others), folder)


def _tables_of(name: str, sweeps: Path, reports: Path) -> list[str]:
    if inheritance.find(name, sweeps) is not None:
        return [table.name for table in definition.load(name, sweeps).tables]
    if (reports / name / records_file.RECORDS).exists():
        return [name]
    definition.load(name, sweeps)  # says what there is
    return []


def _keep(results: Results, folder: Path) -> None:
    """Copy the records of a context and of its rungs to where `report.with_rungs` finds them."""
    for place, part in [
        (folder, results),
        *((report.rungs_of(results, folder)[f], r) for f, r in results.rungs.items()),
    ]:
        records_file.write(replace(part, items={}, curves={}, rungs={}), place)


def _written(found: Transfer, folder: Path) -> TransferReport:
    import jinja2

    from ablate.report.render.plots import drawing
    from ablate.transfer import matrix, text

    words = text.TransferText(found, folder.name.removeprefix(PREFIX))
    with drawing.style(found.labels):
        plot = matrix.matrix(found)
        if plot.figure:
            drawing.save(plot.figure, folder / plot.file)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    content = environment.get_template("transfer.md.j2").render(words=words, plot=plot, escape=md_escape)
    atomic_write(folder / "report.md", content)
    atomic_write(folder / "transfer.csv", text.transfer_csv(found))
    return TransferReport(folder / "report.md", found, [words.headline, *words.findings])
