"""Published tables: read, joined with our rows by label, and compared with what we measured."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

import ablate
from ablate.errors import UserError, nearest
from ablate.report.verdicts import HAS_DIVERGED, NOT_COMPARABLE, Row, Verdicts

FOLDER = Path(ablate.__file__).parent / "reference"
TITLES = {
    "narang2021": "Narang et al. 2021, Table 1",
    "narang2021_learned_positions": "Narang et al. 2021, Table 2 (learned positions)",
    "shazeer2020": "Shazeer 2020, Table 1",
}
TEXT_COLUMNS = ("row", "section", "aliases", "unconfirmed")
LEFT_OUT = (NOT_COMPARABLE, HAS_DIVERGED)
FEWEST_ROWS = 5  # a rank correlation over fewer says nothing
SIMULATIONS = 4000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Published:
    """A published table: `rows` maps a label to its numbers; absent numbers are NaN."""

    name: str
    baseline: str
    rows: dict[str, dict[str, float]]
    aliases: dict[str, str]
    unconfirmed: dict[str, tuple[str, ...]]

    @property
    def title(self) -> str:
        """The paper and the table."""
        return TITLES.get(self.name, self.name)

    def find(self, label: str) -> str | None:
        """The label here that means the same as `label`; case, spaces and punctuation do not count."""
        return self.aliases.get(_key(label))


@dataclass(frozen=True)
class Agreement:
    """How far the order of our rows is that of a published table, for one pair of columns.

    `ours` and `theirs` are differences to each one's own baseline, in nats a token, `errors` the standard errors of
    ours. `ceiling` holds the median and the lower 5 % of each figure that our seed noise would leave if our true
    differences were the published ones, times `scale`; it is empty where no row's noise is known.
    """

    column: str
    labels: list[str]
    ours: np.ndarray
    theirs: np.ndarray
    errors: np.ndarray
    spearman: float
    spearman_interval: tuple[float, float]
    kendall: float
    kendall_interval: tuple[float, float]
    equal_signs: int
    signs: int
    scale: float
    ceiling: dict[str, tuple[float, float]]


def load(name: str) -> Published:
    """Read the published table `name`; raises `UserError` where there is none."""
    path = FOLDER / f"{name}.csv"
    if name not in names():
        raise UserError(f"no reference {name!r}{nearest(str(name), names())} (there are: {', '.join(names())})")
    rows, aliases, unconfirmed, baseline = {}, {}, {}, ""
    with open(path, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            label = row["row"]
            rows[label] = {column: float(cell or "nan") for column, cell in row.items() if column not in TEXT_COLUMNS}
            unconfirmed[label] = tuple(row["unconfirmed"].split())
            baseline = label if row["section"] == "baseline" else baseline
            for alias in (label, *filter(None, row["aliases"].split(";"))):
                aliases[_key(alias)] = label
    return Published(name, baseline, rows, aliases, unconfirmed)


def names() -> list[str]:
    """The published tables that there are."""
    return sorted(table.stem for table in FOLDER.glob("*.csv"))


def join(verdicts: Verdicts, published: Published) -> list[tuple[Row, str]]:
    """Our rows that the table has, too, with the label there."""
    base = base_of(verdicts, published)
    found = [(row, published.find(row.label)) for row in verdicts.rows if row.verdict not in LEFT_OUT]
    return [(row, label) for row, label in found if label and label != base]


def base_of(verdicts: Verdicts, published: Published) -> str:
    """The published row that our baseline stands for: the one of its label, else the table's own baseline."""
    return published.find(verdicts.baseline.label) or published.baseline


def agreements(verdicts: Verdicts, published: Published) -> list[Agreement]:
    """Our final loss against the published final loss, and early against early, over at least 5 rows each."""
    found = []
    joined, base = join(verdicts, published), published.rows[base_of(verdicts, published)]
    for column, comparisons in (
        ("final_loss", [row.comparison for row, _ in joined]),
        ("early_loss", [row.early_comparison for row, _ in joined]),
    ):
        theirs = np.array([published.rows[label][column] - base[column] for _, label in joined])
        ours = np.array([comparison.delta for comparison in comparisons])
        errors = np.array([comparison.error for comparison in comparisons])
        both = np.isfinite(ours + theirs)
        if both.sum() >= FEWEST_ROWS:
            labels = [row.label for (row, _), known in zip(joined, both, strict=True) if known]
            found.append(_agreement(column, labels, ours[both], theirs[both], errors[both]))
    return found


def _agreement(column: str, labels: list[str], ours: np.ndarray, theirs: np.ndarray, errors: np.ndarray) -> Agreement:
    count = len(labels)
    spearman = kendall = np.nan
    if np.ptp(ours) and np.ptp(theirs):
        spearman, kendall = float(stats.spearmanr(ours, theirs)[0]), float(stats.kendalltau(ours, theirs)[0])
    told = theirs != 0
    scale, ceiling = _ceiling(ours, theirs, errors)
    return Agreement(
        column=column,
        labels=labels,
        ours=ours,
        theirs=theirs,
        errors=errors,
        spearman=spearman,
        # Fisher's z; its variance after Bonett and Wright 2000 for Spearman, after Fieller et al. 1957 for Kendall.
        spearman_interval=_fisher(spearman, (1 + spearman**2 / 2) / (count - 3)),
        kendall=kendall,
        kendall_interval=_fisher(kendall, 0.437 / (count - 4)),
        equal_signs=int((np.sign(ours[told]) == np.sign(theirs[told])).sum()),
        signs=int(told.sum()),
        scale=scale,
        ceiling=ceiling,
    )


def _ceiling(ours: np.ndarray, theirs: np.ndarray, errors: np.ndarray) -> tuple[float, dict[str, tuple[float, float]]]:
    """What seed noise alone leaves of a perfect agreement, simulated with a fixed seed.

    The published differences, scaled to the size that ours have beyond their noise, are taken as the truth; each then
    gets its row's noise and all of them the baseline's. Half of the variance of a difference is taken as the
    baseline's.
    """
    if not np.isfinite(errors).any():
        return np.nan, {}
    noise = np.where(np.isfinite(errors), errors, np.nanmedian(errors))
    beyond = max(0.0, float(np.mean(ours**2) - np.mean(noise**2)))
    scale = float(np.sqrt(beyond / np.mean(theirs**2))) if np.any(theirs) else 0.0
    generator = np.random.default_rng(2021)
    shared = generator.normal(size=(SIMULATIONS, 1)) * np.median(noise) / np.sqrt(2)
    measured = scale * theirs + shared + generator.normal(size=(SIMULATIONS, len(theirs))) * noise / np.sqrt(2)
    ranks, their_ranks = stats.rankdata(measured, axis=1), stats.rankdata(theirs)
    centred, their_centred = ranks - ranks.mean(1, keepdims=True), their_ranks - their_ranks.mean()
    sizes = np.sqrt((centred**2).sum(1) * (their_centred**2).sum())
    spearman = centred @ their_centred / np.where(sizes > 0, sizes, np.inf)
    upper = np.triu_indices(len(theirs), 1)
    pairs = np.sign(measured[:, upper[0]] - measured[:, upper[1]]) * np.sign(theirs[upper[0]] - theirs[upper[1]])
    told = theirs != 0
    signs = (np.sign(measured[:, told]) == np.sign(theirs[told])).mean(1) if told.any() else np.zeros(1)
    figures = {"spearman": spearman, "kendall": pairs.mean(1), "signs": signs}
    return scale, {
        name: (float(np.median(values)), float(np.quantile(values, 0.05))) for name, values in figures.items()
    }


def _fisher(correlation: float, variance: float) -> tuple[float, float]:
    if not np.isfinite(correlation):
        return np.nan, np.nan
    centre = np.arctanh(np.clip(correlation, -0.999999, 0.999999))
    reach = stats.norm.ppf(0.5 + CONFIDENCE / 2) * np.sqrt(variance)
    return float(np.tanh(centre - reach)), float(np.tanh(centre + reach))


def _key(label: str) -> str:
    return re.sub(r"[^a-z0-9]+", "", label.lower())
