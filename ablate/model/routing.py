"""Which token goes where: tokens are sorted into the places of their experts, and taken back, by gathers alone.

    tokens (N,D) --dispatch--> places (E,G*C,D) --the experts' networks--> places (E,G*C,D) --collect--> tokens (N,D)

Shapes: G groups of S tokens (N = G*S), E experts, C places of an expert for each group, R choices of a token. A group
shares the places; what finds no place is left out. Nothing of the size tokens x experts x places is made.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def group_size(tokens: int, at_most: int) -> int:
    """The tokens of a group, where `tokens` are cut into as few equal groups of about `at_most` as come out whole."""
    groups = max(1, tokens // at_most)
    while tokens % groups:
        groups += 1
    return tokens // groups


def capacity_of(group: int, experts: int, factor: tuple[int, int], at_least: int) -> int:
    """The places that an expert has for a group: `factor`, a fraction, times its even share of the tokens."""
    numerator, denominator = factor
    return max(at_least, min(group, group * numerator // (denominator * experts)))


@dataclass
class Plan:
    """Where the tokens' choices stand: each place is filled by at most one of them.

    ``place (N,R)`` of each choice among the E*G*C; ``placed (N,R)``, whether it found one; ``choice (E*G*C)``: the
    choice n*R + r that fills each place; ``filled (E*G*C)``, whether one does.
    """

    place: Tensor
    placed: Tensor
    choice: Tensor
    filled: Tensor

    def dispatch(self, x: Tensor) -> Tensor:
        """x (N,D) -> (E*G*C,D); what stands in a place that is not filled is arbitrary."""
        return Taken.apply(x, self.choice // self.place.shape[1], self.place, self.placed)

    def collect(self, y: Tensor, weights: Tensor) -> Tensor:
        """y (E*G*C,D), weights (N,R) -> (N,D): the weighted sum of what each token's choices gave."""
        taken = Taken.apply(y, self.place.flatten(), self.choice[:, None], self.filled[:, None])
        weights = (weights * self.placed).to(y.dtype)
        return (taken.view(*self.place.shape, -1) * weights.unsqueeze(-1)).sum(1)


def plan(chosen: Tensor, experts: int, capacity: int) -> Plan:
    """Give places to choices (G,S,R), in which `experts` stands for none.

    All first choices of a group come before any second, each in the order of the tokens (Lepikhin et al. 2020,
    https://arxiv.org/abs/2006.16668).
    """
    groups, size, choices = chosen.shape
    flat = chosen.transpose(1, 2).reshape(groups, choices * size)
    wanted, order = flat.sort(dim=1, stable=True)
    counts = flat.new_zeros(groups, experts + 1).scatter_add(1, flat, torch.ones_like(flat))
    starts = counts.cumsum(1) - counts
    at = torch.arange(choices * size, device=flat.device)
    rank = torch.empty_like(flat).scatter(1, order, at - starts.gather(1, wanted))

    group = torch.arange(groups, device=flat.device)[:, None]
    placed = (rank < capacity) & (flat < experts)
    place = ((flat * groups + group) * capacity + rank).where(placed, 0)

    at = torch.arange(capacity, device=flat.device)
    filled = at < counts[:, :experts, None]
    first = (starts[:, :experts, None] + at).clamp_max(choices * size - 1)
    source = order.gather(1, first.flatten(1)).view_as(filled)
    choice = (group[..., None] * size + source % size) * choices + source // size

    by_token = lambda t: t.view(groups, choices, size).transpose(1, 2).reshape(-1, choices)  # noqa: E731
    by_expert = lambda t: t.transpose(0, 1).flatten()  # noqa: E731
    return Plan(by_token(place), by_token(placed), by_expert(choice), by_expert(filled))


class Taken(torch.autograd.Function):
    """x[rows] where it is known which of the rows taken, `sources (len(x),R)` if `valid`, each row of x became.

    So the gradient is a gather as well: no atomic additions, the same bits each time.
    """

    @staticmethod
    def forward(ctx, x: Tensor, rows: Tensor, sources: Tensor, valid: Tensor) -> Tensor:
        ctx.save_for_backward(sources, valid)
        return x[rows]

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        sources, valid = ctx.saved_tensors
        return (gradient[sources] * valid.unsqueeze(-1)).sum(1), None, None, None
