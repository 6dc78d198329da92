"""Evaluations that a finished run lacks: taken on the weights that it kept, without training again."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import torch
from omegaconf import DictConfig

from ablate.config import build_model, evaluations, resolved
from ablate.data.batches import Batches
from ablate.data.corpus import Corpus
from ablate.errors import UserError
from ablate.run.files import atomic_write
from ablate.run.folder import RunFolder
from ablate.run.record import DONE
from ablate.training import checkpoint, processes, record_fields
from ablate.training.device import device_type
from ablate.training.interruption import Interruption
from ablate.training.metrics import Heartbeat
from ablate.training.scoring import Scored, Scoring


def missing(cfg: DictConfig, folder: RunFolder, record: dict[str, Any]) -> list[str]:
    """The evaluations that a finished run lacks; raises `UserError` where its weights, which they need, are gone."""
    found = evaluations.missing(resolved(cfg), record) if record["status"] == DONE else []
    if found and not folder.weights.exists():
        raise UserError(
            f"{folder.path} is done without {', '.join(found)}, and its weights are gone (keep=none, or deleted); "
            f"choose {evaluations.GROUP} without it, or move that folder away to train again"
        )
    return found


def score(
    cfg: DictConfig,
    corpus: Corpus,
    folder: RunFolder,
    identity: str,
    interruption: Interruption,
    say: Callable[[str], None],
) -> Scored:
    """What the evaluations that the run in `folder` lacks find; every process of the run calls it."""
    from ablate.training.fit import prepare_process  # Lightning: seconds, and not needed where nothing is missing

    kind = device_type(cfg)
    prepare_process(cfg, kind)
    interruption.deferred = True  # what was found is kept, so a signal may wait
    device, world_size = _device(kind), processes.world_size(cfg)
    if world_size > 1:
        torch.distributed.init_process_group("nccl" if kind == "cuda" else "gloo")
    try:
        scoring = Scoring(cfg, corpus, Batches(cfg, corpus), folder, identity)
        model = build_model(cfg)
        content = checkpoint.load(folder.weights)
        if content["identity"] != identity:
            raise UserError(f"{folder.weights} belongs to another run; delete it")
        model.load_state_dict(content["state_dict"])
        stop = _stop(folder, cfg.trainer.steps, interruption)
        context = scoring.context(device, processes.rank(), world_size, stop)
        return scoring.score(model.to(device), context, stop, say)
    finally:
        if world_size > 1:
            torch.distributed.destroy_process_group()


def merged(record: dict[str, Any], scored: Scored, wanted: list[str]) -> dict[str, Any]:
    """A finished run's record with `scored` in place of whatever the `wanted` evaluations gave before."""
    old = record.get("scores") or {}
    kept = {name: s for name, s in old.items() if (s.get("source") or {}).get("evaluation") not in wanted}
    plain = {name: value for name, value in (record.get("downstream") or {}).items() if name in kept or name not in old}
    failed = {name: why for name, why in (record.get("scores_failed") or {}).items() if name not in wanted}
    new = scored.fields()
    fields = {
        "downstream": {**plain, **new.get("downstream", {})},
        "scores": {**kept, **new.get("scores", {})},
        "scores_failed": {**failed, **new.get("scores_failed", {})},
    }
    rest = {key: value for key, value in record.items() if key not in ("scores", "scores_failed")}
    return rest | {key: content for key, content in fields.items() if content or key in rest}


def tell_config(folder: RunFolder, cfg: DictConfig) -> None:
    """Add the evaluations to the config of a finished run, whose other keys stay as it was trained with."""
    config = folder.read_config() or resolved(cfg)
    config[evaluations.GROUP] = {**config[evaluations.GROUP], **resolved(cfg)[evaluations.GROUP]}
    atomic_write(folder.config, record_fields.as_yaml(config))


def _stop(folder: RunFolder, steps: int, interruption: Interruption) -> Callable[[], bool]:
    """Whether a signal came; a call shows as well that the run is alive."""
    heartbeat = Heartbeat(folder.progress, steps)

    def stop() -> bool:
        if processes.is_main() and time.perf_counter() >= heartbeat.next:
            heartbeat.beat(steps, None, "evaluating")
        return interruption.signal is not None

    return stop


def _device(kind: str) -> torch.device:
    if kind != "cuda":
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device
