"""The config: composed by Hydra, checked whole, hashed, and turned into a model."""

from ablate.config.composing import CONF, compose
from ablate.config.identity import differences, effective, identity, resolved
from ablate.config.model import MODEL_SLOTS, build_model

__all__ = [
    "CONF",
    "MODEL_SLOTS",
    "build_model",
    "compose",
    "differences",
    "effective",
    "identity",
    "resolved",
    "validate",
]


def validate(cfg) -> None:
    """Raise `UserError` with a line for each thing that is wrong in `cfg`."""
