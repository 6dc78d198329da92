"""Wide vectors for frequent ids, narrow ones for rare ids.

    id        0 ... 2,499   2,500 ... 8,499   8,500 ............... 31,999   32,000 ... 32,127
    cluster   0             1                 2                              special: sentinels and unused ids
    width     D             D/3               D/12                           as cluster 2, or D in one of their own

The numbers are those of the paper's vocabulary. Smaller ids must be more frequent, as they are in our tokenizers.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from ablate.errors import UserError
from ablate.model.contract import Parts, Place, declare
from ablate.model.embedding import Embedding, Product
from ablate.ratio import ratio_of


class Cluster(nn.Module):
    """Vectors for n ids in a table (n,D)."""

    token_wise = True

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

    The last ``special`` ids, sentinels and unused ones, are not pieces of text. Each cluster but the last has its
    fraction of the pieces, from ``shares``, the last has the remainder; ``widths`` are their inner widths, and vectors
    narrower than D are projected to D. The special ids belong to the last cluster, or, if ``special_apart``, to an
    additional one of width D. The logits of all clusters are concatenated under one softmax.
    Raises UserError if shares do not give whole numbers or leave nothing, and if widths do not fit them or D.
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
        **settings: Any,
    ):
        super().__init__(**settings)
        self.sizes = cluster_sizes(parts.shape["vocab_size"], shares, special, special_apart)
        if len(widths) != len(shares) + 1:
            raise UserError(
                f"embedding.widths: must be {len(shares) + 1}, one for each of embedding.shares and one for the rest"
            )
        if not all(1 <= width <= parts.d_model for width in widths):
            raise UserError(f"embedding.widths: {', '.join(map(str, widths))}: each must be from 1 to {parts.d_model}")
        widths = [*widths, *[parts.d_model] * (len(self.sizes) - len(widths))]
        self.starts = [0, *accumulate(self.sizes)][:-1]
        self.clusters: Any = nn.ModuleList(  # Any: its modules have logits
            Cluster(n, width, place) if width == parts.d_model else Product(n, width, parts.d_model, place)
            for n, width in zip(self.sizes, widths, strict=True)
        )

    def vectors(self, ids: Tensor) -> Tensor:
        # Every cluster embeds every id (B,T) to (B,T,D), so that shapes are fixed: ids of other clusters wrap around to
        # some row of the table, and are not taken. The cost is a narrow projection.
        first, *others = self.clusters
        x: Tensor = first(ids % self.sizes[0])
        for start, size, cluster in zip(self.starts[1:], self.sizes[1:], others, strict=True):
            x = torch.where((ids >= start).unsqueeze(-1), cluster((ids - start) % size), x)
        return x

    def logits(self, hidden: Tensor) -> Tensor:
        return torch.cat([cluster.logits(hidden) for cluster in self.clusters], -1)


def cluster_sizes(vocab_size: int, shares: Sequence[str], special: int, special_apart: bool) -> list[int]:
    """How many ids each cluster has; UserError if a share of the pieces is not a whole number or nothing is left."""
    pieces = vocab_size - special
    if pieces < 1:
        raise UserError(f"embedding.special={special}: must be below the vocabulary size {vocab_size}")
    what = "embedding.shares: shape.vocab_size less embedding.special"
    sizes = [ratio_of(share, pieces, what, least=1) for share in shares]
    apart = special if special_apart else 0
    rest = vocab_size - apart - sum(sizes)
    if rest < 1:
        listed = ", ".join(map(str, shares))
        raise UserError(f"embedding.shares: {listed} of the pieces leave none for the last cluster")
    return [*sizes, rest, *([apart] if apart else [])]
