"""Attention: ``f(x (B,T,D), ctx) -> (B,T,D)``, looking at the sequence itself or at the memory."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ablate.model.contract import CAUSAL, CROSS_ATTENTION, FULL, PREFIX, Context, Parts, Place, View
from ablate.model.position import BIAS, MIX, QUERIES, ROTATE
from ablate.ranges import COUNT, Ranges, Relations, check, groups_of

INVISIBLE = -1e9  # added to the score of a pair that must not see each other


def penalty(visible: Tensor | None) -> Tensor | None:
    """What is added to the scores, float32: 0 where `visible`, else INVISIBLE; None where all is visible."""
    return None if visible is None else torch.zeros_like(visible, dtype=torch.float32).masked_fill(~visible, INVISIBLE)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    bias: Tensor | None = None,
    hidden: Tensor | None = None,
    causal: bool = False,
    dropout: float = 0.0,
) -> Tensor:
    """softmax(q k^T + bias + hidden) v for q (B,H,T,K) and k, v (B,G,S,K), G a divisor of H; q is scaled already.

    `bias` and `hidden`, a `penalty`, are broadcastable to (B,H,T,S). On a GPU this is torch's fused kernel, and
    `causal` may stand for the lower triangle there. Elsewhere it is plain products, forward and backward faster than
    torch's kernel for CPUs at our lengths (in bfloat16 two to five times), and (B,H,T,S) is kept for each layer.
    """
    if q.is_cuda:
        return fused(q, k, v, bias=bias, hidden=hidden, causal=causal, dropout=dropout)
    weights = attention_weights(q, k, bias=bias, hidden=hidden)
    return by_group(functional.dropout(weights, dropout), v)


def fused(
    q: Tensor, k: Tensor, v: Tensor, *, bias: Tensor | None, hidden: Tensor | None, causal: bool, dropout: float
) -> Tensor:
    """The same by torch's scaled_dot_product_attention; `causal` excludes a bias and a penalty."""
    added = hidden if bias is None else bias if hidden is None else bias + hidden
    if k.shape[1] != q.shape[1]:
        k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], dim=1) for t in (k, v))
    return functional.scaled_dot_product_attention(
        q, k, v, attn_mask=None if added is None else added.to(q.dtype), is_causal=causal, dropout_p=dropout, scale=1.0
    )


def attention_weights(q: Tensor, k: Tensor, *, bias: Tensor | None = None, hidden: Tensor | None = None) -> Tensor:
    """The weights (B,H,T,S) themselves; the softmax is taken in float32."""
    scores = by_group(q, k.transpose(-1, -2)).float()
    for added in (bias, hidden):
        if added is not None:
            scores = scores.add_(added)  # in place: the product needs its own result for nothing
    return scores.softmax(-1).to(q.dtype)


def by_group(x: Tensor, shared: Tensor) -> Tensor:
    """x (B,H,T,M) @ shared (B,G,M,N), each of G matrices serving H/G heads in a row: those are one longer product."""
    groups = shared.shape[1]
    if groups == x.shape[1]:
        return x @ shared
    batch, heads, length, _ = x.shape
    return (x.reshape(batch, groups, -1, x.shape[-1]) @ shared).view(batch, heads, length, -1)


class Attention(nn.Module):
    """Scaled dot-product attention of all to all that are visible (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762).

    ``n_kv_heads`` keys and values serve ``n_heads`` queries in equal groups: all heads is full attention, one is
    multi-query (Shazeer 2019, https://arxiv.org/abs/1911.02150), between them grouped-query attention (Ainslie et al.
    2023, https://arxiv.org/abs/2305.13245). ``score_scale`` multiplies the scores; the paper's baseline has 1 and
    folds 1/sqrt(K) into the initial queries. Subclasses restrict who sees whom by `pattern`; it is not applied to the
    memory. Raises UserError where the heads cannot be grouped.
    """

    ranges: ClassVar[Ranges] = {"n_heads": COUNT, "n_kv_heads": COUNT, "head_dim": COUNT}
    relations: ClassVar[Relations] = {"n_kv_heads": groups_of("n_heads")}
    honours = frozenset({ROTATE, BIAS, MIX, QUERIES})
    orders = frozenset({FULL, CAUSAL, PREFIX})
    looks: str | None = None  # the name of the pattern, under which layers share its mask; None: not shared

    def __init__(
        self,
        parts: Parts,
        place: Place,
        *,
        n_heads: int,
        head_dim: int,
        n_kv_heads: int,
        score_scale: float,
        cross: object = None,
    ):
        super().__init__()
        check(type(self), "attention", n_heads=n_heads, n_kv_heads=n_kv_heads)
        self.n_heads, self.n_kv_heads, self.head_dim = n_heads, n_kv_heads, head_dim
        self.score_scale = score_scale
        d, inner, kv_inner = parts.d_model, n_heads * head_dim, n_kv_heads * head_dim
        self.query = parts.linear(d, inner, "query", place, head_dim=head_dim)
        self.key = parts.linear(d, kv_inner, "key", place, head_dim=head_dim)
        self.value = parts.linear(d, kv_inner, "value", place, head_dim=head_dim)
        self.output = parts.linear(inner, d, "output", place, head_dim=head_dim)
        self.looks_at_memory = place.sublayer == CROSS_ATTENTION
        needs = frozenset() if self.looks_at_memory else parts.position_needs(place)
        self.mixes = MIX in needs
        self.position = parts.position(place, n_heads, head_dim) if needs & self.honours else None
        self.dropout = parts.dropout
        self.looks_everywhere = type(self).pattern is Attention.pattern
        self.own_mask = "hidden/everywhere" if self.looks_everywhere else parts.unique("hidden")

    def pattern(self, view: View) -> Tensor | None:
        """(1 or B,1 or H,T,T) bool, True where this kind of attention looks, itself included; None: everywhere."""
        return None

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        source = ctx.memory.output if self.looks_at_memory else x
        q = self._split(self.query(x), self.n_heads)
        if self.score_scale != 1.0:
            q = q * self.score_scale
        k = self._split(self.key(source), self.n_kv_heads)
        v = self._split(self.value(source), self.n_kv_heads)
        bias = None
        if self.position is not None:
            q, k = self.position.rotate(q, k, ctx.view)
            bias = self.position.bias(q, ctx)
        dropout = self.dropout if self.training else 0.0
        if self.mixes:
            weights = functional.dropout(attention_weights(q, k, bias=bias, hidden=self._hidden(ctx)), dropout)
            out = by_group(weights, v)
            mixed = self.position.mix(weights, ctx.view)
            out = out if mixed is None else out + mixed
        else:
            triangle = q.is_cuda and bias is None and self._is_triangle(ctx.view)
            hidden = None if triangle else self._hidden(ctx)
            out = attend(q, k, v, bias=bias, hidden=hidden, causal=triangle, dropout=dropout)
        return self.combine(out, ctx)

    def combine(self, out: Tensor, ctx: Context) -> Tensor:
        """What the heads saw, (B,H,T,K), as one (B,T,D)."""
        return self.output(out.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor, heads: int) -> Tensor:
        return x.unflatten(-1, (heads, self.head_dim)).transpose(1, 2)

    def _is_triangle(self, view: View) -> bool:
        return view.is_causal and self.looks_everywhere and not self.looks_at_memory

    def _hidden(self, ctx: Context) -> Tensor | None:
        """The penalty on pairs that do not see each other here, made once for all layers alike."""
        if self.looks_at_memory:
            return ctx.shared("hidden/memory", lambda: penalty(ctx.view.visible_memory(ctx.memory.view)))
        key = self.own_mask if self.looks is None else f"hidden/{self.looks}"
        return ctx.shared(key, lambda: penalty(self._visible(ctx.view)))

    def _visible(self, view: View) -> Tensor | None:
        visible, pattern = view.visible(), self.pattern(view)
        if visible is None or pattern is None:
            return pattern if visible is None else visible
        return visible & pattern
