"""Which kind of device a run trains on."""

from __future__ import annotations

import torch
from omegaconf import DictConfig

from ablate.errors import UserError


def device_type(cfg: DictConfig) -> str:
    """cuda or cpu; raises `UserError` where there are fewer GPUs than requested."""
    trainer, there = cfg.trainer, torch.cuda.device_count()
    if trainer.accelerator == "cpu" or (trainer.accelerator == "auto" and not there):
        return "cpu"
    if not there:
        raise UserError("trainer.accelerator=gpu: there is no CUDA device here; trainer=cpu runs without one")
    if trainer.devices > there:
        raise UserError(f"trainer.devices={trainer.devices}: there are {there} CUDA devices here")
    return "cuda"
