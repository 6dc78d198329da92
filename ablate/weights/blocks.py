"""What Llama's and T5's form have in common: pre-norm blocks of attention and feed-forward with RMS norms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ablate.model.attention import Attention
from ablate.model.block import PRE, Block
from ablate.model.contract import FEEDFORWARD
from ablate.model.embedding import Table
from ablate.model.feedforward import Dense
from ablate.model.head import Softmax
from ablate.model.norm import RMSNorm
from ablate.model.residual import Plain
from ablate.model.stack import PlainStack
from ablate.model.topology import Tower
from ablate.weights.names import Convert, Names, Weight, require, same


@dataclass(frozen=True)
class Layer:
    """The parts of one block: each attention with its norm, then the feed-forward with its norm."""

    attentions: list[tuple[RMSNorm, Attention]]
    norm: RMSNorm
    feedforward: Any


def layers_of(tower: Tower, kinds: Sequence[str], form: str) -> list[Layer]:
    """The layers of a stack whose blocks have the sub-layers `kinds`; UserError where a part is of another kind."""
    stack: Any = tower.stack
    require(type(stack) is PlainStack, form, "stack=plain")
    require(tower.norm is None and tower.position is None, form, "no norm and no position at the input")
    require(type(tower.embedding) is Table and tower.embedding.scale == 1.0, form, "embedding=table with scale 1")
    require(_has_gain_alone(stack.end), form, "norm=rmsnorm with a gain, without a bias")
    return [_layer(block, [*kinds, FEEDFORWARD], form) for block in stack.blocks]


def _layer(block: Any, kinds: Sequence[str], form: str) -> Layer:
    require(type(block) is Block, form, "block=serial")
    require([step.kinds for step in block.steps] == [(kind,) for kind in kinds], form, f"the sub-layers {kinds}")
    for step in block.steps:
        require(step.placement == PRE, form, "block.placement=pre")
        require(type(step.residual) is Plain, form, "residual=plain")
        require(_has_gain_alone(step.norm), form, "norm=rmsnorm with a gain, without a bias")
    *attentions, last = block.steps
    require(all(type(step.sublayers[0]) is Attention for step in attentions), form, "attention=full or grouped_query")
    for step in attentions:
        attention = step.sublayers[0]
        require(attention.soft_cap is None and attention.clip_qkv is None, form, "attention.soft_cap and clip_qkv null")
        require(attention.query_norm is None, form, "attention.qk_norm=none")
    require(type(last.sublayers[0]) is Dense, form, "feedforward=dense")
    return Layer([(step.norm, step.sublayers[0]) for step in attentions], last.norm, last.sublayers[0])


def _has_gain_alone(part: Any) -> bool:
    return type(part) is RMSNorm and part.scale is not None and part.shift is None


def norm(part: RMSNorm, name: str) -> Names:
    """An RMS norm's gain, which here may lack an ``offset``."""
    assert part.scale is not None  # as `layers_of` requires
    offset = part.offset
    out, into = (lambda x: x + offset, lambda x: x - offset) if offset else (same, same)
    return {f"{name}.weight": Weight(part.scale, out, into)}


def linear(part: Any, name: str, out: Convert = same, into: Convert = same) -> Names:
    """A projection, weight (out, in) and, if there is one, bias; the conversion is one of its outputs."""
    names = {f"{name}.weight": Weight(part.weight, out, into)}
    return names if part.bias is None else {**names, f"{name}.bias": Weight(part.bias, out, into)}


def scaled(factor: float) -> tuple[Convert, Convert]:
    """Multiplication by `factor` out, division into."""
    if math.isclose(factor, 1.0, rel_tol=1e-12):
        return same, same
    return lambda x: x * factor, lambda x: x / factor


def table_and_head(
    head: Any, table: nn.Parameter, keys: Sequence[str], head_key: str, form: str, scale: float
) -> Names:
    """The embedding under its `keys`, of which one is enough, and the output layer's matrix, perhaps the same one.

    `scale`: what the other library multiplies the hidden states by where the matrix is shared.
    """
    require(type(head) is Softmax, form, "head=softmax")
    require(head.logit_scale == 1.0 and head.soft_cap is None, form, "head.logit_scale=1 and head.soft_cap=null")
    names = {key: Weight(table, optional=True) for key in keys}
    if head.projection is not None:
        return {**names, **linear(head.projection, head_key.removesuffix(".weight"))}
    require(math.isclose(head.scale, scale), form, f"head.tied_scale={scale:g}")
    return {**names, head_key: Weight(table, optional=True)}


def halves(x: Tensor, n_heads: int) -> Tensor:
    """Rows (H K,...) with each head's neighbouring channels (a0 b0 a1 b1 ...) as two halves (a0 a1 ... b0 b1 ...)."""
    split: Tensor = x.unflatten(0, (n_heads, -1, 2))
    return split.transpose(1, 2).flatten(0, 2)


def neighbours(x: Tensor, n_heads: int) -> Tensor:
    """The inverse of `halves`."""
    split: Tensor = x.unflatten(0, (n_heads, 2, -1))
    return split.transpose(1, 2).flatten(0, 2)
