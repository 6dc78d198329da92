"""Product-key memory in place of a feed-forward: ``f(x (B,T,D), ctx) -> (B,T,D)``, a few of very many learned rows."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ablate.errors import UserError
from ablate.model.contract import Context, Linear, Parts, Place, declare
from ablate.model.norm import LayerNorm
from ablate.ranges import COUNT, Ranges


class ProductKeyMemory(nn.Module):
    """Rows of a table (N^2,D) whose keys are all pairs of N first and N second halves (Lample et al. 2019,
    https://arxiv.org/abs/1907.05242).

    Each of H heads has a query of two halves of ``key_dim``, normalised (LayerNorm as Narang et al. ran it; batch norm
    in the original), and reads the ``n_read`` best rows, weighted by a softmax; the heads' outputs are added. The best
    pairs are among the pairs of the ``n_read`` best first and second halves, so that 2 N keys are scored, not N^2.
    There is no output projection.

    The rows are read by gathers and have a dense gradient. The authors' library suggests a separate learning rate for
    them (0.02, Adam); whether the published run had one is not known, and here they have that of all parameters.
    Raises UserError if n_read exceeds n_keys.
    """

    ranges: ClassVar[Ranges] = {"n_heads": COUNT, "n_keys": COUNT, "n_read": COUNT}
    incremental = True
    pairs: Tensor

    def __init__(self, parts: Parts, place: Place, *, n_heads: int, n_keys: int, key_dim: int, n_read: int):
        super().__init__()
        if n_read > n_keys:
            raise UserError(f"n_read={n_read}: must be at most n_keys={n_keys}")
        rows, shape = n_keys**2, (n_heads, 2, n_keys, key_dim)
        self.query = Linear(parts.d_model, n_heads * 2 * key_dim, role="selector", place=place, bias=True)
        self.query_norm = LayerNorm(parts, place, eps=1e-6, width=key_dim)
        outer = n_heads * 2  # the authors' library counts the leading axes into both fans
        self.keys = declare(
            nn.Parameter(torch.empty(shape)), "glorot", fan_in=outer * n_keys, fan_out=outer * key_dim, place=place
        )
        self.values = declare(
            nn.Parameter(torch.empty(rows, parts.d_model)),
            "memory",
            fan_in=rows,
            fan_out=parts.d_model,
            place=place,
            use=min(1.0, n_heads * n_read / rows),
        )
        self.n_read, self.dropout = n_read, nn.Dropout(parts.dropout)
        # At least i j pairs, itself included, are as good as the pair of the i-th and j-th best halves (from 1), so it
        # is one of the n best only if i j <= n. pairs (2,P): these candidates, far fewer than n^2.
        pairs = [(i, j) for i in range(n_read) for j in range(n_read) if (i + 1) * (j + 1) <= n_read]
        self.register_buffer("pairs", torch.tensor(pairs).T.contiguous(), persistent=False)

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        rows, weights = self.best(x.flatten(0, 1), ctx)
        bags = functional.embedding_bag(
            rows.flatten(1), self.values, per_sample_weights=weights.flatten(1).to(self.values.dtype), mode="sum"
        )
        y: Tensor = self.dropout(bags)  # (M,D): the weighted sum of a token's H K rows
        return y.view(x.shape)

    def best(self, x: Tensor, ctx: Context) -> tuple[Tensor, Tensor]:
        """x (M,D) -> the rows (M,H,K) that each head reads, K = n_read, and their weights (M,H,K)."""
        heads, _, n_keys, key_dim = self.keys.shape
        queries = self.query_norm(self.query(x).view(-1, heads, 2, key_dim), ctx.view)
        scores = torch.einsum("mhpk,hpnk->mhpn", queries, self.keys.to(queries.dtype)).float()
        scores, keys = scores.topk(self.n_read, dim=-1)  # (M,H,2,N) -> the best of either half, (M,H,2,K)
        first, second = self.pairs
        # a pair's score is the sum of its halves' scores: (M,H,P) -> the best K
        best, at = (scores[:, :, 0, first] + scores[:, :, 1, second]).topk(self.n_read, dim=-1)
        rows = keys[:, :, 0].gather(-1, first[at]) * n_keys + keys[:, :, 1].gather(-1, second[at])
        return rows, best.softmax(-1)

    def lookup_products(self, x: Tensor) -> int:
        """What reading the rows costs as products with one-hot vectors."""
        heads = self.keys.shape[0]
        return x[..., 0].numel() * heads * self.n_read * self.values.numel()
