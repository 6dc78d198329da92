"""The fields of a run's record, and when each is known."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import yaml
from omegaconf import DictConfig

from ablate.config import MODEL_SLOTS, own_code, resolved, roundings
from ablate.config.identity import SCHEMA as IDENTITY_SCHEMA
from ablate.config.settling import decided
from ablate.naming import context_of
from ablate.run.record import RUNNING, SCHEMA, Data, Record, now
from ablate.training import environment, processes

if TYPE_CHECKING:
    from torch import nn

AXES = {*MODEL_SLOTS, "objective", "data", "tokenizer", "optimizer", "schedule"}


def begun(
    cfg: DictConfig, overrides: Sequence[str], command: str, found: Record | None, seconds: float = 0.0
) -> Record:
    """What is known from the start, and what an earlier attempt, `found`, leaves to it; `seconds` spent so far."""
    fresh = Record(
        schema=SCHEMA,
        sweep=cfg.sweep,
        context=context_of(cfg.sweep),
        row=cfg.row,
        overrides=tuple(overrides),
        rounded=roundings(overrides),
        command=command,
        seed=cfg.seed.base,
        identity_schema=IDENTITY_SCHEMA,
        status=RUNNING,
        tags=tags(overrides),
        seconds=0.0,
        attempts=0,
        started=now(),
        decided=decided(resolved(cfg), overrides),
    )
    if found is None:
        return fresh
    return dataclasses.replace(
        fresh,
        identity=found.identity,
        code=found.code,
        data=found.data,
        seconds=seconds,
        attempts=found.attempts or 0,
        started=found.started or fresh.started,
        micro_batch=found.micro_batch,
        decided=found.decided or fresh.decided,
        unknown=found.unknown,
        order=found.order,
    )


def before_training(
    record: Record, cfg: DictConfig, corpus: Any, identity: str, meta_model: nn.Module | None = None
) -> Record:
    """With what is known once the text is there: identity, text, costs, versions, hardware; another attempt begins."""
    from ablate.cost import cost
    from ablate.training.device import device_type

    known = dataclasses.replace(
        record,
        identity=identity,
        code=own_code(cfg),
        versions=environment.versions(),
        git=environment.git_state(),
        hardware=environment.hardware(device_type(cfg), processes.world_size(cfg)),
        data=Data.from_json(corpus.describe()),
        attempts=(record.attempts or 0) + 1,
    )
    return known.with_json(cost(cfg, meta_model))


def after_training(record: Record, measured: Mapping[str, Any], cfg: DictConfig) -> Record:
    """With what was `measured`, by its keys in the record, and what follows from that and from the costs."""
    record = record.with_json(measured)
    speed = record.steps_per_second.median if record.steps_per_second else None
    if speed is None or record.hardware is None:
        return record
    flops = speed * (record.flops_per_step or 0)
    device, devices = record.hardware.device or "", record.hardware.devices or 1
    return dataclasses.replace(
        record,
        tokens_per_second=speed * (record.tokens_per_step or 0),
        mfu=environment.mfu(flops, device, cfg.trainer.precision, devices),
    )


def tags(overrides: Sequence[str]) -> tuple[str, ...]:
    """The axes on which the overrides choose an option, as `group:option`."""
    pairs = [override.partition("=") for override in overrides]
    return tuple(f"{key}:{value}" for key, _, value in pairs if key in AXES)


def as_yaml(config: dict[str, Any]) -> str:
    """A resolved config as the text of config.yaml."""
    return str(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
