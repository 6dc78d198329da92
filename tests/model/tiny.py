"""A model that is built and trained in a hundredth of a second, and batches for any topology."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from omegaconf import DictConfig

from ablate.config import build_model, compose
from ablate.model.build import Model

SHAPE = {
    "d_model": 24, "n_layers": 2, "n_heads": 4, "head_dim": 6, "d_ff": 48, "vocab_size": 192, "length": 16,
    "batch_tokens": 32,
}  # fmt: skip
FITTED = {  # what an option needs at this size, in any topology
    **{f"feedforward={name}": ["feedforward.pattern=[experts]", "feedforward.experts.n_experts=4"]
       for name in ("mixture_of_experts", "switch")},
    **{f"attention=synthesizer_{name}": ["attention.n_heads=3", "attention.head_dim=10"]
       for name in ("dense", "dense_plus", "dense_plus_alpha", "factorized",
                    "random", "random_plus", "random_plus_alpha")},
    "position=rope_and_none": ["position.pattern=[rope,none]"],
    "stack=funnel": ["stack.encoder.n_blocks=2"],
    **{f"stack={name}": [f"stack.{stack}.{steps}" for stack in ("encoder", "decoder")
                         for steps in ("n_steps=2", "steps_before=1", "steps_after=0")]
       for name in ("universal", "universal_act")},
    "norm=partial_rmsnorm": ["norm.fraction=0.25"],  # two channels' mean square may be next to nothing
    "feedforward=product_key_memory": ["feedforward.stacks=[encoder,decoder]", "feedforward.layers=[-1]"],
}  # fmt: skip
LENGTH, TARGETS = 16, 12  # of the sequence that is read, and of the one that is scored


def overrides(*given: str, **shape: int) -> list[str]:
    """`given` behind the overrides that make everything tiny; a number of the shape by its name."""
    keys = {one.partition("=")[0] for one in given}
    fitted = [number for one in given for number in FITTED.get(one, []) if number.partition("=")[0] not in keys]
    return [*(f"shape.{key}={value}" for key, value in {**SHAPE, **shape}.items()), *fitted, *given]


def tiny(*given: str, **shape: int) -> Model:
    """The baseline with the overrides `given`, tiny."""
    return build_model(tiny_config(*given, **shape))


def tiny_config(*given: str, **shape: int) -> DictConfig:
    """The config of `tiny`."""
    return compose(overrides(*given, **shape))


def batch_for(model: Model, *, rows: int = 2, padded: bool = False, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random ids for the stacks that `model` has; `padded`: two segments a row and padding at its end."""
    generator = torch.Generator().manual_seed(seed)
    ids = lambda length: torch.randint(2, SHAPE["vocab_size"], (rows, length), generator=generator)  # noqa: E731
    topology = model.topology
    lengths = {stack: TARGETS if stack == topology.scored else LENGTH for stack in topology.stacks}
    batch = {f"{stack}_ids": ids(length) for stack, length in lengths.items()}
    batch["targets"] = ids(TARGETS)
    if "prefix" in topology.mask_orders.values():
        batch["prefix_lengths"] = torch.arange(2, 2 + rows)
    if padded:
        for stack, length in lengths.items():
            segments, positions = packed(length, rows)
            batch[f"{stack}_segments"], batch[f"{stack}_positions"] = segments, positions
        batch["weights"] = (batch[f"{topology.scored}_segments"] != 0).float()
    return batch


def packed(length: int, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Segments (rows, length) 1 .. 1 2 .. 2 0 .. 0, and the position of each token in its segment."""
    at = torch.arange(length).expand(rows, -1)
    first, end = length // 3 + torch.arange(rows)[:, None], length - 1 - torch.arange(rows)[:, None]
    segments = torch.where(at < first, 1, torch.where(at < end, 2, 0))
    return segments, torch.where(at < first, at, torch.where(at < end, at - first, at - end))


def train_step(model: Model, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """One forward and backward pass in training mode; the loss."""
    model.train()
    model.zero_grad()
    loss, _ = model(batch)
    loss.backward()
    return loss.detach()


def set_all(model: torch.nn.Module, values: Iterable[float] = (0.5,), seed: int = 0) -> None:
    """Random values everywhere, so that nothing is at zero or one by its initialiser."""
    generator = torch.Generator().manual_seed(seed)
    (scale,) = values
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
