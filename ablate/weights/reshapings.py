"""The few ways in which other libraries lay out a matrix that is made of several of ours.

Each is a pair: `out` makes their tensor from ours, `into` makes ours from theirs. A matrix is (outputs, inputs), a bias
(outputs,); H heads, G groups of heads that share a key and a value, K channels a head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Heads:
    """The numbers of an attention: its heads, and those of its keys and values."""

    n_heads: int
    n_kv_heads: int


Out = Callable[[Sequence[Tensor], Heads], Tensor]
Into = Callable[[Tensor, Sequence[int], Heads], Sequence[Tensor]]  # the second: the outputs of each of ours


def _one_after_the_other(parts: Sequence[Tensor], heads: Heads) -> Tensor:
    return torch.cat([*parts]) if len(parts) > 1 else parts[0]


def _split(tensor: Tensor, outputs: Sequence[int], heads: Heads) -> Sequence[Tensor]:
    return tensor.split([*outputs]) if len(outputs) > 1 else [tensor]


def _transposed(parts: Sequence[Tensor], heads: Heads) -> Tensor:
    joined = _one_after_the_other(parts, heads)
    return joined.T if joined.ndim == 2 else joined


def _split_transposed(tensor: Tensor, outputs: Sequence[int], heads: Heads) -> Sequence[Tensor]:
    return _split(tensor.T if tensor.ndim == 2 else tensor, outputs, heads)


def _by_group(parts: Sequence[Tensor], heads: Heads) -> Tensor:
    """(G (H/G + 2) K,...): the queries of each group, then its key and its value."""
    grouped = [part.unflatten(0, (heads.n_kv_heads, -1)) for part in parts]
    return torch.cat(grouped, 1).flatten(0, 1)


def _split_by_group(tensor: Tensor, outputs: Sequence[int], heads: Heads) -> Sequence[Tensor]:
    grouped = tensor.unflatten(0, (heads.n_kv_heads, -1))
    return [part.flatten(0, 1) for part in grouped.split([width // heads.n_kv_heads for width in outputs], 1)]


@dataclass(frozen=True)
class Reshaping:
    """How ours become theirs, and back."""

    out: Out
    into: Into


RESHAPINGS = {
    "rows": Reshaping(_one_after_the_other, _split),  # our outputs one after the other
    "transpose": Reshaping(_transposed, _split_transposed),  # the same, (inputs, outputs)
    "by_group": Reshaping(_by_group, _split_by_group),  # group by group; with a key for each head, head by head
}
