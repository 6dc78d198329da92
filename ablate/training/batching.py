"""The micro-batches that one rank trains on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

from ablate.config.batch import Share


class Steps:
    """The micro-batches of one rank, a list a step, from a step on and without end.

    `micro(step, index, count)` gives slice `index` of `count` of the global batch of `step`: a pure function, so that
    there is no state to save.
    """

    def __init__(
        self, micro: Callable[[int, int, int], dict[str, Tensor]], shared: Share, rank: int, start: int
    ) -> None:
        self.micro, self.share, self.rank, self.start = micro, shared, rank, start

    def __iter__(self) -> Iterator[list[dict[str, Tensor]]]:
        step = self.start
        while True:
            yield [self.micro(step, index, self.share.count) for index in self.share.slices(self.rank)]
            step += 1
