"""Attention on a GPU without a tensor of all pairs: torch's FlexAttention (Dong et al. 2024,
https://arxiv.org/abs/2412.05496), for biases by distance and for masks of prefixes, documents and windows.

    scores[q, k] + table[h, k - q + T - 1]   the bias, from a table (H,2T-1) of distances, which has a gradient
    c tanh(scores[q, k] / c)                 the soft-cap, before the bias
    visible(q, k)                            the mask, of which only blocks of 128 x 128 pairs are kept

FlexAttention is fused only where it is compiled, and has no backward pass on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ablate.model.contract import FULL, View

Sees = Callable[[Tensor, Tensor], Tensor]  # positions of queries and keys -> bool: a pattern
Modification = Callable[
    [Tensor, Tensor, Tensor, Tensor, Tensor], Tensor
]  # FlexAttention's score_mod(score, b, h, q, k)
NARROWEST = 16  # the narrowest heads that the kernel takes


def is_at_hand(q: Tensor) -> bool:
    """Whether queries (B,H,T,K) can be attended to by this kernel, forward and backward."""
    return q.is_cuda and torch.compiler.is_compiling() and q.shape[-1] >= NARROWEST


def modified(table: Tensor | None, soft_cap: float | None, length: int) -> Modification | None:
    """The score of each pair, soft-capped, plus the entry of its distance in `table` (H,2T-1), for T = `length`.

    None where neither is given.
    """
    if table is None and soft_cap is None:
        return None

    def modify(score: Tensor, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        if soft_cap is not None:
            score = (score / soft_cap).tanh() * soft_cap
        return score if table is None else score + table[h, k - q + (length - 1)]

    return modify


def visible(view: View, sees: Sees | None) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] | None:
    """``mask_mod(b, h, q, k)``: whether a query sees a key by the view and by the pattern; None if all see all."""
    if view.order == FULL and view.segments is None and sees is None:
        return None
    by_view, positions = view.mask_mod(), view.positions

    def both(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        if sees is None:
            return by_view(b, h, q, k)
        if positions is None:
            return by_view(b, h, q, k) & sees(q, k)
        row = b if positions.shape[0] > 1 else torch.zeros_like(b)
        return by_view(b, h, q, k) & sees(positions[row, q], positions[row, k])

    return both


def block_mask(view: View, sees: Sees | None) -> Any:
    """The mask (B or 1,1,T,T) as FlexAttention's ``BlockMask``; None if all see all."""
    from torch.nn.attention.flex_attention import create_block_mask

    mask = visible(view, sees)
    if mask is None:
        return None
    alike = view.segments is None and view.prefix is None and (sees is None or view.positions is None)
    rows = None if alike else view.ids.shape[0]
    return create_block_mask(mask, rows, None, view.length, view.length, device=view.ids.device)


def attend(
    q: Tensor, k: Tensor, v: Tensor, *, table: Tensor | None, mask: Any, soft_cap: float | None = None
) -> Tensor:
    """softmax(q k^T + bias + mask) v for q (B,H,T,K), scaled, and k, v (B,G,T,K), G a divisor of H -> (B,H,T,K).

    `table` (H,2T-1): the bias by distance; `mask`: from `block_mask`; `soft_cap`: of the products.
    """
    from torch.nn.attention.flex_attention import flex_attention

    out: Tensor = flex_attention(
        q,
        k,
        v,
        score_mod=modified(table, soft_cap, q.shape[-2]),
        block_mask=mask,
        scale=1.0,
        enable_gqa=k.shape[1] != q.shape[1],
    )
    return out
