"""Feed-forward experts: ``f(x (B,T,D), ctx) -> (B,T,D)``, where each token is routed to one or two of E networks."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ablate.errors import UserError
from ablate.model.contract import Context, Linear, Parts, Place, declare
from ablate.model.routing import Plan, capacity_of, group_size, plan
from ablate.ranges import COUNT, Ranges
from ablate.ratio import ratio_of


class Experts(nn.Module):
    """E networks f(x W1) W2 without biases, gated or not as ``activation`` is, and a router that chooses among them.

    Tokens are divided into groups of about ``group_tokens``, across examples, as in training with ``sequences`` at
    once; other batches are filled up with padding. In each group an expert has a capacity of ``capacity`` times its
    even share of the tokens, set by stack and for training and evaluation, but at least ``min_capacity``; a token over
    capacity passes by the residual connection alone. Padding is not routed. ``balance`` is the weight of the auxiliary
    loss that spreads tokens over experts; it is added in evaluation too, never to the exact nll.

    Because a group's tokens compete for capacity, a token's output depends on others if an expert overflows: on other
    examples and documents, and in TopTwo on later tokens. Below capacity tokens are independent. Router and gates are
    float32.

    Raises UserError for fewer experts than choices, and for a width whose ratio is not a whole number.
    """

    ranges: ClassVar[Ranges] = {
        "n_experts": COUNT,
        "d_ff": COUNT,
        "group_tokens": COUNT,
        "sequences": COUNT,
        "min_capacity": COUNT,
    }
    choices = 1
    mixes_segments = True

    def __init__(
        self,
        parts: Parts,
        place: Place,
        *,
        n_experts: int,
        d_ff: int,
        gated_ratio: str,
        group_tokens: int,
        sequences: int,
        capacity: Mapping[str, Mapping[str, float]],
        min_capacity: int,
        balance: float,
    ):
        super().__init__()
        if n_experts < self.choices:
            raise UserError(
                f"n_experts={n_experts}: must be at least {self.choices}, as each token is routed to {self.choices}"
            )
        self.activation = parts.activation(place)
        gated = self.activation.gated
        width = ratio_of(gated_ratio, d_ff, "d_ff (gated_ratio of an expert)", least=1) if gated else d_ff
        self.router = Linear(parts.d_model, n_experts, role="selector", place=place)

        def matrices(d_in: int, d_out: int, role: str) -> nn.Parameter:
            each = nn.Parameter(torch.empty(n_experts, d_in, d_out))
            use = self.choices / n_experts
            return declare(each, role, fan_in=d_in, fan_out=d_out, place=place, use=use)

        self.gate = matrices(parts.d_model, width, "gate") if gated else None
        self.up = matrices(parts.d_model, width, "ffn_in")
        self.down = matrices(width, parts.d_model, "ffn_out")
        self.dropout = nn.Dropout(parts.dropout)
        self.n_experts, self.group_tokens, self.sequences = n_experts, group_tokens, sequences
        # as fractions: the compiler treats a module's integers as constants, but not its floats
        factors = capacity[place.stack].items()
        self.capacity = {mode: Fraction(str(factor)).as_integer_ratio() for mode, factor in factors}
        self.min_capacity, self.balance = min_capacity, balance

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        tokens, present = self.groups(x, ctx.view.present)  # (G,S,D), (G,S)
        _, size, width = tokens.shape
        chosen, weights, balance = self.choose(self.gates(tokens), present)  # (G,S,R), (G,S,R), scalar
        ctx.losses.append(self.balance * balance)
        routes = plan(chosen, self.n_experts, self.places(size))
        y = self.by_experts(tokens.reshape(-1, width), weights.flatten(0, 1), routes)  # (G*S,D)
        return y[: x[..., 0].numel()].view(x.shape)  # without the last group's padding

    def choose(self, gates: Tensor, present: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """gates (G,S,E), present (G,S) -> experts (G,S,R), E for none; their weights (G,S,R); the balance loss."""
        raise NotImplementedError

    def by_experts(self, tokens: Tensor, weights: Tensor, routes: Plan) -> Tensor:
        """tokens (N,D), weights (N,R) -> (N,D): each expert's network on the tokens in its places."""
        h = routes.dispatch(tokens).view(self.n_experts, -1, tokens.shape[-1])
        up = torch.bmm(h, self.up)  # (E,G*C,D) x (E,D,F) -> (E,G*C,F), all experts at once
        h = self.activation(up) if self.gate is None else self.activation(torch.bmm(h, self.gate), up)
        y = torch.bmm(self.dropout(h), self.down)
        return routes.collect(y.flatten(0, 1), weights)

    def gates(self, tokens: Tensor) -> Tensor:
        """(G,S,D) -> (G,S,E), float32: each expert's probability."""
        with torch.autocast("cuda" if tokens.is_cuda else "cpu", enabled=False):
            return self.router(tokens.float()).softmax(-1)

    def groups(self, x: Tensor, present: Tensor | None) -> tuple[Tensor, Tensor]:
        """x (B,T,D) as groups (G,S,D), and which of their tokens are not padding (G,S)."""
        length = x.shape[1]
        x = x.flatten(0, 1)
        present = x.new_ones(x.shape[0], dtype=torch.bool) if present is None else present.flatten()
        size = group_size(self.sequences * length, self.group_tokens)
        if missing := -x.shape[0] % size:  # to a multiple of the group size
            x, present = functional.pad(x, (0, 0, 0, missing)), functional.pad(present, (0, missing))
        return x.unflatten(0, (-1, size)), present.unflatten(0, (-1, size))

    def places(self, size: int) -> int:
        """The capacity C of an expert for a group of `size` tokens."""
        factor = self.capacity["train" if self.training else "eval"]
        return capacity_of(size, self.n_experts, factor, self.min_capacity)

    def lookup_products(self, x: Tensor) -> int:
        """What the routing costs as products: dispatch and combine by masks (G,S,E,C), finding places by (S,S)."""
        size = group_size(self.sequences * x.shape[1], self.group_tokens)
        tokens, width = x[..., 0].numel(), x.shape[-1]
        return tokens * self.n_experts * (2 * width * self.places(size) + self.choices * size)


class TopTwo(Experts):
    """The two best experts of each token, weighted by their gates normalised to sum to 1 (Shazeer et al. 2018,
    https://arxiv.org/abs/1811.02084; GShard, Lepikhin et al. 2020, https://arxiv.org/abs/2006.16668).

    A second choice is kept with probability min(1, its gate / ``threshold``), set for training and evaluation; 0 keeps
    all. Narang et al. ran 0.2 in both; here evaluation keeps all, so that an example's likelihood is deterministic.
    """

    choices = 2

    def __init__(self, parts: Parts, place: Place, *, threshold: Mapping[str, float], **numbers: Any):
        super().__init__(parts, place, **numbers)
        self.threshold = dict(threshold)

    def choose(self, gates: Tensor, present: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        best, chosen = gates.topk(2, dim=-1)
        weights = best / (best.sum(-1, keepdim=True) + 1e-9)
        # first choices against mean gates, both without padding
        balance = balance_loss(share(chosen[..., 0], present, gates), (gates * present.unsqueeze(-1)).mean(1))
        kept = present.unsqueeze(-1).expand_as(chosen)
        if threshold := self.threshold["train" if self.training else "eval"]:
            second = torch.rand_like(weights[..., 1]) < weights[..., 1] / threshold
            kept = kept & torch.stack([torch.ones_like(second), second], -1)
        return chosen.masked_fill(~kept, self.n_experts), weights, balance


class Switch(Experts):
    """The best expert of each token, its output times its gate (Fedus et al. 2021, https://arxiv.org/abs/2101.03961).

    In training the router's inputs are multiplied by noise uniform in 1 +- ``jitter``. As in the authors' library the
    balance loss counts padding in a group's shares, which are then multiplied by the fraction that is not padding.
    """

    def __init__(self, parts: Parts, place: Place, *, jitter: float, **numbers: Any):
        super().__init__(parts, place, **numbers)
        self.jitter = jitter

    def gates(self, tokens: Tensor) -> Tensor:
        if self.training and self.jitter:
            noise = torch.empty_like(tokens, dtype=torch.float32).uniform_(1.0 - self.jitter, 1.0 + self.jitter)
            tokens = tokens * noise
        return super().gates(tokens)

    def choose(self, gates: Tensor, present: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        best, chosen = gates.max(-1, keepdim=True)
        everything = torch.ones_like(present)
        shares = share(chosen[..., 0], everything, gates) * present.float().mean(1, keepdim=True)
        balance = balance_loss(shares, gates.mean(1))
        return chosen.masked_fill(~present.unsqueeze(-1), self.n_experts), best, balance


def share(chosen: Tensor, counted: Tensor, gates: Tensor) -> Tensor:
    """(G,E): the fraction of each group's S tokens that have `chosen` (G,S) each expert and are `counted` (G,S)."""
    groups, size, experts = gates.shape
    return gates.new_zeros(groups, experts).scatter_add(1, chosen, counted.to(gates.dtype)) / size


def balance_loss(shares: Tensor, gates: Tensor) -> Tensor:
    """E^2 times the mean product of shares and mean gates, both (G,E): 1 if tokens are spread evenly."""
    return (shares * gates).mean() * shares.shape[1] ** 2
