"""The record of a finished run, made again from what is beside it, where the record itself is damaged."""

from __future__ import annotations

import dataclasses
from typing import Any

from omegaconf import DictConfig

from ablate.config import own_code
from ablate.run.folder import RunFolder
from ablate.run.metrics_csv import Metrics
from ablate.run.record import DONE, Data, Loss, Record, is_loss
from ablate.training import checkpoint
from ablate.training.fit import agenda


def record(begun: Record, damage: str, cfg: DictConfig, corpus: Any, folder: RunFolder, identity: str) -> Record | None:
    """The record of the run in `folder`, which `cfg` and `identity` describe; None where too little is left of it.

    It needs the weights, which say whose they are and after how many steps, and the held-out losses of metrics.csv.
    What only the damaged record said, `damage`, such as versions, hardware and speed, is not known any more.
    """
    from ablate.cost import cost

    metrics, due = Metrics.read(folder.metrics), agenda(cfg)
    final = metrics.held_out.get(due.steps) if metrics else None
    if metrics is None or final is None or not is_loss(final.loss) or not _has_weights(folder, identity, due.steps):
        return None
    early = metrics.held_out.get(due.early_step)
    known = dataclasses.replace(
        begun,
        status=DONE,
        identity=identity,
        code=own_code(cfg),
        data=Data.from_json(corpus.describe()),
        step=due.steps,
        loss=Loss(
            early=early.loss if early else None,
            final=final.loss,
            early_step=due.early_step,
            final_step=due.steps,
            bits_per_byte=final.bits_per_byte,
            early_bits_per_byte=early.bits_per_byte if early else None,
        ),
        seconds=None,
        attempts=None,
        started=None,
        rebuilt=f"{damage}; rebuilt from metrics.csv, the weights and the config",
    )
    return known.with_json(cost(cfg))


def _has_weights(folder: RunFolder, identity: str, steps: int) -> bool:
    try:
        content = checkpoint.load(folder.weights)
    except checkpoint.CheckpointError:
        return False
    return (content.get("identity"), content.get("step")) == (identity, steps)
