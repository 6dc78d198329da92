"""Compiling a model for training: `trainer.compile`.

    none    nothing
    block   each layer; layers that are alike share a graph, so that the time it takes does not grow with the depth
    model   the whole model as one graph: the fastest steps, and a longer wait for the first one

Shapes are fixed, so that nothing is compiled again while training. Evaluations run as they are, not compiled: theirs
are other shapes. What was compiled is kept on disk, so that a second run of the same shapes starts sooner: in the
folder that torch's variable TORCHINDUCTOR_CACHE_DIR names, else in the user's cache, where torch has a temporary one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from torch import nn

NONE, BLOCK, MODEL = "none", "block", "model"
GRAPHS = (
    128  # of one function: a layer's forward has two in each stack, and one for each layer that has its own pattern
)
FOLDER = "TORCHINDUCTOR_CACHE_DIR"


def prepare(how: str) -> None:
    """What must be set in a process before anything is compiled."""
    if how == NONE:
        return
    os.environ.setdefault(FOLDER, os.fspath(cache_folder()))
    torch._dynamo.reset()  # graphs of models before this one count towards the limits
    torch._dynamo.config.recompile_limit = GRAPHS
    torch._dynamo.config.accumulated_recompile_limit = 4 * GRAPHS


def cache_folder() -> Path:
    """Where compiled kernels stay from run to run, if nothing else is said."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "ablate" / "compiled"


def compile_for_training(model: nn.Module, how: str) -> None:
    """Have `model(batch)` compiled at its first call, or the layers in it at theirs."""
    if how == MODEL:
        model.compile(dynamic=False)
    elif how == BLOCK:
        for block in blocks(model):
            block.compile(dynamic=False)


def blocks(model: nn.Module) -> Iterator[nn.Module]:
    """The layers of a model's stacks, each once."""
    seen: set[int] = set()
    for stack in model.modules():
        layers = getattr(stack, "blocks", None)
        for block in layers if isinstance(layers, nn.ModuleList) else ():
            if id(block) not in seen:
                seen.add(id(block))
                yield block


def as_it_is(how: str) -> AbstractContextManager:
    """While entered, nothing runs compiled."""
    return nullcontext() if how == NONE else torch.compiler.set_stance("force_eager")
