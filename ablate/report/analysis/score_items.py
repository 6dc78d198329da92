"""What is known of the noise of items in the scores of a sweep: of a row's mean, and of a difference between two rows.

Where the values of the same items are known of both rows, differences are paired by item. Else the standard errors in
the records stand for them, unpaired. An average over tasks is made of what is known of each.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ablate.report.analysis.items_jsonl import ItemValues
from ablate.report.analysis.outcome_files import scores_of
from ablate.report.analysis.results import Results
from ablate.report.analysis.score_verdicts import PAIRED, SEEDS_ONLY, UNPAIRED
from ablate.report.text import is_number
from ablate.statistics import item_noise
from ablate.statistics.item_noise import ItemNoise

_BEST_LAST = (SEEDS_ONLY, UNPAIRED, PAIRED)


@dataclass(frozen=True)
class KnownNoise:
    """The noise of items, None where nothing is known of it; how it is known, and why not better."""

    noise: ItemNoise | None = None
    how: str = SEEDS_ONLY
    note: str = ""


class ScoreItems:
    """The values of items, and what the records say of each score, by row and seed."""

    def __init__(self, results: Results) -> None:
        self._scores = {(record["row"], record["seed"]): scores_of(record) for record in results.records}
        self._items = results.items

    def score(self, row: str, seed: int, name: str) -> Mapping[str, Any]:
        """What the record of a run says of a score; empty where it has none."""
        return self._scores.get((row, seed), {}).get(name) or {}

    def of_mean(self, name: str, row: str, seeds: Sequence[int]) -> KnownNoise:
        """Of the mean of a row's score over `seeds`."""
        return self._known(name, (row,), seeds)

    def of_difference(self, name: str, row: str, control: str, seeds: Sequence[int]) -> KnownNoise:
        """Of the mean difference of a row from its control over `seeds`, which both have."""
        return self._known(name, (row, control), seeds)

    def _known(self, name: str, rows: Sequence[str], seeds: Sequence[int]) -> KnownNoise:
        if parts := self._parts(name, rows[0], seeds):
            known = {part: self._paired(part, rows, seeds) for part in parts}
            if any(one.noise for one in known.values()):
                return _average(known)
        return self._paired(name, rows, seeds)

    def _parts(self, name: str, row: str, seeds: Sequence[int]) -> list[str]:
        """The scores that an average is the mean of, which its source names.

        Empty where it is no average, where one of them is not there, or where their plain mean is another number.
        """
        for seed in seeds:
            score = self.score(row, seed, name)
            names = (score.get("source") or {}).get("mean_of")
            if isinstance(names, list) and names:
                there = self._scores[row, seed]
                values = [there[one]["value"] for one in names if one in there]
                is_mean = len(values) == len(names) and math.isclose(np.mean(values), score["value"], rel_tol=1e-6)
                return names if is_mean else []
        return []

    def _paired(self, name: str, rows: Sequence[str], seeds: Sequence[int]) -> KnownNoise:
        """By the values of items, of as many seeds as have the same ones in all `rows`."""
        values = {seed: found for seed in seeds if (found := self._values(name, rows, seed))}
        if not values:
            return self._unpaired(name, rows, seeds, self._why_none(name, rows, seeds))
        kinds = Counter(_kind(found[0]) for found in values.values())
        used = {seed: found for seed, found in values.items() if _kind(found[0]) == kinds.most_common(1)[0][0]}
        table = np.array([found[0].values - sum(other.values for other in found[1:]) for found in used.values()])
        noise = item_noise.of_values(table)
        if noise is None:
            return self._unpaired(name, rows, seeds, "there is one item only")
        lacking = [str(seed) for seed in seeds if seed not in used]
        note = f"without the items of seed{'s' * (len(lacking) > 1)} {', '.join(lacking)}" if lacking else ""
        return KnownNoise(noise, PAIRED, note)

    def _values(self, name: str, rows: Sequence[str], seed: int) -> list[ItemValues]:
        """The values of the same items in all rows; none where one lacks them, or has other items."""
        found = [self._of_run(name, row, seed) for row in rows]
        known = [one for one in found if one is not None]
        return known if len(known) == len(rows) and len({*map(_kind, known)}) == 1 else []

    def _of_run(self, name: str, row: str, seed: int) -> ItemValues | None:
        """From items.jsonl, or from the record itself, should it hold the score's outcomes."""
        outcomes = self.score(row, seed, name).get("outcomes")
        if outcomes:
            return ItemValues.of(dict(enumerate(outcomes)))
        return self._items.get((row, seed, name))

    def _why_none(self, name: str, rows: Sequence[str], seeds: Sequence[int]) -> str:
        """Why a score has no values of items that could be paired; empty where it never has any."""
        found = {row: [self._of_run(name, row, seed) for seed in seeds] for row in rows}
        if all(any(one is not None for one in of_row) for of_row in found.values()):
            return f"the items of {' and '.join(rows)} are not the same"
        without = [row for row, of_row in found.items() if all(one is None for one in of_row)]
        if len(without) < len(rows) or any(self._lacks_its_file(name, row, seed) for row in rows for seed in seeds):
            return f"the values of the items of {' and '.join(without)} are not there"
        return ""

    def _lacks_its_file(self, name: str, row: str, seed: int) -> bool:
        """Whether no score has values from the file that this one names; else it is no mean over items."""
        file = _file_of(self.score(row, seed, name))
        beside = (one for one, score in self._scores.get((row, seed), {}).items() if _file_of(score) == file)
        return bool(file) and not any((row, seed, one) in self._items for one in beside)

    def _unpaired(self, name: str, rows: Sequence[str], seeds: Sequence[int], why: str) -> KnownNoise:
        """By the standard errors over items that the records have."""
        errors = [[*self._standard_errors(name, row, seeds)] for row in rows]
        if not all(errors):
            return KnownNoise(note=why or "no standard error over items is known")
        noises = [item_noise.of_standard_errors(of_row) for of_row in errors]
        return KnownNoise(sum(noises[1:], start=noises[0]), UNPAIRED, why)

    def _standard_errors(self, name: str, row: str, seeds: Sequence[int]) -> Iterator[float]:
        for seed in seeds:
            error = self.score(row, seed, name).get("standard_error")
            if is_number(error):
                yield float(error)


def _file_of(score: Mapping[str, Any]) -> tuple[Any, ...]:
    """The evaluation, its hash and the file of outcomes that a score's source names; empty where it names none."""
    source = score.get("source") or {}
    return tuple(source.get(key) for key in ("evaluation", "hash", "outcomes")) if source.get("outcomes") else ()


def _kind(items: ItemValues) -> tuple[str, int]:
    """What values of the same items have in common: the hash of the ids, and their number."""
    return items.ids, len(items.values)


def _average(parts: Mapping[str, KnownNoise]) -> KnownNoise:
    """Of the mean of scores: those of which nothing is known add nothing."""
    known = {name: one for name, one in parts.items() if one.noise is not None}
    noise = item_noise.of_average([one.noise or ItemNoise(0.0, 0.0) for one in parts.values()])
    notes = [f"of {name}, {one.note}" for name, one in parts.items() if one.note]
    if PAIRED in {one.how for one in known.values()} and UNPAIRED in {one.how for one in known.values()}:
        unpaired = (name for name, one in known.items() if one.how == UNPAIRED and not one.note)
        notes += [f"{name} is not paired" for name in unpaired]
    return KnownNoise(noise, worst(one.how for one in known.values()), "; ".join(notes))


def worst(found: Iterable[str]) -> str:
    """The least that is known of items, of several ways in which they are known."""
    return min(found, key=_BEST_LAST.index, default=SEEDS_ONLY)
