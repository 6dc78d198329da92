"""Position encodings: four hooks, of which an option uses those it needs.

``add`` to a stack's input, ``rotate`` queries and keys, ``bias`` the attention scores, ``mix`` into the attention's
output what follows from its weights. Cross-attention has no position.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from ablate.errors import UserError
from ablate.model.contract import CAUSAL, Context, Parts, Place, View, declare
from ablate.ranges import COUNT, FRACTION, AddedKeys, Ranges, Relations, above, covers, whole

ADD, ROTATE, BIAS, MIX = "add", "rotate", "bias", "mix"
QUERIES = "queries"  # a bias computed from the queries, which not every attention has


class Position(nn.Module):
    """The four hooks, each doing nothing; ``needs`` names those that an option uses, QUERIES if ``bias`` reads them.

    ``longest``: the most tokens of a sequence that it can place; None for any number. ``score_scale``: what queries are
    multiplied by before they come here, which the attention sets. A class that declares
    ``incremental`` (`ablate.model.cache`) reads the positions of the queries, and where ``view.keys`` is set those of
    the keys, from the view: T of the shapes below is then S on the side of the keys.
    """

    needs: frozenset[str] = frozenset()
    longest: int | None = None
    score_scale: float = 1.0

    def __init__(self, parts: Parts, place: Place, *, n_heads: int, head_dim: int):
        super().__init__()

    @staticmethod
    def shared_by(place: Place, n_heads: int, head_dim: int, options: Mapping[str, Any]) -> tuple[Hashable, ...]:
        """Places with the same key share one module: by default one for each stack and head count."""
        return place.stack, n_heads, head_dim

    def add(self, x: Tensor, view: View) -> Tensor:
        """x (B,T,D) with the position added: called once, at the input of a stack."""
        return x

    def rotate(self, q: Tensor, k: Tensor, ctx: Context) -> tuple[Tensor, Tensor]:
        """q (B,H,T,K) and k (B,G,T,K), rotated by their positions."""
        return q, k

    def bias(self, q: Tensor, ctx: Context) -> Tensor | None:
        """(1 or B,H,T,T), added to the scores; q (B,H,T,K) is already scaled."""
        return None

    def by_distance(self, length: int, ctx: Context) -> Tensor | None:
        """The bias as a table (H,2T-1) of distances (`distances`), where it depends on nothing else; else None."""
        return None

    def mix(self, weights: Tensor, view: View) -> Tensor | None:
        """(B,H,T,K), added to each head's output; weights (B,H,T,T) are the attention's."""
        return None


def relative_buckets(distance: Tensor, *, bidirectional: bool, n_buckets: int, max_distance: int) -> Tensor:
    """T5's bucket of each distance (key index - query index): exact if near, logarithmic up to `max_distance`.

    Bidirectional: half the buckets are for earlier keys, half for later ones; else later keys are all in bucket 0.
    """
    bucket = torch.zeros_like(distance)
    if bidirectional:
        n_buckets //= 2
        bucket = bucket + (distance > 0) * n_buckets
        distance = distance.abs()
    else:
        distance = (-distance).clamp_min(0)
    exact = n_buckets // 2  # distances below it have a bucket each
    # From there on, bucket = exact + (n - exact) log(distance / exact) / log(max_distance / exact), rounded down.
    ratio = torch.log(distance.float().clamp_min(1) / exact) / math.log(max_distance / exact)
    steps = (
        ratio * (n_buckets - exact) + 1e-5
    ).long()  # powers of two are on an edge: round them alike on every device
    far = (exact + steps).clamp_max(n_buckets - 1)
    return bucket + torch.where(distance < exact, distance, far)


def check_buckets(n_buckets: int, max_distance: int) -> None:
    """Raise UserError for too few buckets, and for a `max_distance` that leaves nothing to the logarithmic ones."""
    if n_buckets < 4:
        raise UserError(f"position.n_buckets={n_buckets}: must be at least 4, half of them for each direction")
    if max_distance <= n_buckets // 2:
        raise UserError(
            f"position.max_distance={max_distance} must be above {n_buckets // 2}, up to which "
            f"each distance has a bucket of its own (half of position.n_buckets={n_buckets})"
        )


def distances(length: int, device: torch.device) -> Tensor:
    """(2T-1,): the distances key - query of a sequence, from -(T-1) to T-1."""
    return torch.arange(1 - length, length, device=device)


def spread_distances(by_distance: Tensor, length: int) -> Tensor:
    """(..., 2T-1) values by distance -> (..., T, T): entry [q, k] is the value of distance k - q."""
    at = torch.arange(length, device=by_distance.device)
    return by_distance[..., at[None, :] - at[:, None] + length - 1]


class RelativeBias(Position):
    """T5's learned bias by bucketed distance (Raffel et al. 2020): a table (H,buckets) for each stack or layer."""

    ranges: ClassVar[Ranges] = {"n_buckets": COUNT, "max_distance": COUNT}
    needs = frozenset({BIAS})
    incremental = True

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

    def bias(self, q: Tensor, ctx: Context) -> Tensor | None:
        if ctx.view.keys is not None:
            by_pair = lambda: self._values(ctx.view.distances(), ctx.view.order)  # (H,B or 1,T,S)  # noqa: E731
            return ctx.shared(self.key, lambda: by_pair().transpose(0, 1))
        return ctx.shared(self.key, lambda: self._table(q.shape[2], ctx.view.order))

    def by_distance(self, length: int, ctx: Context) -> Tensor | None:
        values = lambda: self._values(distances(length, self.table.device), ctx.view.order)  # noqa: E731
        return ctx.shared(f"{self.key}/by_distance", values)

    def _table(self, length: int, order: str) -> Tensor:
        """(1,H,T,T): each of the 2T-1 distances is looked up once, then spread over the pairs of tokens."""
        return spread_distances(self._values(distances(length, self.table.device), order), length)[None]

    def _values(self, distance: Tensor, order: str) -> Tensor:
        """(H,...): each head's bias for each distance (...)."""
        buckets = relative_buckets(
            distance,
            bidirectional=order != CAUSAL,
            n_buckets=self.table.shape[1],
            max_distance=self.max_distance,
        )
        return self.table[:, buckets]


class NoPosition(Position):
    """No position at all."""


class Learned(Position):
    """A learned vector for each position, added to the input (Gehring et al. 2017); a table (``max_length``,D).

    ``tie`` lists the stacks that share one table: those that share their embeddings, as in mesh-tensorflow.
    ``offset`` rows more are at the table's front and never used: position 0 has row ``offset``, as in OPT and BART, and
    in RoBERTa, which counts the tokens that are not padding from the row behind that of padding, its token 1.
    Raises UserError for a sequence longer than ``max_length``.
    """

    ranges: ClassVar[Ranges] = {"max_length": COUNT, "offset": whole(0)}
    added_keys: ClassVar[AddedKeys] = {"offset": 0}
    relations: ClassVar[Relations] = {"max_length": covers("objective.length")}
    needs = frozenset({ADD})
    incremental = True

    def __init__(
        self,
        parts: Parts,
        place: Place,
        *,
        n_heads: int,
        head_dim: int,
        max_length: int,
        tie: Sequence[str],
        offset: int = 0,
    ):
        super().__init__(parts, place, n_heads=n_heads, head_dim=head_dim)
        self.longest, self.offset = max_length, offset
        self.table = declare(
            nn.Parameter(torch.empty(max_length + offset, parts.d_model)),
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
            return x + nn.functional.embedding(view.positions + self.offset, self.table)
        max_length = len(self.table) - self.offset
        if view.length > max_length:
            raise UserError(f"a sequence of {view.length} tokens is longer than position.max_length={max_length}")
        return x + self.table[self.offset : self.offset + view.length]


class Sinusoidal(Position):
    """Sines and cosines of the position, added to the input (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762).

    Sines are in the first half of the channels, cosines in the second (tensor2tensor, Marian), or ``interleaved``, as
    the paper prints it. Wavelengths grow geometrically from 2 pi to 2 pi ``max_timescale``; ``endpoint``: the last one
    has that length, as in tensor2tensor and mesh-tensorflow, else it is what the next one would have, as in the paper
    and Marian: 2 pi max_timescale^(2i/D) for pair i.
    """

    ranges: ClassVar[Ranges] = {"max_timescale": above(1)}
    added_keys: ClassVar[AddedKeys] = {"interleaved": False, "endpoint": True}
    needs = frozenset({ADD})
    incremental = True

    def __init__(
        self,
        parts: Parts,
        place: Place,
        *,
        n_heads: int,
        head_dim: int,
        max_timescale: float,
        interleaved: bool = False,
        endpoint: bool = True,
    ):
        super().__init__(parts, place, n_heads=n_heads, head_dim=head_dim)
        self.max_timescale, self.interleaved, self.endpoint = max_timescale, interleaved, endpoint

    def add(self, x: Tensor, view: View) -> Tensor:
        places, width = view.place_indices(), x.shape[-1]
        added = sinusoids(places, width, self.max_timescale, endpoint=self.endpoint, interleaved=self.interleaved)
        return x + added.to(x.dtype)


def sinusoids(
    positions: Tensor, width: int, max_timescale: float, *, endpoint: bool = True, interleaved: bool = False
) -> Tensor:
    """(...,) positions -> (..., width): sines, then cosines, or one after the other; a zero if the width is odd."""
    half = width // 2
    steps = max(half - 1, 1) if endpoint else half
    rates = torch.exp(torch.arange(half, device=positions.device) * (-math.log(max_timescale) / steps))
    angles = positions.unsqueeze(-1).float() * rates
    pairs = torch.stack((angles.sin(), angles.cos()), -1 if interleaved else -2).flatten(-2)
    return nn.functional.pad(pairs, (0, width % 2))


class Contextual(Position):
    """A bias q . k_b by query and bucketed distance b, with a table (H,K,buckets) in each layer: the paper's "relative
    position representation" as its library runs it."""

    ranges: ClassVar[Ranges] = {"n_buckets": COUNT, "max_distance": COUNT}
    needs = frozenset({BIAS, QUERIES})
    incremental = True

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
        by_bucket = q @ self.table.to(q.dtype)  # (B,H,T,K) x (H,K,buckets) -> (B,H,T,buckets)
        return by_bucket.gather(-1, self._buckets(q, ctx.view).expand(*q.shape[:2], -1, -1))

    def _buckets(self, q: Tensor, view: View) -> Tensor:
        """(T,T) or (B or 1,1,T,S): the bucket of each pair of query and key."""
        length = q.shape[2]
        buckets = relative_buckets(
            distances(length, q.device) if view.keys is None else view.distances()[:, None],
            bidirectional=view.order != CAUSAL,
            n_buckets=self.table.shape[2],
            max_distance=self.max_distance,
        )
        return spread_distances(buckets, length) if view.keys is None else buckets


class RelativeRepresentation(Position):
    """Learned vectors by clipped distance on keys and on values (Shaw et al. 2018, https://arxiv.org/abs/1803.02155).

        scores[q, k] += query[q] . A_K[d],   output[q] += sum_k weights[q, k] A_V[d],   d = clip(k - q)

    Tables A_K and A_V (2 clip + 1, K) in each layer, shared by the heads.
    """

    needs = frozenset({BIAS, MIX, QUERIES})
    incremental = True

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

    def _index(self, length: int, view: View) -> Tensor:
        """(T,T) or (B or 1,1,T,S): the row of the tables for each pair of query and key."""
        if view.keys is not None:
            return self._row(view.distances()[:, None])
        return spread_distances(self._row(distances(length, view.ids.device)), length)

    def _row(self, distance: Tensor) -> Tensor:
        return distance.clamp(-self.clip, self.clip) + self.clip

    def bias(self, q: Tensor, ctx: Context) -> Tensor:
        # one product with each of the 2 clip + 1 vectors, (B,H,T,2 clip + 1), instead of one with each pair's vector
        by_distance = q @ self.keys.to(q.dtype).T
        return by_distance.gather(-1, self._index(q.shape[2], ctx.view).expand(*q.shape[:2], -1, -1))

    def mix(self, weights: Tensor, view: View) -> Tensor:
        # the weights summed by distance, (B,H,T,2 clip + 1), then one product with the vectors
        index = self._index(weights.shape[-1], view).expand_as(weights)
        sums = torch.zeros(*weights.shape[:-1], self.values.shape[0], device=weights.device)
        by_distance = sums.scatter_add(-1, index, weights.float())  # many pairs share a clipped end
        return by_distance.to(weights.dtype) @ self.values.to(weights.dtype)


class Rotary(Position):
    """Queries and keys rotated by angles proportional to the position (Su et al. 2021,
    https://arxiv.org/abs/2104.09864).

    The first ``channels`` of each head, or if null the first ``fraction`` of them, are rotated, in pairs:
    ``interleaved`` pairs neighbours (the paper's form, GPT-J), else channel i with channel i + half (GPT-NeoX, LLaMA in
    transformers); ``base`` sets the lowest frequency. Subclasses stretch the angles (`ablate.model.rotary_scaling`).
    Raises UserError if the number of rotated channels is odd, 0 or above that of a head, and if both numbers are given.
    """

    ranges: ClassVar[Ranges] = {"base": above(1), "fraction": FRACTION, "channels": COUNT}
    added_keys: ClassVar[AddedKeys] = {"channels": None}
    needs = frozenset({ROTATE})
    incremental = True

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
        channels: int | None = None,
    ):
        super().__init__(parts, place, n_heads=n_heads, head_dim=head_dim)
        if channels is not None and fraction != 1.0:
            raise UserError(f"position.channels={channels} and position.fraction={fraction:g}: give one of them")
        self.width = int(head_dim * fraction) if channels is None else channels
        if self.width < 2 or self.width % 2 or self.width > head_dim:
            given = f"fraction={fraction:g}" if channels is None else f"channels={channels}"
            raise UserError(f"position.{given}: rotary needs pairs of channels, not {self.width} of {head_dim}")
        self.base, self.interleaved = base, interleaved
        self.cos, self.sin = parts.unique("rotary_cos"), parts.unique("rotary_sin")

    def rotate(self, q: Tensor, k: Tensor, ctx: Context) -> tuple[Tensor, Tensor]:
        cos = cast(Tensor, ctx.shared(self.cos, lambda: self._scaled(self._angles(ctx.view).cos()).to(q.dtype)))
        sin = cast(Tensor, ctx.shared(self.sin, lambda: self._scaled(self._angles(ctx.view).sin()).to(q.dtype)))
        return self._turn(q, cos, sin), self._turn(k, cos, sin)

    def rates(self, device: torch.device) -> Tensor:
        """(n,), float32: by what angle each of the n pairs turns at a step; pair i by base^(-i/n)."""
        return self.base ** (-torch.arange(0, self.width, 2, device=device).float() / self.width)

    def magnitude(self) -> float:
        """What the rotated channels of queries and of keys are multiplied by."""
        return 1.0

    def _scaled(self, x: Tensor) -> Tensor:
        return x if self.magnitude() == 1.0 else x * self.magnitude()

    def _angles(self, view: View) -> Tensor:
        """(1 or B,1,T,n), float32."""
        return view.place_indices()[:, None, :, None].float() * self.rates(view.ids.device)

    def _turn(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """x (B,H,T,K) with each pair (a, b) of channels rotated: (a cos - b sin, b cos + a sin)."""
        turned, rest = x[..., : self.width], x[..., self.width :]
        if self.interleaved:
            a, b = turned[..., 0::2], turned[..., 1::2]
            turned = torch.stack((a * cos - b * sin, b * cos + a * sin), -1).flatten(-2)
        else:
            a, b = turned.chunk(2, -1)
            turned = torch.cat((a * cos - b * sin, b * cos + a * sin), -1)
        return torch.cat((turned, rest), -1) if rest.shape[-1] else turned


class ALiBi(Position):
    """A penalty proportional to the distance, with a fixed slope for each head (Press et al. 2022,
    https://arxiv.org/abs/2108.12409); symmetric if later tokens are visible."""

    needs = frozenset({BIAS})
    incremental = True
    slopes: Tensor

    def __init__(self, parts: Parts, place: Place, *, n_heads: int, head_dim: int):
        super().__init__(parts, place, n_heads=n_heads, head_dim=head_dim)
        self.register_buffer("slopes", torch.tensor(alibi_slopes(n_heads)), persistent=False)
        self.key = parts.unique("alibi")

    def bias(self, q: Tensor, ctx: Context) -> Tensor | None:
        view, length = ctx.view, q.shape[2]
        if view.keys is not None:
            return ctx.shared(self.key, lambda: -view.distances().abs()[:, None] * self.slopes[:, None, None])
        return ctx.shared(self.key, lambda: spread_distances(self._table(length), length)[None])

    def by_distance(self, length: int, ctx: Context) -> Tensor | None:
        return ctx.shared(f"{self.key}/by_distance", lambda: self._table(length))

    def _table(self, length: int) -> Tensor:
        """(H,2T-1)."""
        return -distances(length, self.slopes.device).abs() * self.slopes[:, None]


def alibi_slopes(n_heads: int) -> list[float]:
    """2^(-8 i / H), i = 1..H, if H is a power of two; else those of the power below and half of those above."""
    power = 2 ** int(math.log2(n_heads))
    slopes = [2 ** (-8 * (i + 1) / power) for i in range(power)]
    if power < n_heads:
        slopes += [2 ** (-8 * (i + 1) / (2 * power)) for i in range(0, 2 * (n_heads - power), 2)]
    return slopes
