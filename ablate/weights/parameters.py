"""A model's parameters by the part that they belong to, whatever step of a block holds it.

    decoder.embedding.table                 decoder.position.table      decoder.norm.scale      decoder.end.scale
    decoder.3.self_attention.query.weight   decoder.3.self_attention.norm.scale                 head.projection.weight

A norm has the name of the first sub-layer behind it; one behind the sub-layer is its `norm_after`. A parameter that
several parts share is there under each of their names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, cast

from torch import nn

from ablate.model.build import Model

STACKS = ("encoder", "decoder")


def by_part(model: Model) -> dict[str, nn.Parameter]:
    """Every parameter of the model by its names."""
    topology, head = cast(Any, model.topology), cast(Any, model.head)
    found = {
        name: parameter
        for stack in STACKS
        if hasattr(topology, stack)
        for name, parameter in _of_tower(getattr(topology, stack), stack)
    }
    return found | dict(_inside(head, "head"))


def _of_tower(tower: Any, stack: str) -> Iterator[tuple[str, nn.Parameter]]:
    for name in ("embedding", "norm", "position"):
        yield from _inside(getattr(tower, name), f"{stack}.{name}")
    for name, part in tower.stack.named_children():
        if name != "blocks":
            yield from _inside(part, f"{stack}.{name}")
    for layer, block in enumerate(tower.stack.blocks):
        for step in block.steps:
            for name, part in step.named_children():
                if name != "sublayers":
                    yield from _inside(part, f"{stack}.{layer}.{step.kinds[0]}.{name}")
            for kind, sublayer in zip(step.kinds, step.sublayers, strict=True):
                yield from _inside(sublayer, f"{stack}.{layer}.{kind}")


def _inside(part: nn.Module | None, name: str) -> Iterator[tuple[str, nn.Parameter]]:
    if part is None:
        return
    for path, parameter in part.named_parameters(remove_duplicate=False):
        yield f"{name}.{path}", parameter


def attentions_of(model: Model) -> dict[str, Any]:
    """The attentions of the model by their names, such as `decoder.3.self_attention`."""
    topology: Any = model.topology
    return {
        f"{stack}.{layer}.{kind}": sublayer
        for stack in STACKS
        if hasattr(topology, stack)
        for layer, block in enumerate(getattr(topology, stack).stack.blocks)
        for step in block.steps
        for kind, sublayer in zip(step.kinds, step.sublayers, strict=True)
        if hasattr(sublayer, "n_kv_heads")
    }


def offsets(model: Model) -> dict[str, float]:
    """What the norms add to their scales, by the name of the scale."""
    modules: Iterable[Any] = model.modules()
    of_parameter = {
        id(module.scale): float(module.offset)
        for module in modules
        if hasattr(module, "scale") and isinstance(module.scale, nn.Parameter) and hasattr(module, "offset")
    }
    return {name: of_parameter[id(one)] for name, one in by_part(model).items() if id(one) in of_parameter}
