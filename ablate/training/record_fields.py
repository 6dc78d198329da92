"""What a record says of a run, and when that is known."""

from __future__ import annotations

import errno
from typing import Any

import yaml
from omegaconf import DictConfig

from ablate.config import MODEL_SLOTS, own_code
from ablate.run.record import RUNNING, SCHEMA, now
from ablate.training import environment, processes

Record = dict[str, Any]
AXES = {*MODEL_SLOTS, "objective", "data", "tokenizer", "optimizer", "schedule"}
LATER = (
    "versions", "git", "hardware", "data", "parameters", "ops_paper", "flops_per_step", "tokens_per_step",
    "steps_per_second", "tokens_per_second", "mfu", "peak_memory_bytes", "data_wait_fraction", "loss", "step", "finished",
)  # fmt: skip


def asked(cfg: DictConfig, overrides: list[str], command: str, found: Record | None) -> Record:
    """Every key of a record, with what is known from the start; `found` is what an earlier attempt left."""
    found = found or {}
    return {
        "schema": SCHEMA,
        "sweep": cfg.sweep,
        "row": cfg.row,
        "overrides": overrides,
        "command": command,
        "seed": cfg.seed.base,
        "identity": found.get("identity"),
        "code": found.get("code"),
        "status": RUNNING,
        "reason": "",
        **dict.fromkeys(LATER),
        "data": found.get("data"),
        "downstream": {},
        "tags": tags(overrides),
        "seconds": found.get("seconds") or 0.0,
        "attempts": found.get("attempts") or 0,
        "started": found.get("started") or now(),
    }


def before_training(cfg: DictConfig, corpus: Any, identity: str, found: Record | None) -> Record:
    """What can be said once the text is there: identity, text, costs, versions, hardware; and that it begins."""
    from ablate.cost import cost
    from ablate.training.device import device_type

    return {
        "identity": identity,
        "code": own_code(cfg),
        "versions": environment.versions(),
        "git": environment.git_state(),
        "hardware": environment.hardware(device_type(cfg), processes.world_size(cfg)),
        "data": corpus.describe(),
        **cost(cfg),
        "attempts": ((found or {}).get("attempts") or 0) + 1,
    }


def with_rates(measured: Record, record: Record, cfg: DictConfig) -> Record:
    """What was measured, and what follows from it and from the costs."""
    speed, hardware = measured["steps_per_second"]["median"], record["hardware"]
    if speed is None:
        return measured
    flops = speed * record["flops_per_step"]
    return {
        **measured,
        "tokens_per_second": speed * record["tokens_per_step"],
        "mfu": environment.mfu(flops, hardware["device"], cfg.trainer.precision, hardware["devices"]),
    }


def tags(overrides: list[str]) -> list[str]:
    """The axes on which a run was told what to be, as `group:option`."""
    pairs = [override.partition("=") for override in overrides]
    return [f"{key}:{value}" for key, _, value in pairs if key in AXES]


def reason_of(error: Exception) -> str:
    """What a run died of, in a line, with what helps where that is known."""
    text = " ".join(str(error).split())[:300]
    kind = type(error).__name__
    if kind in ("OutOfMemoryError", "MemoryError") or "can't allocate memory" in text:
        return f"out of memory ({text or kind}); a smaller trainer.micro_batch needs less"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"the disk is full ({error.filename or text})"
    return f"{kind}: {text}" if text else kind


def as_yaml(config: dict[str, Any]) -> str:
    """A resolved config as the text of config.yaml."""
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
