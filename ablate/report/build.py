"""Make a report: gather the records, then write everything that is computed from them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ablate.naming import context_of
from ablate.report.analysis import gathering, records_file
from ablate.report.analysis.header import SHOWN_FIRST
from ablate.report.analysis.records_file import RECORDS, Damage
from ablate.report.analysis.results import Results
from ablate.report.text import md_escape, one_line
from ablate.run.files import atomic_write
from ablate.run.folder import RunFolder, run_folders, set_file_aside
from ablate.study.contexts import rung_name
from ablate.study.runs import named_by

if TYPE_CHECKING:
    from ablate.report.analysis.forecast import Forecast
    from ablate.report.analysis.reference import Published
    from ablate.report.analysis.verdicts import Verdicts

FORECAST = "forecast.json"
TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Report:
    """A report that is written: the path of its report.md, and what it says of the rows.

    `problems` are the records that were left out when the runs were gathered, each as `path: reason`.
    """

    path: Path
    verdicts: Verdicts
    problems: tuple[str, ...] = ()

    @property
    def lines(self) -> list[str]:
        """Its findings for a terminal: a sentence, then a table of the verdicts."""
        from ablate.report.render import terminal

        return terminal.lines_of(self.verdicts)


def build(
    sweep_name: str,
    runs_dir: Path | str,
    reports_dir: Path | str,
    sweeps_dir: Path | str,
    only: str | Iterable[str] | None = None,
) -> Report:
    """Gather the runs of a sweep and write its report.

    `only`, labels or globs, names rows that the plots show whatever their result, should there be too many for all.

    Runs without a folder (all of them, in a fresh clone) are taken from the records in the report's folder; what is
    asked of them, and what each row is compared with, from the sweep file as it is now. Beside runs that have a folder,
    lines of those records that are damaged are left out and named, and the damaged file is kept under another name.
    Reports on other sizes of the sweep, which show the baseline's loss at this one, are written again.
    Raises `UserError` for a sweep that does not exist, and for records that are all there is and cannot be read.
    """
    folder = Path(reports_dir) / sweep_name
    found = _kept(sweep_name, runs_dir, folder, sweeps_dir, only)
    for rung in rungs_of(found, folder).values():
        name = rung.relative_to(reports_dir).as_posix()
        if rung.exists() or any(run_folders(runs_dir, name)):
            _kept(name, runs_dir, rung, sweeps_dir)
    written = _written(found, folder)
    for size in _other_sizes(found, folder):
        rebuild(size)
    return written


def gathered(name: str, runs_dir: Path | str, reports_dir: Path | str, sweeps_dir: Path | str) -> Results:
    """What `build` would make the report of a sweep from, its baseline at the rungs included; nothing is written."""
    folder = Path(reports_dir) / name
    found, *_ = _gathered(name, runs_dir, folder, sweeps_dir)
    rungs = {}
    for factor, place in rungs_of(found, folder).items():
        rung = place.relative_to(reports_dir).as_posix()
        if place.exists() or any(run_folders(runs_dir, rung)):
            rungs[factor], *_ = _gathered(rung, runs_dir, place, sweeps_dir)
    return replace(found, rungs=rungs)


def _gathered(
    name: str, runs_dir: Path | str, folder: Path, sweeps_dir: Path | str, only: str | Iterable[str] | None = None
) -> tuple[Results, Results | None, Damage]:
    """The runs of a sweep, from their folders and from the records in that of its report; and these records alone."""
    older, damage = _older(folder)
    if older and not any(RunFolder(run).record.exists() for run in run_folders(runs_dir, name)):
        found = gathering.reread(records_file.read(folder) if damage.files else older, sweeps_dir)
    else:
        found = gathering.collect(name, runs_dir, sweeps_dir, older, damage)
    return _showing(found, only), older, damage


def _kept(
    name: str, runs_dir: Path | str, folder: Path, sweeps_dir: Path | str, only: str | Iterable[str] | None = None
) -> Results:
    """The runs of a sweep, which are kept in the folder of its report."""
    found, older, damage = _gathered(name, runs_dir, folder, sweeps_dir, only)
    for file in damage.files:
        set_file_aside(folder / file)
    return found if found == older else records_file.write(found, folder)


def rungs_of(found: Results, folder: Path) -> dict[float, Path]:
    """Where the records of the baseline at each of the sweep's rungs are: beside a context's, else in the folder."""
    context = context_of(found.sweep["name"])
    above = folder.parent if context else folder
    return {factor: above / rung_name(context, factor) for factor in found.sweep.get("rungs", [])}


def with_rungs(found: Results, folder: Path) -> Results:
    """The results with those of the rungs whose records are in `folder`, that of their report, or beside it."""
    there = {factor: place for factor, place in rungs_of(found, folder).items() if (place / RECORDS).exists()}
    return replace(found, rungs={factor: records_file.read(place) for factor, place in there.items()})


def _other_sizes(found: Results, folder: Path) -> list[Path]:
    """The reports on other sizes of the same sweep that can be written again from their records."""
    sizes = (found.sweep.get("scale") or {}).get("sizes", [])
    places = [folder.parent / size for size in sizes]
    return [
        place for place in places if place != folder and (place / "report.md").exists() and not _older(place)[1].files
    ]


def with_sizes(found: Results, folder: Path) -> Results:
    """The results with those of all sizes of the sweep whose records are beside `folder`, each with its rungs."""
    sizes = {}
    for size in (found.sweep.get("scale") or {}).get("sizes", []):
        place = folder.parent / size
        if (place / RECORDS).exists() and place != folder:
            sizes[size] = with_rungs(records_file.read(place), place)
        elif place == folder:
            sizes[size] = found
    return replace(found, sizes=sizes)


def _showing(found: Results, only: str | Iterable[str] | None) -> Results:
    """The results with the rows that the plots are asked to show, and no other ones."""
    sweep = {key: value for key, value in found.sweep.items() if key != SHOWN_FIRST}
    if only:
        sweep[SHOWN_FIRST] = named_by(only, [row["row"] for row in sweep["rows"]], sweep["name"])
    return replace(found, sweep=sweep)


def _older(folder: Path) -> tuple[Results | None, Damage]:
    """What an earlier report was made from, None where there is none, and what is wrong with which of its lines."""
    if not (folder / RECORDS).exists():
        return None, Damage()
    return records_file.read_undamaged(folder)


def rebuild(report_dir: Path | str) -> Report:
    """Write the report again from records.jsonl, curves.csv and items.jsonl, and those of its rungs, byte for byte."""
    folder = Path(report_dir)
    return _written(records_file.read(folder), folder)


def _written(results: Results, folder: Path) -> Report:
    results = with_sizes(with_rungs(results, folder), folder)
    skipped = [*results.sweep.get("skipped", [])]
    for factor, found in results.rungs.items():
        place = rungs_of(results, folder)[factor].name
        skipped += [{**one, "path": f"{place}/{one['path']}"} for one in found.sweep.get("skipped", [])]
    if results.rungs:
        results = replace(results, sweep={**results.sweep, "skipped": skipped})
    foreseen, problem = _forecast(folder)
    if problem:
        skipped.append({"path": FORECAST, "reason": problem})
    problems = tuple(one_line(f"{problem['path']}: {problem['reason']}") for problem in skipped)
    return Report(folder / "report.md", _write(results, folder, foreseen), problems)


def _forecast(folder: Path) -> tuple[Forecast | None, str]:
    """The forecast that was made of the size of this report, and why it cannot be used, where it cannot."""
    from ablate.report.analysis import forecast

    if not (folder / FORECAST).exists():
        return None, ""
    try:
        return forecast.read(folder / FORECAST), ""
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return None, str(error) or type(error).__name__


def _with_scores(published: Published | None) -> Published:
    """The table to compare loss and scores in: that of the sweep, else the one that our scores are named after."""
    from ablate.report.analysis import reference
    from ablate.report.analysis.score_ranks import PAPER

    return published if published and published.scores else reference.load(PAPER)


def _write(results: Results, folder: Path, foreseen: Forecast | None) -> Verdicts:
    import jinja2

    from ablate.report.analysis import agreement, ladder, reference
    from ablate.report.analysis.agreement_over_training import agreement_over_training
    from ablate.report.analysis.forecast import scored
    from ablate.report.analysis.judge import judge
    from ablate.report.render import csv_tables, paper_table, plots, score_latex
    from ablate.report.render.agreement_tables import AgreementTables
    from ablate.report.render.forecast_text import ForecastText
    from ablate.report.render.gain_text import HEADS, GainText
    from ablate.report.render.markdown_tables import MarkdownTables
    from ablate.report.render.provenance import Provenance
    from ablate.report.render.score_tables import ScoreTables
    from ablate.report.render.summary import Summary

    judged = judge(results)
    score = scored(foreseen, results, judged) if foreseen else None
    sizes = [size for found in results.sizes.values() if (size := ladder.size_of(found))]
    published = reference.load(results.sweep["reference"]) if results.sweep.get("reference") else None
    has_scores = bool(judged.scores.tables)
    agreements = agreement.agreements(judged, published) if published else []
    over_training = agreement_over_training(results, judged, published) if published else None
    drawn = plots.draw(results, judged, agreements, over_training, published.title if published else "", folder)
    kept = {path for plot in drawn for path in (folder / plot.file, (folder / plot.file).with_suffix(".pdf"))}
    for old in {*folder.glob("*.png"), *folder.glob("*.pdf")} - kept:
        old.unlink()  # a plot of an earlier report that this one does not draw
    atomic_write(folder / "results.csv", csv_tables.results_csv(judged, score))
    atomic_write(folder / "runs.csv", csv_tables.runs_csv(results))
    atomic_write(folder / "evidence.csv", csv_tables.evidence_csv(judged))
    atomic_write(folder / "table.tex", paper_table.table_tex(judged))
    for file, made in (("downstream.csv", csv_tables.downstream_csv), ("downstream.tex", score_latex.downstream_tex)):
        if has_scores:
            atomic_write(folder / file, made(judged))
        else:
            (folder / file).unlink(missing_ok=True)  # of an earlier report, whose runs had scores
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    text = environment.get_template("report.md.j2").render(
        summary=Summary(results, judged),
        tables=MarkdownTables(judged),
        agreement=AgreementTables(judged, published, agreements, over_training) if published else None,
        plots=[{"file": plot.file, "caption": md_escape(plot.caption), "note": md_escape(plot.note)} for plot in drawn],
        provenance=Provenance(results, judged),
        has_items=bool(results.items),
        scores=ScoreTables(judged, _with_scores(published), results.items) if has_scores else None,
        gain=GainText(judged, judged.gains, ladder.falls(sizes)) if judged.gains else None,
        gain_heads=HEADS,
        forecast=ForecastText(score, judged) if score else None,
    )
    atomic_write(folder / "report.md", text)
    return judged
