"""Activation checkpointing: the activations within a layer are computed again in the backward pass (Chen et al. 2016,
https://arxiv.org/abs/1604.06174), so that of each layer only the input is kept.

A layer is called twice, and must leave behind what one call does. So each call works on copies of what the layers
share: the second makes again what the first made for the layers after it, a mask or a bias, and nobody else sees it.
Running averages and the state of the random numbers are put back. (A layer with running averages that is compiled is
not computed again.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ablate.model.contract import Context

Call = Callable[[Tensor, Context], tuple[Tensor, Context]]


def recompute(model: nn.Module) -> None:
    """Have each layer of a model computed again in the backward pass. Losses and gradients keep their bits."""
    for layer in layers(model):
        layer.forward = again(layer, layer.forward)


def layers(model: nn.Module) -> Iterator[nn.Module]:
    """What the stacks of a model call, one after the other, each once: their blocks, or the steps of these."""
    seen: set[int] = set()
    for stack in model.modules():
        blocks: Any = getattr(stack, "blocks", None)
        if not isinstance(blocks, nn.ModuleList):
            continue
        called: list[Any] = list(blocks)
        if getattr(stack, "calls_steps", False):
            called = [step for block in called for step in block.steps]
        for layer in called:
            if id(layer) not in seen:
                seen.add(id(layer))
                yield layer


def again(layer: nn.Module, call: Call) -> Call:
    """``call(x (B,T,D), ctx) -> (x, ctx)``, the forward pass of `layer`, which keeps its input alone."""

    moving = [(part, name) for part in layer.modules() for name in getattr(part, "running", ())]
    contexts: dict[str, Any] = {"context_fn": lambda: (nullcontext(), unmoved(moving))} if moving else {}

    def forward(x: Tensor, ctx: Context) -> tuple[Tensor, Context]:
        if not (layer.training and torch.is_grad_enabled()) or (moving and torch.compiler.is_compiling()):
            return call(x, ctx)  # what moves cannot be put back within a graph
        known = dict(ctx.cache)

        def run(x: Tensor) -> tuple[Tensor, Context, Context]:
            own = replace(ctx, losses=[], cache=dict(known))
            return *call(x, own), own

        y, after, own = checkpoint(run, x, use_reentrant=False, **contexts)
        ctx.losses.extend(own.losses)
        ctx.cache.update(own.cache)
        return y, ctx if after is own else after

    return forward


@contextmanager
def unmoved(names: list[tuple[nn.Module, str]]) -> Iterator[None]:
    """While entered, these running averages of modules may move, and are put back in the end."""
    buffers = [getattr(module, name) for module, name in names]
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)
