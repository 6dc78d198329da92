"""The memory of a training step, estimated on the meta device, where nothing is allocated.

    held     weights, gradients, the optimizer's state       whatever the micro-batch
    alive    what the backward pass needs of the forward     for each sequence of the micro-batch

An estimate: a compiled model keeps less, fused attention on a GPU no scores of all pairs of tokens, and what the parts
of a step use for a moment is taken to be twice the largest tensor.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from ablate.config import build_model, fill
from ablate.config.batch import share
from ablate.cost import meta_batch
from ablate.model.recomputing import layers


@dataclass(frozen=True)
class Footprint:
    """Estimated bytes on each device."""

    held: int  # whatever the micro-batch
    alive: float  # for each sequence of it

    def of(self, micro_batch: int) -> int:
        """What a step with so many sequences at once needs."""
        return round(self.held + self.alive * micro_batch)

    def largest(self, choices: Iterable[int], room: float, scale: float = 1.0) -> int | None:
        """The largest micro-batch of `choices` whose need, times `scale`, is at most `room`; None where none is."""
        return max((micro for micro in choices if self.of(micro) * scale <= room), default=None)


def footprint(cfg: DictConfig) -> Footprint:
    """What a training step of `cfg` needs on each of its devices."""
    model = build_model(cfg, device="meta").train()
    alone = OmegaConf.merge(cfg, {"trainer": {"devices": 1, "nodes": 1}})
    batch = meta_batch(alone)  # type: ignore[arg-type]  # a DictConfig, as `cfg` is
    micro = share(cfg).micro_batch
    kept = Kept(model)
    with kept:
        loss, _ = model({name: tensor[:micro] for name, tensor in batch.items()})
        loss.backward()
    alive = kept.bytes(by_layer=bool(cfg.trainer.get("recompute")))
    if cfg.trainer.precision == "bf16":
        alive *= 0.5
    return Footprint(held(model, fill(cfg, "optimizer")), alive / micro)


def divisors(number: int) -> Iterator[int]:
    """Those of a whole number, the smallest first."""
    return (one for one in range(1, number + 1) if number % one == 0)


def held(model: nn.Module, make_optimizer: Any) -> int:
    """The bytes of a model's weights and buffers, of its gradients, and of what its optimizer keeps."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    weights = sum(map(_size, [*model.parameters(), *model.buffers()]))
    gradients = sum(map(_size, parameters))
    for parameter in parameters:
        parameter.grad = torch.empty_like(parameter)
    optimizer = make_optimizer([{"params": parameters}])
    with suppress(RuntimeError, NotImplementedError):  # one that reads a number from a tensor: at its first step
        optimizer.step()
    state = [entry for kept in optimizer.state.values() for entry in kept.values() if isinstance(entry, Tensor)]
    return weights + gradients + sum(map(_size, state))


class Kept:
    """While entered: the tensors that the backward pass of `model` is going to need, each storage once, by layer."""

    def __init__(self, model: nn.Module) -> None:
        self.weights = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())}
        self.sizes: dict[nn.Module | None, dict[int, int]] = defaultdict(dict)
        self.storages: list[Any] = []  # alive, so that no other takes the place of one
        self.entered: dict[nn.Module, int] = defaultdict(int)
        self.inputs = 0
        self.layer: nn.Module | None = None
        self.hooks = [hook for layer in layers(model) for hook in self._hooks(layer)]
        self.saved = torch.autograd.graph.saved_tensors_hooks(self._take, lambda tensor: tensor)

    def __enter__(self) -> None:
        self.saved.__enter__()

    def __exit__(self, *error: Any) -> None:
        self.saved.__exit__(*error)
        for hook in self.hooks:
            hook.remove()

    def bytes(self, *, by_layer: bool) -> float:
        """All of them; `by_layer`: where each layer's are computed again, of one layer, and the inputs of all."""
        largest = max((size for sizes in self.sizes.values() for size in sizes.values()), default=0)
        each = {layer: sum(sizes.values()) for layer, sizes in self.sizes.items()}
        outside = each.pop(None, 0)
        within: float = sum(each.values())
        if by_layer and each:
            within = self.inputs + max(kept / self.entered[layer] for layer, kept in each.items() if layer)
        return outside + within + 2 * largest

    def _hooks(self, layer: nn.Module) -> Iterator[Any]:
        yield layer.register_forward_pre_hook(self._enter)
        yield layer.register_forward_hook(self._leave)

    def _enter(self, layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        self.layer = layer
        self.entered[layer] += 1
        self.inputs += _size(inputs[0])

    def _leave(self, *_: Any) -> None:
        self.layer = None

    def _take(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.weights:
            self.sizes[self.layer][storage._cdata] = storage.nbytes()
            self.storages.append(storage)
        return tensor


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
