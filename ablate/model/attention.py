"""Attention: ``f(x (B,T,D), ctx) -> (B,T,D)``, to the sequence itself or to the memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ablate.model import flex
from ablate.model.contract import CAUSAL, CROSS_ATTENTION, FULL, PREFIX, Context, Linear, Parts, Place, View
from ablate.model.position import BIAS, MIX, QUERIES, ROTATE, Position
from ablate.model.query_key_norm import PROJECTION, query_or_key_norm
from ablate.ranges import POSITIVE, WIDTH, AddedKeys, Ranges, Relations, check, groups_of, one_of

INVISIBLE = -1e9  # added to the score of a query and a key that it must not see
FUSED_FROM = 8  # queries: with as many, torch's CPU kernel is faster forward, in float32, and keeps no weights
# Length from which torch's CPU kernel with its causal flag is faster than two products forward and backward together:
# four times the width of a head in float32, but no less than this (1.07 to 1.3 times at 256, 1.5 to 2.3 at 1,024);
# in bfloat16 0.75 times at 256, 1.9 at 1,024. No run in a committed report is as long.
CAUSAL_FROM, CAUSAL_FROM_BF16 = 256, 1024


def mask_to_bias(visible: Tensor | None) -> Tensor | None:
    """The mask as an additive bias, float32: 0 where `visible`, else INVISIBLE; None if all is visible."""
    return None if visible is None else torch.zeros_like(visible, dtype=torch.float32).masked_fill(~visible, INVISIBLE)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    bias: Tensor | None = None,
    mask_bias: Tensor | None = None,
    causal: bool = False,
    dropout: float = 0.0,
    reading: bool = False,
    soft_cap: float | None = None,
) -> Tensor:
    """softmax(q k^T + bias + mask_bias) v for q (B,H,T,K) and k, v (B,G,S,K), G a divisor of H -> (B,H,T,K).

    q is already scaled; with `soft_cap`, c, its products with keys are c tanh(q k^T / c). `bias` and `mask_bias` (from
    `mask_to_bias`) are broadcastable to (B,H,T,S). On a GPU this is torch's fused kernel, for which `causal` can
    replace a lower-triangular mask; on a CPU too, where `causal` does and the sequence is long (`takes_flag`). Else it
    is two plain products, faster forward and backward than torch's CPU kernel with a bias or mask, at the price of
    keeping the weights (B,H,T,S) of each layer. So it is with a soft-cap on every device, which torch's kernel does not
    have; `causal` must be False then.

    `reading` says that there will be no backward pass and that bits need not be those of training: then torch's CPU
    kernel serves, but for single tokens.
    """
    if soft_cap is None and (causal or q.is_cuda or (reading and _is_faster_fused(q))):
        return fused(q, k, v, bias=bias, mask_bias=mask_bias, causal=causal, dropout=dropout)
    weights = attention_weights(q, k, bias=bias, mask_bias=mask_bias, soft_cap=soft_cap)
    return by_group(functional.dropout(weights, dropout), v)


def takes_flag(q: Tensor, reading: bool) -> bool:
    """Whether a lower-triangular mask on queries q (B,H,T,K) is better left to the fused kernel's causal flag."""
    if q.is_cuda or (reading and _is_faster_fused(q)):
        return True
    length, width = q.shape[-2:]
    if q.dtype == torch.float32:
        return length >= max(CAUSAL_FROM, 4 * width)
    return length >= CAUSAL_FROM_BF16


def _is_faster_fused(q: Tensor) -> bool:
    """Whether torch's CPU kernel is faster than two products, in a forward pass alone."""
    return q.dtype == torch.float32 and q.shape[-2] >= FUSED_FROM


def fused(
    q: Tensor, k: Tensor, v: Tensor, *, bias: Tensor | None, mask_bias: Tensor | None, causal: bool, dropout: float
) -> Tensor:
    """The same by torch's scaled_dot_product_attention; `causal` excludes `bias` and `mask_bias`."""
    added = mask_bias if bias is None else bias if mask_bias is None else bias + mask_bias
    groups = k.shape[1] != q.shape[1]
    if groups and q.is_cuda:  # the fast kernels want a key head for each query head: (B,G,S,K) -> (B,H,S,K)
        k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], dim=1) for t in (k, v))
    mask = None if added is None else added.to(q.dtype)
    return functional.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=causal, dropout_p=dropout, scale=1.0, enable_gqa=groups and not q.is_cuda
    )


def attention_weights(
    q: Tensor,
    k: Tensor,
    *,
    bias: Tensor | None = None,
    mask_bias: Tensor | None = None,
    soft_cap: float | None = None,
) -> Tensor:
    """The weights softmax(q k^T + bias + mask_bias), (B,H,T,S); soft-cap and softmax are computed in float32."""
    scores = by_group(q, k.transpose(-1, -2)).float()
    if soft_cap is not None:
        scores = (scores / soft_cap).tanh() * soft_cap
    for added in (bias, mask_bias):
        if added is not None:
            scores = scores.add_(added)  # in place: the backward pass of a product does not need its result
    return scores.softmax(-1).to(q.dtype)


def by_group(x: Tensor, shared: Tensor) -> Tensor:
    """x (B,H,T,M) @ shared (B,G,M,N) -> (B,H,T,N), where each of the G matrices serves H/G consecutive heads.

    The rows of these heads are joined, (B,G,(H/G) T,M), so that each group is one product and nothing is repeated.
    """
    groups = shared.shape[1]
    if groups == x.shape[1]:
        return x @ shared
    batch, heads, length, _ = x.shape
    return (x.reshape(batch, groups, -1, x.shape[-1]) @ shared).view(batch, heads, length, -1)


def pairs(view: View) -> tuple[Tensor, Tensor]:
    """The positions of the queries (1 or B,1,T,1) and of the keys (1 or B,1,1,T), or S of them if the view says so."""
    keys = view if view.keys is None else view.keys
    return view.place_indices()[:, None, :, None], keys.place_indices()[:, None, None, :]


class Attention(nn.Module):
    """Scaled dot-product attention (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762).

    ``n_kv_heads`` keys and values serve ``n_heads`` queries in equal groups: all heads is full attention, one is
    multi-query (Shazeer 2019, https://arxiv.org/abs/1911.02150), between them grouped-query attention (Ainslie et al.
    2023, https://arxiv.org/abs/2305.13245). ``score_scale`` multiplies the scores; the paper's baseline has 1 and
    folds 1/sqrt(K) into the initial queries. Subclasses restrict which keys a query sees by `pattern`, or by `sees`
    where that is a function of two positions and the same for all heads; neither applies to the memory, but all else
    does.

    ``clip_qkv``, c, keeps the entries of queries, keys and values within -c and c (OLMo 1.7, after MPT). Behind that,
    and before positions are applied, ``qk_norm`` norms queries and keys: each ``head``, with gains (K,) that the heads
    share (Qwen 3, Gemma 3; Dehghani et al. 2023, https://arxiv.org/abs/2302.05442), or all heads of the ``projection``
    together, with gains (H K,) and (G K,) (OLMo 2); ``qk_norm_kind`` is the norm's option, the model's if null.
    ``soft_cap``, c, makes the scaled products c tanh(product / c), before the position's bias and the mask (Gemma 2,
    https://arxiv.org/abs/2408.00118).
    Raises UserError if n_heads is not a multiple of n_kv_heads, and for a norm of queries with batch statistics.
    """

    ranges: ClassVar[Ranges] = {
        "n_heads": WIDTH,
        "n_kv_heads": WIDTH,
        "head_dim": WIDTH,
        "soft_cap": POSITIVE,
        "clip_qkv": POSITIVE,
        "qk_norm": one_of("none", "head", "projection"),
    }
    added_keys: ClassVar[AddedKeys] = {"soft_cap": None, "clip_qkv": None, "qk_norm": "none", "qk_norm_kind": None}
    relations: ClassVar[Relations] = {"n_kv_heads": groups_of("n_heads")}
    inner_options: ClassVar[dict[str, str]] = {"cross": "attention", "qk_norm_kind": "norm"}
    supports = frozenset({ROTATE, BIAS, MIX, QUERIES})
    mask_orders = frozenset({FULL, CAUSAL, PREFIX})
    incremental = True
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
        soft_cap: float | None = None,
        clip_qkv: float | None = None,
        qk_norm: str = "none",
        qk_norm_kind: Callable[..., nn.Module] | None = None,
        cross: object = None,
    ):
        super().__init__()
        check(type(self), "attention", n_heads=n_heads, n_kv_heads=n_kv_heads, qk_norm=qk_norm)
        self.n_heads, self.n_kv_heads, self.head_dim = n_heads, n_kv_heads, head_dim
        self.score_scale, self.soft_cap, self.clip_qkv = score_scale, soft_cap, clip_qkv
        d, inner, kv_inner = parts.d_model, n_heads * head_dim, n_kv_heads * head_dim
        self.query = parts.linear(d, inner, "query", place, head_dim=head_dim)
        self.key = parts.linear(d, kv_inner, "key", place, head_dim=head_dim)
        self.value = parts.linear(d, kv_inner, "value", place, head_dim=head_dim)
        self.output = parts.linear(inner, d, "output", place, head_dim=head_dim)
        self.qk_norm = qk_norm
        self.query_norm = query_or_key_norm(parts, place, qk_norm, qk_norm_kind, head_dim, n_heads)
        self.key_norm = query_or_key_norm(parts, place, qk_norm, qk_norm_kind, head_dim, n_kv_heads)
        self.looks_at_memory = place.sublayer == CROSS_ATTENTION
        needs = frozenset() if self.looks_at_memory else parts.position_needs(place)
        self.mixes = MIX in needs
        self.position: Position | None = parts.position(place, n_heads, head_dim) if needs & self.supports else None
        if self.position is not None:
            self.position.score_scale = score_scale
        self.dropout = parts.dropout
        self._sees_all = type(self).sees is Attention.sees
        self.is_pattern_of_positions = type(self).pattern is Attention.pattern
        self.looks_everywhere = self._sees_all and self.is_pattern_of_positions
        self.own_mask = "mask/everywhere" if self.looks_everywhere else parts.unique("mask")

    def pattern(self, view: View) -> Tensor | None:
        """(1 or B,1 or H,T,T) bool, True where a query (row) sees a key (column), itself included; None: all.

        A class that declares `incremental` gives (.., T,S) for a view with ``keys``.
        """
        return None if self._sees_all else self.sees(*pairs(view))

    def sees(self, q: Tensor, k: Tensor) -> Tensor:
        """Whether a query at position q sees a key at position k, itself included: bool, of the shape of both."""
        raise NotImplementedError

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        q = self._projected(self.query, self.query_norm, x, ctx.view)
        if self.score_scale != 1.0:
            q = q * self.score_scale
        k, v = self._keys_of_memory(ctx) if self.looks_at_memory else self._keys_of(x, ctx.view)  # (B,G,S,K) each
        if self.position is not None:
            q, k = self.position.rotate(q, k, ctx)
        if self._is_flexible(q, ctx):
            return self.combine(self._flexible(q, k, v, ctx), ctx)
        bias = None if self.position is None else self.position.bias(q, ctx)  # (1 or B,H,T,S)
        if ctx.past is not None and not self.looks_at_memory:
            k, v = ctx.past.joined(k, v)
        dropout = self.dropout if self.training else 0.0
        if self.position is not None and self.mixes:  # the position reads the weights, so no fused kernel
            weights = attention_weights(q, k, bias=bias, mask_bias=self._mask_bias(ctx), soft_cap=self.soft_cap)
            weights = functional.dropout(weights, dropout)
            out = by_group(weights, v)
            mixed = self.position.mix(weights, ctx.view)
            out = out if mixed is None else out + mixed
        else:
            reading = ctx.past is not None
            is_plain = bias is None and self.soft_cap is None
            triangle = is_plain and self._is_triangle(ctx.view) and takes_flag(q, reading)
            mask_bias = None if triangle else self._mask_bias(ctx)
            out = attend(
                q,
                k,
                v,
                bias=bias,
                mask_bias=mask_bias,
                causal=triangle,
                dropout=dropout,
                reading=reading,
                soft_cap=self.soft_cap,
            )
        return self.combine(out, ctx)

    def _keys_of(self, source: Tensor, view: View) -> tuple[Tensor, Tensor]:
        """The keys and values of `source` (B,S,D), (B,G,S,K) each."""
        return self._projected(self.key, self.key_norm, source, view), self._projected(self.value, None, source, view)

    def _projected(self, projection: Linear, norm: nn.Module | None, x: Tensor, view: View) -> Tensor:
        """x (B,T,D) -> (B,H or G,T,K): projected, clipped and normed."""
        y = projection(x)
        if self.clip_qkv is not None:
            y = y.clamp(-self.clip_qkv, self.clip_qkv)
        if norm is None:
            return self._split(y)
        if self.qk_norm == PROJECTION:
            return self._split(norm(y, view).to(y.dtype))
        normed: Tensor = norm(self._split(y), view).to(y.dtype)  # a norm may compute in float32
        return normed

    def _keys_of_memory(self, ctx: Context) -> tuple[Tensor, Tensor]:
        memory = ctx.memory
        assert memory is not None, "cross-attention needs an encoder"
        if ctx.past is None:
            return self._keys_of(memory.output, memory.view)
        return ctx.past.of_memory(lambda: self._keys_of(memory.output, memory.view))

    def combine(self, out: Tensor, ctx: Context) -> Tensor:
        """The heads' outputs (B,H,T,K), projected to (B,T,D)."""
        return self.output(out.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        """(B,T,H K) -> (B,H,T,K)."""
        split: Tensor = x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        return split

    def _is_flexible(self, q: Tensor, ctx: Context) -> bool:
        """Whether FlexAttention takes this layer's bias and mask, where the other kernels would need all pairs."""
        if ctx.past is not None or self.looks_at_memory or self.mixes or (self.training and self.dropout):
            return False
        if not flex.is_at_hand(q) or not self.is_pattern_of_positions:
            return False
        if self.position is not None and BIAS in self.position.needs:
            return self.position.by_distance(q.shape[-2], ctx) is not None
        if self.soft_cap is not None:
            return True
        return not self._is_triangle(ctx.view) and flex.visible(ctx.view, self._sees()) is not None

    def _sees(self) -> flex.Sees | None:
        return None if self._sees_all else self.sees

    def _flexible(self, q: Tensor, k: Tensor, v: Tensor, ctx: Context) -> Tensor:
        """(B,H,T,K) by FlexAttention."""
        has_bias = self.position is not None and BIAS in self.position.needs
        table = self.position.by_distance(q.shape[-2], ctx) if self.position is not None and has_bias else None
        key = f"flex/{self.own_mask if self.looks is None else self.looks}"
        mask = ctx.shared(key, lambda: flex.block_mask(ctx.view, self._sees()))
        return flex.attend(q, k, v, table=table, mask=mask, soft_cap=self.soft_cap)

    def _is_triangle(self, view: View) -> bool:
        """Whether the mask is exactly the lower triangle, which the fused kernel has a flag for."""
        return view.is_causal and self.looks_everywhere and not self.looks_at_memory

    def _mask_bias(self, ctx: Context) -> Tensor | None:
        """The additive mask of this layer, made once for all layers with the same mask."""
        if self.looks_at_memory:
            memory = ctx.memory
            assert memory is not None, "cross-attention needs an encoder"
            return ctx.shared("mask/memory", lambda: mask_to_bias(ctx.view.visible_memory(memory.view)))
        key = self.own_mask if self.looks is None else f"mask/{self.looks}"
        return ctx.shared(key, lambda: mask_to_bias(self._visible(ctx.view)))

    def _visible(self, view: View) -> Tensor | None:
        visible, pattern = view.visible(), self.pattern(view)
        if visible is None or pattern is None:
            return pattern if visible is None else visible
        return visible & pattern
