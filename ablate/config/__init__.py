"""The config: composed by Hydra, checked whole, hashed, and turned into a model."""

from ablate.config.checking import validate
from ablate.config.composing import compose
from ablate.config.identity import code_changes, differences, effective, identity, own_code, resolved
from ablate.config.library import CONF
from ablate.config.model import MODEL_SLOTS, build_model
from ablate.config.overrides import merge
from ablate.config.parts import check_parts
from ablate.config.targets import instantiate

__all__ = [
    "CONF",
    "MODEL_SLOTS",
    "build_model",
    "check_parts",
    "code_changes",
    "compose",
    "differences",
    "effective",
    "identity",
    "instantiate",
    "merge",
    "own_code",
    "resolved",
    "validate",
]
