"""The tensors of a class of `transformers` as our parameters, by its table."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from ablate.errors import UserError
from ablate.model.build import Model
from ablate.model.position import Rotary
from ablate.weights.names import Names, Weight
from ablate.weights.parameters import attentions_of, by_part, offsets
from ablate.weights.reshapings import RESHAPINGS, Heads

HALVES, NEIGHBOURS = "halves", "neighbours"
ENDINGS = {"weight": ("weight", "scale"), "bias": ("bias", "shift")}  # theirs: ours, of a projection or of a norm
LAYER, HEAD = "*", "lm_head"
Convert = Callable[[Tensor], Tensor]
Pair = tuple[Convert, Convert]  # ours to theirs, and back


@dataclass(frozen=True)
class Style:
    """How a class writes down what is one model: the scale of its scores, None for K^-0.5; rotary pairs; and what its
    norms add to their gains.
    """

    score_scale: float | None
    rotary: str
    offset: float


def named(model: Model, table: Mapping[str, Any], gated: Mapping[str, Any], tied: str, style: Style) -> Names:
    """Each tensor by its name, with the parameters of `model` that it is; parts that the model lacks are left out.

    Raises UserError for a part of the table that the model should have.
    """
    parts = by_part(model)
    if any(name.endswith("feedforward.gate.weight") for name in parts):
        table = {key: value for key, value in {**table, **gated}.items() if value is not None}
    if "head.projection.weight" not in parts:
        table = {key: value for key, value in table.items() if key != HEAD} | {f"{HEAD}.weight": table[tied]}
    attentions = attentions_of(model)
    conversions = _conversions(model, attentions, style)
    found: Names = {}
    for theirs, ours in table.items():
        given = ours if isinstance(ours, Mapping) else {"of": ours, "as": "rows"}
        sources = [given["of"]] if isinstance(given["of"], str) else given["of"]
        for layer in _layers(sources[0], parts) if any(LAYER in source for source in sources) else [None]:
            name = theirs if layer is None else theirs.replace(LAYER, str(layer))
            of = [source if layer is None else source.replace(LAYER, str(layer)) for source in sources]
            found |= _tensors(name, of, given["as"], parts, conversions, _heads(attentions, of))
    shared = _shared(found)
    return {
        name: Weight(weight.parameters, weight.out, weight.into, optional=name in shared)
        for name, weight in found.items()
    }


def _tensors(
    name: str,
    sources: Sequence[str],
    reshaping: str,
    parts: Mapping[str, nn.Parameter],
    conversions: Mapping[str, Pair],
    heads: Heads,
) -> Names:
    """One tensor, or the weight and the bias of a module, from the parts `sources`."""
    if all(source in parts for source in sources):
        return {name: _weight(sources, reshaping, parts, conversions, heads)}
    found = {}
    for ending, mine in ENDINGS.items():
        for own in mine:
            whole = [f"{source}.{own}" for source in sources]
            if all(part in parts for part in whole):
                found[f"{name}.{ending}"] = _weight(whole, reshaping, parts, conversions, heads)
    if not found:
        raise UserError(f"the model lacks {sources[0]}, which is {name}")
    return found


def _weight(
    sources: Sequence[str],
    reshaping: str,
    parts: Mapping[str, nn.Parameter],
    conversions: Mapping[str, Pair],
    heads: Heads,
) -> Weight:
    ways, outputs = RESHAPINGS[reshaping], [parts[source].shape[0] for source in sources]
    pairs = [conversions.get(source, SAME) for source in sources]

    def out(tensors: Sequence[Tensor]) -> Tensor:
        return ways.out([pair[0](tensor) for pair, tensor in zip(pairs, tensors, strict=True)], heads)

    def into(tensor: Tensor) -> Sequence[Tensor]:
        return [pair[1](one) for pair, one in zip(pairs, ways.into(tensor, outputs, heads), strict=True)]

    return Weight(tuple(parts[source] for source in sources), out, into)


def _layers(source: str, parts: Mapping[str, nn.Parameter]) -> list[int]:
    """The layers that have the part."""
    before, _, after = source.partition(LAYER)
    pattern = re.compile(re.escape(before) + r"(\d+)" + re.escape(after) + r"(\..*)?")
    return sorted({int(match[1]) for part in parts if (match := pattern.fullmatch(part))})


def _heads(attentions: Mapping[str, Any], sources: Sequence[str]) -> Heads:
    """The numbers of the attention that the first part belongs to."""
    for name, attention in attentions.items():
        if sources[0].startswith(f"{name}."):
            return Heads(attention.n_heads, attention.n_kv_heads)
    return Heads(1, 1)


def _shared(names: Names) -> set[str]:
    """The names whose parameters stand under another name too."""
    counts: dict[tuple[int, ...], list[str]] = {}
    for name, weight in names.items():
        counts.setdefault(tuple(map(id, weight.parameters)), []).append(name)
    return {name for group in counts.values() if len(group) > 1 for name in group}


def _conversions(model: Model, attentions: Mapping[str, Any], style: Style) -> dict[str, Pair]:
    """What has to be done to parameters of this model to have the class's way of writing it down, by part."""
    found: dict[str, Pair] = {}
    for name, attention in attentions.items():
        wanted = style.score_scale or attention.head_dim**-0.5
        factor = float(attention.score_scale) / wanted
        position = attention.position
        for part, heads in (("query", attention.n_heads), ("key", attention.n_kv_heads)):
            pair = _scaled(factor) if part == "query" else SAME
            if isinstance(position, Rotary) and position.interleaved != (style.rotary == NEIGHBOURS):
                pair = _after(pair, _turned(heads, position.width, to_halves=position.interleaved))
            found |= {f"{name}.{part}.{ending}": pair for ending in ("weight", "bias")} if pair is not SAME else {}
    shifts = {name: offset - style.offset for name, offset in offsets(model).items()}
    return found | {name: _shifted(shift) for name, shift in shifts.items() if shift}


def _scaled(factor: float) -> Pair:
    if math.isclose(factor, 1.0, rel_tol=1e-12):
        return SAME
    return lambda x: x * factor, lambda x: x / factor


def _shifted(offset: float) -> Pair:
    return lambda x: x + offset, lambda x: x - offset


def _turned(n_heads: int, width: int, *, to_halves: bool) -> Pair:
    pairs = partial(halves, n_heads=n_heads, width=width), partial(neighbours, n_heads=n_heads, width=width)
    return pairs if to_halves else (pairs[1], pairs[0])


def _after(first: Pair, second: Pair) -> Pair:
    return (lambda x: second[0](first[0](x))), (lambda x: first[1](second[1](x)))


def halves(x: Tensor, n_heads: int, width: int) -> Tensor:
    """Rows (H K,...), of each head the first `width`: neighbouring channels (a0 b0 a1 b1 ...) as two halves."""
    heads: Tensor = x.unflatten(0, (n_heads, -1)).clone()
    heads[:, :width] = heads[:, :width].unflatten(1, (-1, 2)).transpose(1, 2).flatten(1, 2)
    return heads.flatten(0, 1)


def neighbours(x: Tensor, n_heads: int, width: int) -> Tensor:
    """The inverse of `halves`."""
    heads: Tensor = x.unflatten(0, (n_heads, -1)).clone()
    heads[:, :width] = heads[:, :width].unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)
    return heads.flatten(0, 1)


def _same(x: Tensor) -> Tensor:
    return x


SAME: Pair = (_same, _same)
