"""How a model knows where a token stands: four hooks, of which an option uses those it needs.

``add`` to a stack's input, ``rotate`` queries and keys, ``bias`` on the attention scores, ``mix`` into the attention's
output from its weights. Cross-attention has no position.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ablate.errors import UserError
from ablate.model.contract import CAUSAL, Context, Parts, Place, View, declare
from ablate.ranges import COUNT, FRACTION, Ranges, Relations, above, covers

ADD, ROTATE, BIAS, MIX = "add", "rotate", "bias", "mix"
QUERIES = "queries"  # a bias that is made from the queries themselves, which not every attention has


class Position(nn.Module):
    """The four hooks, each doing nothing; ``needs`` names those that an option uses, QUERIES where bias reads them."""

    needs: frozenset[str] = frozenset()

    def __init__(self, parts: Parts, place: Place, *, n_heads: int, head_dim: int):
        super().__init__()

    @staticmethod
    def shared_by(place: Place, n_heads: int, head_dim: int, options: Mapping[str, Any]) -> tuple[Hashable, ...]:
        """Places with the same key share one module: here one for each stack and head count."""
        return place.stack, n_heads, head_dim

    def add(self, x: Tensor, view: View) -> Tensor:
        """x (B,T,D) with the position added: called once, at the input of a stack."""
        return x

    def rotate(self, q: Tensor, k: Tensor, view: View) -> tuple[Tensor, Tensor]:
        """q (B,H,T,K) and k (B,G,T,K) turned by their positions."""
        return q, k

    def bias(self, q: Tensor, ctx: Context) -> Tensor | None:
        """(1 or B,H,T,T), added to the scores; q (B,H,T,K) is scaled already."""
        return None

    def mix(self, weights: Tensor, view: View) -> Tensor | None:
        """(B,H,T,K), added to each head's output; weights (B,H,T,T) are the attention's."""
        return None


def relative_buckets(distance: Tensor, *, bidirectional: bool, n_buckets: int, max_distance: int) -> Tensor:
    """T5's bucket of each distance (key index - query index): exact when near, logarithmic up to `max_distance`.

    Bidirectional: half the buckets for keys behind, half for keys ahead; else keys ahead all fall in bucket 0.
    """
    bucket = torch.zeros_like(distance)
    if bidirectional:
        n_buckets //= 2
        bucket = bucket + (distance > 0) * n_buckets
        distance = distance.abs()
    else:
        distance = (-distance).clamp_min(0)
    exact = n_buckets // 2
    ratio = torch.log(distance.float().clamp_min(1) / exact) / math.log(max_distance / exact)
    steps = (ratio * (n_buckets - exact) + 1e-5).long()  # powers of two lie on an edge: the same side on every device
    far = (exact + steps).clamp_max(n_buckets - 1)
    return bucket + torch.where(distance < exact, distance, far)


def check_buckets(n_buckets: int, max_distance: int) -> None:
    """Raise UserError where buckets cannot be told apart: too few, or `max_distance` within those of one distance."""
    if n_buckets < 4:
        raise UserError(f"position.n_buckets={n_buckets}: at least 4, half of them for each direction")
    if max_distance <= n_buckets // 2:
        raise UserError(
            f"position.max_distance={max_distance} must be above {n_buckets // 2}, up to which "
            f"each distance has a bucket of its own (half of position.n_buckets={n_buckets})"
        )


def distances(length: int, device: torch.device) -> Tensor:
    """(2T-1,): the distances key - query from -(T-1) to T-1 of a sequence."""
    return torch.arange(1 - length, length, device=device)


def spread_distances(by_distance: Tensor, length: int) -> Tensor:
    """(..., 2T-1) values by distance -> (..., T, T): entry [q, k] is the value of distance k - q."""
    at = torch.arange(length, device=by_distance.device)
    return by_distance[..., at[None, :] - at[:, None] + length - 1]


class RelativeBias(Position):
    """T5's learned bias by bucketed distance (Raffel et al. 2020): a table (H, buckets) for each stack, or each layer."""

    ranges: ClassVar[Ranges] = {"n_buckets": COUNT, "max_distance": COUNT}
    needs = frozenset({BIAS})

    def __init__(
        self,
        parts: Parts,
        place: Place,
        *,
        n_heads: int,
        head_dim: int,
        n_buckets: int,
        max_distance: int,
        per_layer: bool,
    ):
        super().__init__(parts, place, n_heads=n_heads, head_dim=head_dim)
        check_buckets(n_buckets, max_distance)
        self.table = declare(
            nn.Parameter(torch.empty(n_heads, n_buckets)), "relative", fan_in=n_heads, fan_out=n_buckets, place=place
        )
        self.max_distance = max_distance
        self.key = parts.unique("relative_bias")

    @staticmethod
    def shared_by(place: Place, n_heads: int, head_dim: int, options: Mapping[str, Any]) -> tuple[Hashable, ...]:
        return place.stack, n_heads, place.layer if options["per_layer"] else "all"

    def bias(self, q: Tensor, ctx: Context) -> Tensor:
        return ctx.shared(self.key, lambda: self._table(q.shape[2], ctx.view.order))

    def _table(self, length: int, order: str) -> Tensor:
        buckets = relative_buckets(
            distances(length, self.table.device),
            bidirectional=order != CAUSAL,
            n_buckets=self.table.shape[1],
            max_distance=self.max_distance,
        )
        return spread_distances(self.table[:, buckets], length)[None]


class NoPosition(Position):
    """No position at all."""


class Learned(Position):
    """A learned vector for each position, added to the input (Gehring et al. 2017).

    ``tie`` lists the stacks that share one table: those that share their embeddings, as in mesh-tensorflow.
    ``max_length`` bounds the length of a sequence. Raises UserError for a longer one.
    """

    ranges: ClassVar[Ranges] = {"max_length": COUNT}
    relations: ClassVar[Relations] = {"max_length": covers("objective.length")}
    needs = frozenset({ADD})

    def __init__(self, parts: Parts, place: Place, *, n_heads: int, head_dim: int, max_length: int, tie: Sequence[str]):
        super().__init__(parts, place, n_heads=n_heads, head_dim=head_dim)
        self.table = declare(
            nn.Parameter(torch.empty(max_length, parts.d_model)),
            "position_table",
            fan_in=max_length,
            fan_out=parts.d_model,
            place=place,
        )

    @staticmethod
    def shared_by(place: Place, n_heads: int, head_dim: int, options: Mapping[str, Any]) -> tuple[Hashable, ...]:
        return ("tied" if place.stack in options["tie"] else place.stack,)

    def add(self, x: Tensor, view: View) -> Tensor:
        if view.positions is not None:
            return x + nn.functional.embedding(view.positions, self.table)
        if view.length > len(self.table):
            raise UserError(f"a sequence of {view.length} tokens is longer than position.max_length={len(self.table)}")
        return x + self.table[: view.length]


class Sinusoidal(Position):
    """Sines in the first half of the channels, cosines in the second, added to the input (Vaswani et al. 2017).

    Wave lengths grow geometrically from 2 pi to 2 pi ``max_timescale``, the ends included, as mesh-tensorflow has it.
    """

    ranges: ClassVar[Ranges] = {"max_timescale": above(1)}
    needs = frozenset({ADD})

    def __init__(self, parts: Parts, place: Place, *, n_heads: int, head_dim: int, max_timescale: float):
        super().__init__(parts, place, n_heads=n_heads, head_dim=head_dim)
        self.max_timescale = max_timescale

    def add(self, x: Tensor, view: View) -> Tensor:
        return x + sinusoids(view.place_indices(), x.shape[-1], self.max_timescale).to(x.dtype)


def sinusoids(positions: Tensor, width: int, max_timescale: float) -> Tensor:
    """(...,) positions -> (..., width): sines, then cosines."""
    half = width // 2
    rates = torch.exp(torch.arange(half, device=positions.device) * (-math.log(max_timescale) / max(half - 1, 1)))
    angles = positions.unsqueeze(-1).float() * rates
    return nn.functional.pad(torch.cat((angles.sin(), angles.cos()), -1), (0, width % 2))


class Contextual(Position):
    """A bias that depends on the query and the bucketed distance, q . k_bucket: the paper's "relative position
    representation" in the form that its library runs, a table (H,K,buckets) in each layer."""

    ranges: ClassVar[Ranges] = {"n_buckets": COUNT, "max_distance": COUNT}
    needs = frozenset({BIAS, QUERIES})

    def __init__(self, parts: Parts, place: Place, *, n_heads: int, head_dim: int, n_buckets: int, max_distance: int):
        super().__init__(parts, place, n_heads=n_heads, head_dim=head_dim)
        check_buckets(n_buckets, max_distance)
        self.table = declare(
            nn.Parameter(torch.empty(n_heads, head_dim, n_buckets)),
            "relative_key",
            fan_in=head_dim,
            fan_out=n_buckets,
            head_dim=head_dim,
            place=place,
        )
        self.max_distance = max_distance

    @staticmethod
    def shared_by(place: Place, n_heads: int, head_dim: int, options: Mapping[str, Any]) -> tuple[Hashable, ...]:
        return place.stack, place.layer, n_heads

    def bias(self, q: Tensor, ctx: Context) -> Tensor:
        length = q.shape[2]
        buckets = relative_buckets(
            distances(length, q.device),
            bidirectional=ctx.view.order != CAUSAL,
            n_buckets=self.table.shape[2],
            max_distance=self.max_distance,
        )
        by_bucket = q @ self.table.to(q.dtype)
        index = spread_distances(buckets, length).expand(*q.shape[:2], -1, -1)
        return by_bucket.gather(-1, index)


class RelativeRepresentation(Position):
    """Learned vectors by clipped distance on keys and on values (Shaw et al. 2018, https://arxiv.org/abs/1803.02155).

    Tables (2 clip + 1, K), shared by the heads, in each layer.
    """

    needs = frozenset({BIAS, MIX, QUERIES})

    def __init__(self, parts: Parts, place: Place, *, n_heads: int, head_dim: int, clip: int):
        super().__init__(parts, place, n_heads=n_heads, head_dim=head_dim)
        self.clip = clip
        self.keys, self.values = (
            declare(
                nn.Parameter(torch.empty(2 * clip + 1, head_dim)),
                "glorot",
                fan_in=2 * clip + 1,
                fan_out=head_dim,
                place=place,
            )
            for _ in range(2)
        )

    @staticmethod
    def shared_by(place: Place, n_heads: int, head_dim: int, options: Mapping[str, Any]) -> tuple[Hashable, ...]:
        return place.stack, place.layer, head_dim

    def _index(self, length: int, device: torch.device) -> Tensor:
        return spread_distances(distances(length, device).clamp(-self.clip, self.clip) + self.clip, length)

    def bias(self, q: Tensor, ctx: Context) -> Tensor:
        by_distance = q @ self.keys.to(q.dtype).T
        return by_distance.gather(-1, self._index(q.shape[2], q.device).expand(*q.shape[:2], -1, -1))

    def mix(self, weights: Tensor, view: View) -> Tensor:
        index = self._index(weights.shape[-1], weights.device).expand_as(weights)
        sums = torch.zeros(*weights.shape[:-1], self.values.shape[0], device=weights.device)
        by_distance = sums.scatter_add(-1, index, weights.float())  # many add up at the clipped ends
        return by_distance.to(weights.dtype) @ self.values.to(weights.dtype)


class Rotary(Position):
    """Queries and keys turned by angles that grow with the position (Su et al. 2021, https://arxiv.org/abs/2104.09864).

    ``fraction`` of each head's channels is turned, the first ones; ``interleaved`` pairs neighbours (the paper's
    form), else channel i with channel i + half (GPT-NeoX, LLaMA in transformers); ``base`` sets the slowest angle.
    Raises UserError where the turned channels are not an even number.
    """

    ranges: ClassVar[Ranges] = {"base": above(1), "fraction": FRACTION}
    needs = frozenset({ROTATE})

    def __init__(
        self,
        parts: Parts,
        place: Place,
        *,
        n_heads: int,
        head_dim: int,
        base: float,
        fraction: float,
        interleaved: bool,
    ):
        super().__init__(parts, place, n_heads=n_heads, head_dim=head_dim)
        self.width = int(head_dim * fraction)
        if self.width < 2 or self.width % 2:
            raise UserError(f"position.fraction: rotary turns pairs of channels, and {fraction:g} of {head_dim} is odd")
        self.base, self.interleaved = base, interleaved

    def rotate(self, q: Tensor, k: Tensor, view: View) -> tuple[Tensor, Tensor]:
        rates = self.base ** (-torch.arange(0, self.width, 2, device=q.device).float() / self.width)
        angles = view.place_indices()[:, None, :, None].float() * rates
        cos, sin = angles.cos().to(q.dtype), angles.sin().to(q.dtype)
        return self._turn(q, cos, sin), self._turn(k, cos, sin)

    def _turn(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        turned, rest = x[..., : self.width], x[..., self.width :]
        if self.interleaved:
            a, b = turned[..., 0::2], turned[..., 1::2]
            turned = torch.stack((a * cos - b * sin, b * cos + a * sin), -1).flatten(-2)
        else:
            a, b = turned.chunk(2, -1)
            turned = torch.cat((a * cos - b * sin, b * cos + a * sin), -1)
        return torch.cat((turned, rest), -1) if rest.shape[-1] else turned


class ALiBi(Position):
    """A penalty that grows with the distance, by a fixed slope for each head (Press et al. 2022,
    https://arxiv.org/abs/2108.12409); symmetric where later tokens are visible."""

    needs = frozenset({BIAS})

    def __init__(self, parts: Parts, place: Place, *, n_heads: int, head_dim: int):
        super().__init__(parts, place, n_heads=n_heads, head_dim=head_dim)
        self.register_buffer("slopes", torch.tensor(alibi_slopes(n_heads)), persistent=False)
        self.key = parts.unique("alibi")

    def bias(self, q: Tensor, ctx: Context) -> Tensor:
        length = q.shape[2]
        by_distance = lambda: -distances(length, q.device).abs() * self.slopes[:, None]  # noqa: E731
        return ctx.shared(self.key, lambda: spread_distances(by_distance(), length)[None])


def alibi_slopes(n_heads: int) -> list[float]:
    """2^(-8 i / H) for a power of two; else those of the power below, and every other one of the power above."""
    power = 2 ** int(math.log2(n_heads))
    slopes = [2 ** (-8 * (i + 1) / power) for i in range(power)]
    if power < n_heads:
        slopes += [2 ** (-8 * (i + 1) / (2 * power)) for i in range(0, 2 * (n_heads - power), 2)]
    return slopes
