"""From a composed config to its evaluations."""

from __future__ import annotations

from omegaconf import DictConfig

from ablate.config import evaluations, instantiate, resolved
from ablate.errors import UserError
from ablate.evaluation.contract import Evaluation


def build(cfg: DictConfig) -> dict[str, Evaluation]:
    """Every evaluation that `cfg` chooses, by name; raises `UserError` for options that its class refuses."""
    return {name: _made(name, content) for name, content in resolved(cfg)[evaluations.GROUP].items()}


def _made(name: str, content: dict[str, object]) -> Evaluation:
    from hydra.errors import InstantiationException

    options = {key: value for key, value in content.items() if key != evaluations.PART_OF_TRAINING}
    try:
        made = instantiate(options)
    except InstantiationException as error:  # the options of the file are not those of its class
        raise UserError(f"evaluation={name}: {error.__cause__ or error}") from None
    if not isinstance(made, Evaluation):
        base = f"{Evaluation.__module__}.{Evaluation.__qualname__}"
        raise UserError(f"evaluation={name}: {content['_target_']} is not an evaluation; inherit {base}")
    return made
