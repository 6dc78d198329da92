"""Points of training that a run is past: their scores are taken where it kept a checkpoint of just that step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from ablate.config import build_model
from ablate.evaluation.contract import Context
from ablate.training import checkpoint
from ablate.training.checkpoint import CheckpointError, CheckpointFolder
from ablate.training.scoring import Scoring

OF_THE_MODEL = "model."  # with which the names of its tensors begin in a run's checkpoint


def score(
    scoring: Scoring,
    folder: CheckpointFolder,
    before: int,
    context: Context,
    is_requested: Callable[[], bool],
    say: Callable[[str], None],
) -> bool:
    """Take what is lacking at points before step `before`; False where it was requested to stop.

    Every process calls it. Checkpoints that are damaged, or of another run, are left aside.
    """
    for step in scoring.steps_of_points():
        if step >= before:
            break
        weights = _weights(folder.at(step), scoring.kept.identity) if scoring.lacks(step) else None
        if context.any_process(weights is None) or weights is None:
            continue
        model = build_model(scoring.cfg)
        model.load_state_dict(weights)
        if not scoring.score_at(step, model.to(context.device), context, is_requested, say):
            return False
    return True


def _weights(path: Path, identity: str) -> dict[str, Tensor] | None:
    """The state dict of the model in a checkpoint of this run; None where there is none."""
    if not path.exists():
        return None
    try:
        content = checkpoint.load(path)
    except CheckpointError:
        return None
    if (content.get("run") or {}).get("identity") != identity:
        return None
    state = content["state_dict"].items()
    return {name.removeprefix(OF_THE_MODEL): tensor for name, tensor in state if name.startswith(OF_THE_MODEL)}
