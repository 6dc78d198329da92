"""Routing: tokens are sorted into the places of their experts, and their outputs collected again, by gathers alone.

    tokens (N,D) --dispatch--> places (E*G*C,D) --the experts' networks--> places (E*G*C,D) --collect--> tokens (N,D)

Shapes: G groups of S tokens (N = G*S), E experts, C places of an expert for each group (its capacity), R choices of a
token. The tokens of a group share its places; a choice over capacity is dropped. No tensor has the size tokens x
experts x places.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


def group_size(tokens: int, at_most: int) -> int:
    """The size of equal groups of `tokens`: tokens // at_most of them, or the next number that divides."""
    groups = max(1, tokens // at_most)
    while tokens % groups:
        groups += 1
    return tokens // groups


def capacity_of(group: int, experts: int, factor: tuple[int, int], at_least: int) -> int:
    """The places C of an expert for a group: `factor`, a fraction, times its even share of the group's tokens."""
    numerator, denominator = factor
    return max(at_least, min(group, group * numerator // (denominator * experts)))


@dataclass
class Plan:
    """The assignment of the tokens' choices to places, in both directions; a place holds at most one choice.

    ``place (N,R)``: the place of each choice, in [0, E*G*C); ``placed (N,R)``: whether it has one; ``choice (E*G*C)``:
    the choice n*R + r in each place; ``filled (E*G*C)``: whether there is one.
    """

    place: Tensor
    placed: Tensor
    choice: Tensor
    filled: Tensor

    def dispatch(self, x: Tensor) -> Tensor:
        """x (N,D) -> (E*G*C,D); the content of places that are not filled is arbitrary."""
        rows: Tensor = Taken.apply(x, self.choice // self.place.shape[1], self.place, self.placed)
        return rows

    def collect(self, y: Tensor, weights: Tensor) -> Tensor:
        """y (E*G*C,D), weights (N,R) -> (N,D): the weighted sum of the outputs of each token's choices."""
        taken: Tensor = Taken.apply(y, self.place.flatten(), self.choice[:, None], self.filled[:, None])
        weights = (weights * self.placed).to(y.dtype)
        return (taken.view(*self.place.shape, -1) * weights.unsqueeze(-1)).sum(1)


def plan(chosen: Tensor, experts: int, capacity: int) -> Plan:
    """Assign places to the choices (G,S,R) of experts, in which the value `experts` means none.

    All first choices of a group take precedence over any second, each in the order of the tokens (Lepikhin et al. 2020,
    https://arxiv.org/abs/2006.16668).
    """
    groups, size, choices = chosen.shape
    flat = chosen.transpose(1, 2).reshape(groups, choices * size)  # (G,R*S): all first choices, then all second ones
    # Sorted by expert (stably), the choices of one expert are consecutive. A choice's rank among those of its expert
    # is its index in the sorted order less the index at which its expert begins.
    sorted_experts, order = flat.sort(dim=1, stable=True)  # (G,R*S) each: the experts, and which choice each came from
    counts = flat.new_zeros(groups, experts + 1).scatter_add(1, flat, torch.ones_like(flat))  # (G,E+1)
    starts = counts.cumsum(1) - counts  # (G,E+1)
    at = torch.arange(choices * size, device=flat.device)
    rank = torch.empty_like(flat).scatter(1, order, at - starts.gather(1, sorted_experts))  # (G,R*S)

    # From choices to places: expert e, group g and rank c have the place (e*G + g)*C + c.
    group = torch.arange(groups, device=flat.device)[:, None]
    placed = (rank < capacity) & (flat < experts)
    place = ((flat * groups + group) * capacity + rank).where(placed, 0)

    # From places to choices: the c-th choice of expert e in the sorted order, (G,E,C).
    at = torch.arange(capacity, device=flat.device)
    filled = at < counts[:, :experts, None]
    first = (starts[:, :experts, None] + at).clamp_max(choices * size - 1)
    source = order.gather(1, first.flatten(1)).view_as(filled)
    choice = (group[..., None] * size + source % size) * choices + source // size  # n*R + r, as source is r*S + s

    by_token = lambda t: t.view(groups, choices, size).transpose(1, 2).reshape(-1, choices)  # noqa: E731
    by_expert = lambda t: t.transpose(0, 1).flatten()  # (G,E,C) -> (E*G*C)  # noqa: E731
    return Plan(by_token(place), by_token(placed), by_expert(choice), by_expert(filled))


class Taken(torch.autograd.Function):
    """x[rows], given its inverse: row i of x went to the rows `sources[i]` (len(x),R) of the result that are `valid`.

    With the inverse the gradient is a gather as well: no atomic additions, and so the same bits each time.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor, sources: Tensor, valid: Tensor) -> Tensor:
        ctx.save_for_backward(sources, valid)
        return x[rows]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        sources, valid = ctx.saved_tensors
        return (gradient[sources] * valid.unsqueeze(-1)).sum(1), None, None, None
