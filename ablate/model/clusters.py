"""Wide vectors for frequent ids, narrow ones for rare ids.

    id        0 ... 2,499   2,500 ... 8,499   8,500 ............... 31,999   32,000 ... 32,127
    cluster   0             1                 2                              special: sentinels and unused ids
    width     D             D/3               D/12                           as cluster 2, or D in one of their own

The numbers are those of the paper's vocabulary. Ids must fall with frequency, as those of our tokenizers do.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn

from ablate.errors import UserError
from ablate.model.contract import Parts, Place, declare
from ablate.model.embedding import Embedding, Product
from ablate.ratio import ratio_of


class Cluster(nn.Module):
    """Vectors for n ids in a table (n,D)."""

    def __init__(self, n: int, d_model: int, place: Place):
        super().__init__()
        self.table = declare(nn.Parameter(torch.empty(n, d_model)), "table", fan_in=n, fan_out=d_model, place=place)

    def forward(self, ids: Tensor) -> Tensor:
        """(B,T) -> (B,T,D)."""
        return nn.functional.embedding(ids, self.table)

    def logits(self, hidden: Tensor) -> Tensor:
        """(...,D) -> (...,n)."""
        return nn.functional.linear(hidden, self.table)


class Clusters(Embedding):
    """Adaptive input embeddings (Baevski and Auli 2019, https://arxiv.org/abs/1809.10853).

    The last ``special`` ids, sentinels and unused ones, are no pieces of text. Each but the last of the clusters has
    its part of the pieces, from ``shares``, the last has the rest; ``widths`` are their inner widths, and what is
    narrower than D is projected to D. The special ids belong to the last cluster, or, where ``special_apart``, to one
    more of width D. The logits of all clusters stand side by side under one softmax.
    Raises UserError where shares are not whole or leave nothing, and where widths do not fit them or D.
    """

    offers = frozenset({"clusters"})

    def __init__(
        self,
        parts: Parts,
        place: Place,
        *,
        shares: Sequence[str],
        widths: Sequence[int],
        special: int,
        special_apart: bool,
        scale: float,
        norm: bool,
        tie: Sequence[str],
    ):
        super().__init__(scale=scale, norm=norm, tie=tie)
        self.sizes = cluster_sizes(parts.shape["vocab_size"], shares, special, special_apart)
        if len(widths) != len(shares) + 1:
            raise UserError(f"embedding.widths: {len(shares) + 1} clusters (embedding.shares and a rest) need as many")
        if not all(1 <= width <= parts.d_model for width in widths):
            raise UserError(f"embedding.widths: {', '.join(map(str, widths))} must be from 1 to {parts.d_model}")
        widths = [*widths, *[parts.d_model] * (len(self.sizes) - len(widths))]
        self.starts = [0, *accumulate(self.sizes)][:-1]
        self.clusters = nn.ModuleList(
            Cluster(n, width, place) if width == parts.d_model else Product(n, width, parts.d_model, place)
            for n, width in zip(self.sizes, widths, strict=True)
        )

    def vectors(self, ids: Tensor) -> Tensor:
        x = None
        for start, size, cluster in zip(self.starts, self.sizes, self.clusters, strict=True):
            # Every cluster is asked for every id, so that shapes are fixed: the wrong ones fall on any of its rows,
            # evenly, and are not taken. What that costs is a narrow projection.
            found = cluster((ids - start) % size)
            x = found if x is None else torch.where((ids >= start).unsqueeze(-1), found, x)
        return x

    def logits(self, hidden: Tensor) -> Tensor:
        return torch.cat([cluster.logits(hidden) for cluster in self.clusters], -1)


def cluster_sizes(vocab_size: int, shares: Sequence[str], special: int, special_apart: bool) -> list[int]:
    """How many ids each cluster has; UserError where a share of the pieces is not whole or nothing is left."""
    pieces = vocab_size - special
    if pieces < 1:
        raise UserError(f"embedding.special={special} leaves no pieces of a vocabulary of {vocab_size}")
    what = "embedding.shares: shape.vocab_size less embedding.special"
    sizes = [ratio_of(share, pieces, what, least=1) for share in shares]
    apart = special if special_apart else 0
    rest = vocab_size - apart - sum(sizes)
    if rest < 1:
        told = ", ".join(map(str, shares))
        raise UserError(f"embedding.shares: {told} of the pieces leave none for the last cluster")
    return [*sizes, rest, *([apart] if apart else [])]
