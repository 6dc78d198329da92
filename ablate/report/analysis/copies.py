"""Rows that are another row in other words: their runs have the same identities.

Such are a row that repeats the baseline (norm=layernorm), two points of a grid that are one (0.01 and '0.010'), or a
row that an override of the whole sweep has made equal to the baseline. A copy agrees with its original far better
than two rows do, and would make the noise look smaller than it is, and other rows different that are not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ablate.report.analysis.results import identity_schema
from ablate.run.record import DONE

Identity = tuple[str, int]  # with the schema under which it was made


def copies(runs: Mapping[str, Sequence[dict[str, Any]]]) -> dict[str, str]:
    """The rows all of whose finished runs that could be are those of one earlier row, each with the label of that row.

    `runs` maps labels to records, the baseline first. A run whose seed the earlier row lacks says nothing.
    """
    owner: dict[Identity, str] = {}
    seeds: dict[str, set[int]] = {}
    found: dict[str, str] = {}
    for label, records in runs.items():
        mine = {record["seed"]: _identity(record) for record in records if record["status"] == DONE}
        originals = {owner[identity] for identity in mine.values() if identity in owner}
        if len(originals) == 1:
            (original,) = originals
            if all(identity in owner for seed, identity in mine.items() if seed in seeds[original]):
                found[label] = original
                continue
        seeds[label] = set(mine)
        owner |= {identity: label for identity in mine.values() if identity[0] and identity not in owner}
    return found


def _identity(record: dict[str, Any]) -> Identity:
    return str(record.get("identity") or ""), identity_schema(record)
