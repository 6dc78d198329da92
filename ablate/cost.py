"""What a model costs: its parameters and operations, counted on the meta device, where nothing is allocated.

`ops_paper` is Narang et al. 2021's column (https://arxiv.org/abs/2102.11972): the multiply-accumulates of one forward
pass over the global batch as mesh-tensorflow counts them. It counts an embedding look-up as a product with one-hot
vectors, causal attention in full, and does not count convolutions. `flops_per_step` is the usual count: two operations
for each multiply-accumulate of forward and backward pass, none for look-ups. The two are never compared.
"""

from __future__ import annotations

import contextlib
import sys
import types
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from ablate.config import build_model
from ablate.config.batch import share
from ablate.model.contract import spec_of

LOOKED_UP = frozenset({"table", "table_factor"})  # the roles of vocabulary tables
EMBEDDING = LOOKED_UP | {"position_table", "logits"}


def cost(cfg: DictConfig, model: nn.Module | None = None) -> dict[str, Any]:
    """What the model of `cfg` costs: `parameters` {total, non_embedding, active}, `ops_paper`, `flops_per_step`,
    `tokens_per_step` (input tokens of the global batch). `model` is that of `cfg` on the meta device, if built."""
    model = (build_model(cfg, device="meta") if model is None else model).train()
    for module in model.modules():
        if getattr(module, "recompute", False):
            # operations repeated to save memory are not counted; torch's modules declare no such attribute
            module.recompute = False  # type: ignore[assignment]
    batch = meta_batch(cfg)
    lookups = Lookups(model)
    with FlopCounterMode(display=False) as counter, lookups:
        loss, _ = model(batch)
        forward = counter.get_total_flops()
        convolved = counter.get_flop_counts()["Global"].get(torch.ops.aten.convolution, 0)
        loss.backward()
        both = counter.get_total_flops()
    return {
        "parameters": parameters(model),
        # the counter has two operations for each multiply-accumulate
        "ops_paper": (forward - convolved) // 2 + lookups.products,
        "flops_per_step": both,
        "tokens_per_step": cfg.trainer.global_batch_tokens,
    }


@contextlib.contextmanager
def without_compiler() -> Iterator[None]:
    """Count without importing torch's compiler, a second of a process that only counts.

    Where torch marks a function as one not to compile, it imports the compiler when that is first called. What has been
    called in here stays unmarked, so this is for processes that compile nothing.
    """
    name = "torch._dynamo"
    if name in sys.modules:
        yield
        return
    stand_in = types.ModuleType(name)
    stand_in.disable = lambda function, *_, **__: function  # type: ignore[attr-defined]
    sys.modules[name] = stand_in
    try:
        yield
    finally:
        del sys.modules[name]


def parameters(model: nn.Module) -> dict[str, int]:
    """Numbers of parameters: `total`, `non_embedding` (without embeddings and logits), `active` on any one token."""
    counts = [(parameter.numel(), spec_of(parameter).role) for parameter in model.parameters()]
    total = sum(count for count, _ in counts)
    return {
        "total": total,
        "non_embedding": sum(count for count, role in counts if role not in EMBEDDING),
        "active": round(sum(parameter.numel() * spec_of(parameter).use for parameter in model.parameters())),
    }


def meta_batch(cfg: DictConfig) -> dict[str, Tensor]:
    """One global batch as the objective makes it, on the meta device: shapes and dtypes without values."""
    from ablate.data import objective as objectives
    from ablate.data.vocabulary import Layout

    size = cfg.tokenizer.vocab_size
    ids = Layout(size, text_size=size, n_sentinels=size, pad_id=0, eos_id=1)  # arbitrary: ids do not affect shapes
    objective = objectives.build(cfg, SimpleNamespace(layout=ids, text_ids=np.arange(size)))
    window = np.ones((1, objective.raw_length), dtype=np.int64)
    example = objective.apply(window, np.random.default_rng(0))
    sequences = share(cfg).sequences
    return {
        name: torch.empty(sequences, *array.shape[1:], dtype=torch.from_numpy(array).dtype, device="meta")
        for name, array in example.items()
    }


class Lookups(TorchDispatchMode):
    """Counts look-ups as products with one-hot vectors: tokens x rows x width in vocabulary tables, elsewhere what a
    module's `lookup_products(x)` returns."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.tables = {id(table) for table in model.parameters() if spec_of(table).role in LOOKED_UP}
        self.products = 0
        for module in model.modules():
            if hasattr(module, "lookup_products"):
                module.register_forward_pre_hook(self._count)

    def _count(self, module: Any, inputs: tuple[Any, ...]) -> None:
        self.products += module.lookup_products(inputs[0])

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if operation is torch.ops.aten.embedding.default and id(args[0]) in self.tables:
            self.products += args[1].numel() * args[0].numel()
        return operation(*args, **(kwargs or {}))
