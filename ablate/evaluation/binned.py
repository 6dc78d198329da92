"""Means over targets in bins, such as stretches of positions, with standard errors over sequences.

    amounts of a batch (B,T) -> sums of each sequence in each bin (B,bins) -> moments (6,bins) -> means and errors

Moments add up over batches and processes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ablate.evaluation.contract import Batch

MOMENTS = 6


def scored(batch: Batch) -> Tensor:
    """Whether each target of a batch counts, bool (B,T): its weight is not 0."""
    targets = batch["targets"]
    return batch["weights"] > 0 if "weights" in batch else torch.ones_like(targets, dtype=torch.bool)


def by_sequence(amounts: Tensor, counts: Tensor, bin_of: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """The sum of the `amounts` that count, and their number, of each sequence in each bin: two float64 (B,bins).

    amounts (B,T); counts (B,T) bool; bin_of, whole numbers below `bins`, (B,T) or (T,).
    """
    index = bin_of.expand(amounts.shape)
    sums = amounts.new_zeros(len(amounts), bins, dtype=torch.float64)
    sums = sums.scatter_add(1, index, (amounts * counts).double())
    return sums, torch.zeros_like(sums).scatter_add(1, index, counts.double())


def moments(amounts: Tensor, counts: Tensor) -> Tensor:
    """What `Means` needs of sequences, as sums over them: (6,bins).

    In the order of the rows: amounts n, targets c, n², n c, c², and the number of sequences with a target in the bin.
    """
    parts = (amounts, counts, amounts * amounts, amounts * counts, counts * counts, (counts > 0).double())
    return torch.stack([part.sum(0) for part in parts])


@dataclass(frozen=True)
class Means:
    """The mean a target of each bin, and its standard error over sequences, each (bins,); NaN where there is none."""

    mean: Tensor
    error: Tensor
    targets: Tensor
    sequences: Tensor

    @classmethod
    def of(cls, moments: Tensor) -> Means:
        """The means that follow from the `moments` (6,bins) of all sequences."""
        total, counts, total2, both, counts2, sequences = moments
        mean = total / counts
        # The standard error of a ratio of sums, r = Σn / Σc, over N sequences: the residuals n - r c have the mean 0,
        # so SE² = N / (N - 1) Σ(n - r c)² / (Σc)², with Σ(n - r c)² = Σn² - 2 r Σn c + r² Σc². All are (bins,).
        residuals = (total2 - 2 * mean * both + mean * mean * counts2).clamp(min=0)
        error = (sequences / (sequences - 1) * residuals).sqrt() / counts
        return cls(mean, error, counts, sequences)

    @property
    def filled(self) -> list[int]:
        """The bins with targets."""
        return [number for number, count in enumerate(self.targets.tolist()) if count > 0]

    def error_of(self, number: int) -> float | None:
        """The standard error of one bin; None where one sequence is all there is."""
        return self.error[number].item() if self.sequences[number] > 1 else None


def stretches(length: int, bins: int, device: torch.device | None = None) -> Tensor:
    """(T,): which of `bins` equal stretches of `length` positions each of them belongs to, floor(t bins / T)."""
    return torch.arange(length, device=device) * bins // length


def ends(length: int, bins: int) -> list[int]:
    """The last position of each stretch, counted from 1."""
    return [-(-(number + 1) * length // bins) for number in range(bins)]
