"""Work on several threads whose results come in the order of what they were made from."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    threads: int,
    *,
    size: Callable[[Item], int],
    ahead: int,
) -> Iterator[Result]:
    """function(item) of each item, in the order of the items, computed by so many threads at once.

    Items are taken as long as those that wait or are worked on have a `size` of less than `ahead` in total: one item
    may be larger than that. Raises what `function` raises for the first item for which it does; when the caller goes
    away early, what has begun is waited for and nothing else begins.
    """
    pool = ThreadPoolExecutor(threads)
    waiting: deque[tuple[Future[Result], int]] = deque()
    total = 0
    try:
        for item in items:
            waiting.append((pool.submit(function, item), size(item)))
            total += waiting[-1][1]
            while total >= ahead:
                future, taken = waiting.popleft()
                total -= taken
                yield future.result()
        while waiting:
            yield waiting.popleft()[0].result()
    finally:
        pool.shutdown(cancel_futures=True)
