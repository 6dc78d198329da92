"""What configurations cost: of one, and of many, counted on all cores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

from ablate.data.cpu_count import cores
from ablate.errors import UserError
from ablate.orphans import die_with_parent


def costs(configs: Sequence[Any]) -> Iterator[dict[str, Any] | UserError]:
    """`ablate.cost.cost` of each, in order, or why it cannot be built.

    Processes are forked before torch is loaded, which each does once.
    They die with this process, however it ends.
    """
    workers = min(cores(), len(configs))
    with ProcessPoolExecutor(workers, get_context("fork"), initializer=die_with_parent) as pool:
        yield from pool.map(_cost, configs)


def count(config: Any) -> dict[str, Any]:
    """`ablate.cost.cost` of a config."""
    from ablate.cost import cost

    return cost(config)


def _cost(config: Any) -> dict[str, Any] | UserError:
    try:
        return count(config)
    except UserError as error:
        return error
