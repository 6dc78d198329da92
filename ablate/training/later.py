"""Evaluations that a finished run lacks: taken on the weights that it kept, without training again."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from omegaconf import DictConfig

from ablate.config import build_model, evaluations, points, resolved
from ablate.data.batches import Batches
from ablate.data.corpus import Corpus
from ablate.errors import UserError
from ablate.evaluation.contract import Partial
from ablate.run.files import atomic_write
from ablate.run.folder import RunFolder
from ablate.run.record import Record
from ablate.training import checkpoint, past_points, processes, record_fields
from ablate.training.checkpoint import CheckpointFolder
from ablate.training.device import device_type
from ablate.training.interruption import Interruption
from ablate.training.metrics import Heartbeat
from ablate.training.scoring import Scored, Scoring


def score(
    cfg: DictConfig,
    corpus: Corpus,
    folder: RunFolder,
    identity: str,
    record: Record,
    missing: Sequence[str],
    interruption: Interruption,
    say: Callable[[str], None],
) -> Scored:
    """What the evaluations of a finished run have found; those `missing` in its record are taken now, on its weights.

    Points of training that it lacks are taken on its checkpoints, where it has them. Every process calls it.
    """
    from ablate.training.fit import prepare_process  # Lightning: seconds, and not needed where nothing is missing

    kind = device_type(cfg)
    prepare_process(cfg, kind)
    interruption.deferred = True  # what was found is kept, so a signal may wait
    device, world_size = _device(kind), processes.world_size(cfg)
    if world_size > 1:
        torch.distributed.init_process_group("nccl" if kind == "cuda" else "gloo", timeout=processes.COLLECTIVE_LIMIT)
    try:
        scoring = Scoring(cfg, corpus, Batches(cfg, corpus), folder, identity)
        stop = _stop(folder, cfg.trainer.steps, interruption)
        context = scoring.context(device, processes.rank(), world_size, stop)
        checkpoints = CheckpointFolder(folder.checkpoints)
        if not past_points.score(scoring, checkpoints, cfg.trainer.steps, context, stop, say):
            return Scored(stopped=True)
        model = build_model(cfg)
        if missing:
            model.load_state_dict(_weights(folder, identity))
        known = {name: _known(record, name) for name in scoring.after if name not in missing}
        return scoring.score(model.to(device), context, stop, say, known)
    finally:
        if world_size > 1:
            torch.distributed.destroy_process_group()


def merged(record: Record, scored: Scored, wanted: list[str]) -> Record:
    """A finished run's record with `scored` in place of whatever the `wanted` evaluations gave before.

    Those that a signal kept from ending keep what they gave before: it is still the score of its hash.
    """
    scores = {score.source["evaluation"] for score in scored.scores.values()}
    wanted = [name for name in wanted if name in scores or evaluations.failures_of(name, scored.failed)]
    kept = {name: score for name, score in record.scores.items() if score.source.get("evaluation") not in wanted}
    missed = {key: why for key, why in record.scores_missed.items() if not points.is_of(key, wanted)}
    plain = {name: value for name, value in record.downstream.items() if name in kept or name not in record.scores}
    replaced = {key for name in wanted for key in evaluations.failures_of(name, record.scores_failed)}
    failed = {key: why for key, why in record.scores_failed.items() if key not in replaced}
    empty: dict[str, Any] = {"downstream": {}, "scores": {}, "scores_failed": {}, "scores_missed": {}}
    new = dataclasses.replace(record, **empty).with_json(scored.fields())
    return dataclasses.replace(
        record,
        downstream={**plain, **new.downstream},
        scores={**kept, **new.scores},
        scores_failed={**failed, **new.scores_failed},
        scores_missed={**missed, **new.scores_missed},
    )


def add_to_config(folder: RunFolder, cfg: DictConfig) -> None:
    """Add the evaluations to the config of a finished run, whose other keys stay as it was trained with."""
    config = folder.read_config() or resolved(cfg)
    config[evaluations.GROUP] = {**config[evaluations.GROUP], **resolved(cfg)[evaluations.GROUP]}
    atomic_write(folder.config, record_fields.as_yaml(config))


def _known(record: Record, name: str) -> Partial:
    """What the record has of an evaluation."""
    return Partial({key: score for key, score in record.scores.items() if score.source.get("evaluation") == name}, {})


def _weights(folder: RunFolder, identity: str) -> dict[str, Any]:
    try:
        content = checkpoint.load(folder.weights)
    except checkpoint.CheckpointError as error:
        raise UserError(f"{error}: no more scores can be taken of it; move {folder.path} away to train again") from None
    if content.get("identity") != identity:
        raise UserError(f"{folder.weights} belongs to another run; delete it")
    state: dict[str, Any] = content["state_dict"]
    return state


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
    device = torch.device("cuda", processes.local_rank())
    torch.cuda.set_device(device)
    return device
