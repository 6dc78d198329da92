"""A row of a sweep from the records of its runs."""

from __future__ import annotations

from typing import Any

import numpy as np

from ablate.config.identity import SCHEMA
from ablate.report.analysis.comparability import unlike
from ablate.report.analysis.results import identity_schema, number
from ablate.report.analysis.verdicts import Row, mean, median
from ablate.run.record import DIVERGED, DONE, FAILED, Timing
from ablate.study import expectations


def row_of(planned: dict[str, Any], records: list[dict[str, Any]], seeds: list[int], baseline: str) -> Row:
    """The row that the sweep has `planned`, from the `records` of its runs, over all `seeds` of the sweep."""
    done = [record for record in records if record["status"] == DONE]
    early, final = np.full(len(seeds), np.nan), np.full(len(seeds), np.nan)
    for record in done:
        place = seeds.index(record["seed"])
        early[place] = number(record, "loss", "early")
        final[place] = number(record, "loss", "final")
    known = done or [record for record in records if record.get("parameters")]
    chance = float(np.log(_middle(known, "data", "vocab_size")))
    lost = final > chance
    speeds = [number(record, "steps_per_second", "median") for record in done]
    exclusive = [number(record, "steps_per_second", "exclusive") for record in done]
    tasks = sorted({task for record in done for task in record.get("downstream") or {}})
    made = [(record.get("settings") or {}, record.get("data") or {}, identity_schema(record)) for record in done]
    return Row(
        label=planned["row"],
        section=planned["section"],
        overrides=tuple(planned["overrides"]),
        planned=max(planned["seeds"], len(records)),
        done=len(done),
        diverged=sum(record["status"] == DIVERGED for record in records),
        failed=sum(record["status"] == FAILED for record in records),
        lost=int(lost.sum()),
        rising=int((lost & (final >= early)).sum()),
        chance=chance,
        early=early,
        final=final,
        parameters={kind: _middle(known, "parameters", kind) for kind in ("total", "non_embedding", "active")},
        ops_paper=_middle(known, "ops_paper"),
        flops_per_step=_middle(known, "flops_per_step"),
        steps=_middle(done, "loss", "final_step"),
        speed=median(exclusive) if not np.isnan(median(exclusive)) else median(speeds),
        is_exclusive=not np.isnan(median(exclusive)),
        timing=next(filter(None, map(_timing, done)), None),
        memory=_middle(done, "peak_memory_bytes"),
        bits_per_byte=mean(number(record, "loss", "bits_per_byte") for record in done),
        downstream={task: [number(record, "downstream", task) for record in done] for task in tasks},
        settings=known[0].get("settings") or {} if known else {},
        data=known[0].get("data") or {} if known else {},
        schema=identity_schema(known[0]) if known else SCHEMA,
        rounded=tuple(known[0].get("rounded") or ()) if known else (),
        mixed=next(filter(None, (unlike(run, made[0]) for run in made)), ""),
        control=planned.get("against", baseline),
        counts=planned.get("counts", True),
        expected=expectations.read(planned["expect"], planned["row"]) if "expect" in planned else None,
        only_seeds=bool(planned["overrides"]) and all(map(_is_of_seed, planned["overrides"])),
    )


def _middle(records: list[dict[str, Any]], *keys: str) -> float:
    return median(number(record, *keys) for record in records)


def _timing(record: dict[str, Any]) -> Timing | None:
    """The rounds of the timing pass; records of earlier versions have none."""
    timing = (record.get("steps_per_second") or {}).get("timing")
    return Timing.from_json(timing) if timing else None


def _is_of_seed(override: str) -> bool:
    return override.lstrip("+").partition("=")[0].strip().startswith("seed")
