"""What "auto" stands for in the runs of a sweep, or in one by itself: decided once, and then read from what was made.

In this order: as the runs in the sweep's folder have it; as its committed records have it; as this machine would.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ablate.config import composing
from ablate.config.keys import plain
from ablate.config.overrides import key_of
from ablate.config.settling import RULES, Config, by_machine, can_be, settle, unsettled, value_of
from ablate.errors import UserError
from ablate.run import json_text
from ablate.run.folder import RunFolder, run_path
from ablate.study import definition, inheritance, runs
from ablate.study.definition import Sweep
from ablate.study.paths import RECORDS, Paths
from ablate.text import plural
from ablate.yaml_text import SharedBlocks

MOST_BYTES = 512 * 2**20  # of records.jsonl


class Settled:
    """What the rows of `sweep` that leave a key "auto" have for it, all of them the same.

    `extra` are the overrides of all runs, `jobs` of which train at a time, if somebody says so. Records in the report's
    folder count where they count as results, `stored`.
    """

    def __init__(
        self, sweep: Sweep, paths: Paths, extra: Sequence[str] = (), *, jobs: int | None = None, stored: bool = True
    ) -> None:
        self.sweep, self.paths, self.extra, self.jobs, self.stored = sweep, paths, extra, jobs, stored

    def of(self, config: Config) -> Config:
        """A resolved config of one of the rows, with every "auto" settled."""
        if not unsettled(config):
            return config
        return settle(config, by_machine(self._baseline or config, self.jobs) | self._known)

    def check(self) -> None:
        """Raise `UserError` where the runs in the folder are `mixed`."""
        if self.mixed:
            raise UserError(self.mixed)

    @cached_property
    def mixed(self) -> str:
        """A line for runs in the folder that were settled at several values, by hand; empty where all have the same."""
        for key in unsettled(self._baseline or {}):
            if len(values := self._made.get(key, Counter())) > 1:
                counted = ", ".join(f"{key}={value} ({plural(n, 'run')})" for value, n in values.most_common())
                common = values.most_common(1)[0][0]
                return (
                    f"{self.sweep.name}: its runs were made with different values of {key}: {counted}; ask for one, as "
                    f"in {key}={common}, with replace=true to move those with another aside"
                )
        return ""

    @cached_property
    def _baseline(self) -> Config | None:
        """The config of the baseline, by which the machine decides for all rows; None where it cannot be composed."""
        try:
            return composing.compose_resolved(runs.overrides(self.sweep, self.sweep.baseline, 0, self.extra))
        except UserError:  # which whoever composes the rows says of this one
            return None

    @cached_property
    def _known(self) -> dict[str, Any]:
        """The values that runs in the folder have, or else committed records."""
        values = {}
        if self.stored and self._made.keys() < RULES.keys():
            values = _first(_in_records(self.paths.reports / self.sweep.name, self._left_open))
        return values | {key: counted.most_common(1)[0][0] for key, counted in self._made.items()}

    @cached_property
    def _made(self) -> dict[str, Counter[Any]]:
        """How many runs in the folder have which value, of each key that any has."""
        counted: dict[str, Counter[Any]] = {}
        for key, value in self._in_folder():
            counted.setdefault(key, Counter())[value] += 1
        return counted

    def _in_folder(self) -> Iterator[tuple[str, Any]]:
        if not (self.paths.runs / self.sweep.name).is_dir():
            return
        blocks = SharedBlocks()
        for row, keys in self._left_open.items():
            for seed in range(self.sweep.seeds_of(row)):
                folder = RunFolder(run_path(self.paths.runs, self.sweep.name, row, seed))
                yield from _in_config(folder, keys, blocks)

    @cached_property
    def _left_open(self) -> dict[str, set[str]]:
        """The keys that each row leaves to the sweep: those that its own overrides do not set."""
        return {
            row: {key for key in RULES if not {key, key.partition(".")[0]} & {*map(key_of, overrides)}}
            for row, overrides in self.sweep.rows.items()
        }


def settled(cfg: DictConfig) -> DictConfig:
    """The config of one run with every "auto" settled: as in its sweep, where it is a row of a sweep file.

    What is "auto" in none is returned as it is, another one with its interpolations followed.
    """
    return composing.restored(_of_sweep_or_alone(composing.resolve(plain(cfg)))) if unsettled(cfg) else cfg


def _of_sweep_or_alone(config: Config) -> Config:
    name, row, paths = config["sweep"], config["row"], Paths.in_config(config)
    if inheritance.find(name, paths.sweeps) is not None and row in (sweep := definition.load(name, paths.sweeps)).rows:
        return Settled(sweep, paths).of(config)
    seed = config["seed"]["base"]
    in_records = _in_records(paths.reports / name, {row: {*RULES}}, seed)
    in_folder = _in_config(RunFolder(run_path(paths.runs, name, row, seed)), RULES, SharedBlocks())
    return settle(config, by_machine(config, jobs=1) | _first(in_records) | _first(in_folder))


def _first(found: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """The first value of each key, read no further than where all are known."""
    values: dict[str, Any] = {}
    for key, value in found:
        values.setdefault(key, value)
        if len(values) == len(RULES):
            break
    return values


def _in_config(folder: RunFolder, keys: Iterable[str], blocks: SharedBlocks) -> Iterator[tuple[str, Any]]:
    """What a run's config.yaml has of `keys`; nothing where it cannot be read, which others say."""
    try:
        config = folder.read_config(blocks.parse)
    except UserError:
        return
    yield from _usable(config or {}, keys)


def _in_records(folder: Path, left_open: Mapping[str, set[str]], seed: int | None = None) -> Iterator[tuple[str, Any]]:
    """What the lines of a report's records.jsonl have of the keys `left_open` of their rows, of one seed or of all."""
    try:
        lines = json_text.read_text(folder / RECORDS, MOST_BYTES).splitlines()
    except (OSError, ValueError):
        return
    for text in lines[1:]:
        try:
            line = json_text.parse(text)
        except ValueError:
            continue
        if isinstance(line, dict) and line.get("row") in left_open and seed in (None, line.get("seed")):
            yield from _usable(line.get("settings"), left_open[line["row"]])


def _usable(config: Any, keys: Iterable[str]) -> Iterator[tuple[str, Any]]:
    for key in keys:
        value = value_of(config, key)
        if value is not None and can_be(key, value):
            yield key, value
