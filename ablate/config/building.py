"""From a composed config to a model: make what the slots hold, hand it to the builder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from ablate.config.compatibility import check_parts
from ablate.config.instantiation import fill
from ablate.config.options import MODEL_SLOTS
from ablate.errors import UserError

if TYPE_CHECKING:
    from ablate.model.build import Model


def fill_slots(cfg: DictConfig) -> dict[str, Any]:
    """Each model group's content with every `_target_` in it, at any depth, turned into what it makes."""
    return {group: fill(cfg, group) for group in MODEL_SLOTS}


def build_model(cfg: DictConfig, device: str = "cpu") -> Model:
    """The model that `cfg` describes, initialised from `seed.init`, on `device` ("meta" allocates nothing).

    Raises `UserError` where parts or numbers do not fit together.
    """
    from ablate.model import parameter_groups
    from ablate.model.build import build

    check_parts(cfg)
    try:
        model = build(fill_slots(cfg), fill(cfg, "shape"), dropout=cfg.dropout, seed=cfg.seed.init, device=device)
    except (RuntimeError, TypeError, OverflowError) as error:
        if not any(word in str(error).lower() for word in ("overflow", "too big")):
            raise
        raise UserError("the model has a matrix of more entries than can be counted; lower its widths") from None
    groups = fill(cfg, "parameter_groups")
    parameter_groups.groups(model, groups, steps=1)  # that their names exist
    return model
