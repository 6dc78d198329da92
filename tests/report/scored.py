"""Made-up scores for the rows of a report: tables of every verdict, in both directions, with missing values."""

from dataclasses import dataclass, replace

import numpy as np

from ablate.report.analysis.metrics import Metric
from ablate.report.analysis.score_verdicts import AT_CHANCE, PAIRED, ScoreTable, ScoreVerdict, ScoreVerdicts
from ablate.report.analysis.verdicts import (
    BASELINE,
    BETTER,
    NO_VERDICT,
    NOT_COMPARABLE,
    UNDECIDED,
    UNLEARNED,
    WORSE,
    Verdicts,
)
from ablate.statistics.comparison import ALPHA, Comparison

PER_CENT = "per cent"


@dataclass(frozen=True)
class Made:
    """A score to make: `effects` maps labels to true differences, others have none."""

    name: str
    is_primary: bool = True
    higher_is_better: bool = True
    unit: str = PER_CENT
    base: float = 55.0
    chance: float = 50.0
    items: float = 400
    noise: float = 0.5  # sd of one run
    error: float = 0.4  # of a difference, of the seeds
    item_error: float = 0.3
    item_noise: str = PAIRED
    not_comparable: str = ""
    effects: tuple = ()
    constant: bool = False  # every run scores the same


def with_scores(verdicts: Verdicts, made: list[Made], seed: int = 0) -> Verdicts:
    """The rows with these scores: `Verdicts.scores`, its metrics, and each row's means."""
    tables = {}
    for one in sorted(made, key=lambda one: (not one.is_primary, one.name)):
        family = sum(other.is_primary == one.is_primary for other in made)
        tables[one.name] = table_of(verdicts, one, ALPHA / family, np.random.default_rng(seed + len(tables)))

    def scored(row):
        found = {name: table.values.get(row.label) for name, table in tables.items()}
        known = {name: [*values] for name, values in found.items() if values is not None}
        return replace(row, downstream=known)

    return replace(
        verdicts,
        baseline=scored(verdicts.baseline),
        rows=[scored(row) for row in verdicts.rows],
        metrics={name: table.metric for name, table in sorted(tables.items())},
        scores=ScoreVerdicts(tables),
    )


def table_of(verdicts: Verdicts, one: Made, alpha: float, generator: np.random.Generator) -> ScoreTable:
    """The table of a score: values where the row has a final loss, a verdict for every row."""
    effects = dict(one.effects)
    values = {}
    for row in verdicts:
        noise = 0.0 if one.constant else generator.normal(0, one.noise, len(row.final))
        effect = 0.0 if one.constant else effects.get(row.label, 0.0)
        values[row.label] = np.where(np.isfinite(row.final), one.base + effect + noise, np.nan)
    metric = Metric(one.name, one.unit, one.higher_is_better)
    baseline = verdicts.baseline.label
    found = {baseline: ScoreVerdict(baseline, "", Comparison(int(np.isfinite(values[baseline]).sum())), BASELINE)}
    for row in verdicts.rows:
        found[row.label] = verdict_of(row, values, one, metric)
    noise = values[baseline][np.isfinite(values[baseline])]
    return ScoreTable(
        metric,
        one.is_primary,
        one.chance,
        one.items,
        values,
        found,
        alpha,
        float(noise.std(ddof=1)) if len(noise) > 1 else np.nan,
        one.item_noise,
        one.not_comparable,
    )


def verdict_of(row, values, one: Made, metric: Metric) -> ScoreVerdict:
    """A simple z test, three standard errors wide."""
    differences = values[row.label] - values[row.control]
    seeds = int(np.isfinite(differences).sum())
    delta = float(np.nanmean(differences)) if seeds else np.nan
    if row.verdict in (NOT_COMPARABLE, *UNLEARNED):
        return ScoreVerdict(row.label, row.control, Comparison(seeds, delta), row.verdict, row.why)
    if seeds < 3:
        why = f"{seeds} shared seeds, 3 are needed"
        return ScoreVerdict(row.label, row.control, Comparison(seeds, delta), NO_VERDICT, why)
    total = float(np.hypot(one.error, np.nan_to_num(one.item_error)))
    low, high = delta - 3 * total, delta + 3 * total
    differs = low > 0 or high < 0
    comparison = Comparison(
        seeds,
        delta,
        one.error,
        one.error / 2**0.5,
        low,
        high,
        0.01,
        0.02 if differs else 0.4,
        differs,
        False,
        4 * total,
    )
    comparison = replace(comparison, item_error=one.item_error)
    means = [float(np.nanmean(values[label])) for label in (row.label, row.control)]
    if all(abs(mean - one.chance) < 2 * total for mean in means):
        verdict = AT_CHANCE
    else:
        verdict = UNDECIDED if not differs else BETTER if delta * metric.sign < 0 else WORSE
    return ScoreVerdict(row.label, row.control, comparison, verdict, item_noise=one.item_noise)


TASKS = ("boolq", "cb", "copa", "multirc", "record", "rte", "wic", "wsc")


def usual(verdicts: Verdicts) -> Verdicts:
    """Two averages and a perplexity, and single tasks: both directions, every verdict, gaps, a constant answer."""
    gains = (("SwiGLU", 6.0), ("GeGLU", 4.0), ("No position", -5.0), ("RoPE", 2.6), ("Post-norm", -2.0))
    why = "a fifth of the training passages, held out"
    made = [
        Made("superglue", effects=gains, items=2100, not_comparable=why),
        Made("wikitext", True, False, "bits a byte", 2.1, np.nan, 60, 0.01, 0.008, np.nan, "",
             effects=(("SwiGLU", -0.06), ("No position", 0.07))),
        *(
            Made(f"superglue_{task}", False, effects=gains * (number % 2), base=60.0 if number % 3 else 50.5,
                 items=50 * (number + 1), not_comparable=why, constant=task == "boolq")
            for number, task in enumerate(TASKS)
        ),
        Made("lambada", False, base=0.0, chance=0.0, constant=True),
    ]  # fmt: skip
    return with_scores(verdicts, made)
