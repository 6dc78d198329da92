"""From a composed config to its evaluations."""

from __future__ import annotations

from omegaconf import DictConfig

from ablate.config import evaluations, resolved
from ablate.config.instantiation import instantiate
from ablate.config.slots import SLOTS
from ablate.evaluation.contract import Evaluation


def build(cfg: DictConfig) -> dict[str, Evaluation]:
    """Every evaluation that `cfg` chooses, by name; raises `UserError` for options, or a model, that one refuses."""
    made = {name: _made(name, content) for name, content in resolved(cfg)[evaluations.GROUP].items()}
    for evaluation in made.values():
        evaluation.check(cfg)
    return made


def _made(name: str, content: dict[str, object]) -> Evaluation:
    path = f"{evaluations.GROUP}.{name}"
    made: Evaluation = instantiate(evaluations.settings(content), SLOTS[f"{evaluations.GROUP}.*"], path)
    return made
