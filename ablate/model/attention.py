"""Attention: ``f(x (B,T,D), ctx) -> (B,T,D)``, looking at the sequence itself or at the memory."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from ablate.errors import UserError
from ablate.model.contract import CAUSAL, CROSS_ATTENTION, FULL, PREFIX, Context, Parts, Place
from ablate.model.position import BIAS, MIX, ROTATE

INVISIBLE = -1e9  # added to the score of a pair that must not see each other


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    causal: bool = False,
    dropout: float = 0.0,
) -> Tensor:
    """softmax(q k^T + bias, where visible) v for q (B,H,T,K) and k, v (B,H,S,K); q is scaled already.

    `mask` (broadcastable to (B,H,T,S)) is True where a pair is visible; `causal` stands for the lower triangle and
    excludes a mask. A learned bias goes through torch's fused kernel on a GPU only: on CPUs, plain products are as
    fast forward and faster backward.
    """
    if bias is None or q.is_cuda:
        if bias is not None:
            mask = bias.to(q.dtype) if mask is None else bias.to(q.dtype).masked_fill(~mask, INVISIBLE)
        return functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=causal, dropout_p=dropout, scale=1.0
        )
    weights = attention_weights(q, k, bias=bias, mask=mask)
    return functional.dropout(weights, dropout) @ v


def attention_weights(q: Tensor, k: Tensor, *, bias: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
    """The weights (B,H,T,S) themselves; the softmax is taken in float32."""
    scores = (q @ k.transpose(-1, -2)).float()
    if bias is not None:
        scores = scores + bias
    if mask is not None:
        scores = scores.masked_fill(~mask, INVISIBLE)
    return scores.softmax(-1).to(q.dtype)


class Attention(nn.Module):
    """Scaled dot-product attention of all to all that are visible (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762).

    ``n_kv_heads`` keys and values serve ``n_heads`` queries in equal groups: all heads is full attention, one is
    multi-query (Shazeer 2019, https://arxiv.org/abs/1911.02150), between them grouped-query attention (Ainslie et al.
    2023, https://arxiv.org/abs/2305.13245). ``score_scale`` multiplies the scores; the paper's baseline has 1 and
    folds 1/sqrt(K) into the initial queries. Subclasses restrict who sees whom by `pattern`; it is not applied to the
    memory. Raises UserError where the heads cannot be grouped.
    """

    honours = frozenset({ROTATE, BIAS, MIX})
    orders = frozenset({FULL, CAUSAL, PREFIX})

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
        if n_kv_heads < 1 or n_heads % n_kv_heads:
            raise UserError(f"attention.n_kv_heads: {n_heads} heads do not divide into {n_kv_heads} groups")
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

    def pattern(self, ctx: Context) -> Tensor | None:
        """(H or 1,T,T) bool, True where this kind of attention looks; None: everywhere."""
        return None

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        source = ctx.memory.output if self.looks_at_memory else x
        q = self._split(self.query(x), self.n_heads) * self.score_scale
        k = self._split(self.key(source), self.n_kv_heads)
        v = self._split(self.value(source), self.n_kv_heads)
        bias = None
        if self.position is not None:
            q, k = self.position.rotate(q, k, ctx.view)
            bias = self.position.bias(q, ctx)
        if self.n_kv_heads != self.n_heads:
            k, v = (t.repeat_interleave(self.n_heads // self.n_kv_heads, dim=1) for t in (k, v))
        mask, causal = self._visible(ctx)
        dropout = self.dropout if self.training else 0.0
        if self.mixes:
            if causal:
                mask = ctx.view.visible()
            weights = functional.dropout(attention_weights(q, k, bias=bias, mask=mask), dropout)
            out = weights @ v
            mixed = self.position.mix(weights, ctx.view)
            out = out if mixed is None else out + mixed
        else:
            if causal and bias is not None:
                mask, causal = ctx.view.visible(), False
            out = attend(q, k, v, bias=bias, mask=mask, causal=causal, dropout=dropout)
        return self.output(out.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor, heads: int) -> Tensor:
        return x.unflatten(-1, (heads, self.head_dim)).transpose(1, 2)

    def _visible(self, ctx: Context) -> tuple[Tensor | None, bool]:
        """Who sees whom here: a mask, or None and whether it is the lower triangle."""
        if self.looks_at_memory:
            return ctx.view.visible_memory(ctx.memory.view), False
        pattern = self.pattern(ctx)
        if pattern is None:
            return (None, True) if ctx.view.is_causal else (ctx.view.visible(), False)
        visible = ctx.view.visible()
        return (pattern if visible is None else visible & pattern), False
