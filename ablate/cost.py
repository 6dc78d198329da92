"""What a model costs: its parameters and operations, counted on the meta device, where nothing is allocated.

`ops_paper` is Narang et al. 2021's column (https://arxiv.org/abs/2102.11972): the multiply-accumulates of one forward
pass over the global batch as mesh-tensorflow counts them. It counts an embedding look-up as a product with one-hot
vectors, causal attention in full, and does not count convolutions. `flops_per_step` is the usual count: two operations
for each multiply-accumulate of forward and backward pass, none for look-ups. The two are never compared.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ablate.config import build_model
from ablate.config.batch import share
from ablate.model.contract import spec_of
from ablate.model.parameter_count import LOOKED_UP, parameters


def cost(cfg: DictConfig, model: nn.Module | None = None) -> dict[str, Any]:
    """What the model of `cfg` costs: `parameters` {total, non_embedding, active}, `ops_paper`, `flops_per_step`,
    `tokens_per_step` (input tokens of the global batch). `model` is that of `cfg` on the meta device, if built."""
    model = (build_model(cfg, device="meta") if model is None else model).train()
    for module in model.modules():
        if getattr(module, "recompute", False):
            # operations repeated to save memory are not counted; torch's modules declare no such attribute
            module.recompute = False  # type: ignore[assignment]
    batch = meta_batch(cfg)
    with Counter(model) as counter:
        loss, _ = model(batch)
        ops_paper = (counter.flops - counter.convolved) // 2 + counter.looked_up
        loss.backward()
    return {
        "parameters": parameters(model),
        "ops_paper": ops_paper,
        "flops_per_step": counter.flops,
        "tokens_per_step": cfg.trainer.global_batch_tokens,
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


def _layer_norm(x: Tensor, shape: list[int], *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    kept = [*x.shape[: x.dim() - len(shape)], *(1 for _ in shape)]
    return torch.empty_like(x), x.new_empty(kept), x.new_empty(kept)


def _layer_norm_backward(
    grad: Tensor, x: Tensor, shape: Any, mean: Any, rstd: Any, scale: Any, shift: Any, wanted: list[bool]
) -> tuple[Tensor | None, ...]:
    return tuple(
        torch.empty_like(of) if is_wanted else None for of, is_wanted in zip((x, scale, shift), wanted, strict=True)
    )


OUTPUTS: dict[Any, Callable[..., Any]] = {
    # what these return on the meta device, where torch composes it of twenty operations, half of the time of counting
    torch.ops.aten.native_layer_norm.default: _layer_norm,
    torch.ops.aten.native_layer_norm_backward.default: _layer_norm_backward,
}


class Counter(TorchDispatchMode):
    """Counts, of the operations within it, what torch's table of formulas has a formula for: `flops`, two for each
    multiply-accumulate, and how many of them are `convolved`; and the products of look-ups, `looked_up`.

    A look-up counts as a product with one-hot vectors: tokens x rows x width in vocabulary tables, elsewhere what a
    module's `lookup_products(x)` returns. (torch's `FlopCounterMode` counts the same flops by module, in twice the
    time.)
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.tables = {id(table) for table in model.parameters() if spec_of(table).role in LOOKED_UP}
        self.flops = self.convolved = self.looked_up = 0
        for module in model.modules():
            if hasattr(module, "lookup_products"):
                module.register_forward_pre_hook(self._look_up)

    def _look_up(self, module: Any, inputs: tuple[Any, ...]) -> None:
        self.looked_up += module.lookup_products(inputs[0])

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = OUTPUTS.get(operation, operation)(*args, **kwargs)
        if formula := flop_registry.get(operation.overloadpacket):
            flops = formula(*args, **kwargs, out_val=out)
            self.flops += flops
            self.convolved += flops if operation.overloadpacket is torch.ops.aten.convolution else 0
        elif operation is torch.ops.aten.embedding.default and id(args[0]) in self.tables:
            self.looked_up += args[1].numel() * args[0].numel()
        return out
