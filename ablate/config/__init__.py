"""The config: composed by Hydra, checked whole, hashed, and turned into a model."""

from ablate.config.building import build_model
from ablate.config.compatibility import check_parts
from ablate.config.composing import compose, compose_resolved, restored, roundings
from ablate.config.identity import code_changes, differences, effective, identity, own_code, resolved
from ablate.config.instantiation import fill, instantiate
from ablate.config.options import CONF, MODEL_SLOTS
from ablate.config.overrides import merge
from ablate.config.validation import validate

__all__ = [
    "CONF",
    "MODEL_SLOTS",
    "build_model",
    "check_parts",
    "code_changes",
    "compose",
    "compose_resolved",
    "differences",
    "effective",
    "fill",
    "identity",
    "instantiate",
    "merge",
    "own_code",
    "resolved",
    "restored",
    "roundings",
    "validate",
]
