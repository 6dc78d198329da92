"""The names of activations in `transformers`, and ours."""

from __future__ import annotations

from functools import partial
from typing import Any

from ablate.errors import UserError, nearest
from ablate.model import activation

# theirs -> our option, plain and gated, and the form of GELU
OPTIONS = {
    "relu": ("relu", "reglu", None),
    "silu": ("swish", "swiglu", None),
    "swish": ("swish", "swiglu", None),
    "gelu": ("gelu", "geglu", "none"),
    "gelu_new": ("gelu", "geglu", "tanh"),
    "gelu_pytorch_tanh": ("gelu", "geglu", "tanh"),
}


def overrides(name: str, *, gated: bool, key: str) -> list[str]:
    """The overrides that give the activation which `transformers` calls `name`; UserError, with `key`, for others."""
    if name not in OPTIONS:
        raise UserError(f"{key}={name}: must be one of {', '.join(OPTIONS)}{nearest(name, OPTIONS)}")
    plain, with_gate, approximate = OPTIONS[name]
    chosen = [f"activation={with_gate if gated else plain}"]
    return chosen if approximate is None else [*chosen, f"activation.function.approximate={approximate}"]


def name_of(part: Any) -> str:
    """What `transformers` calls the function of one of our activations; UserError where it has none."""
    made = part.function
    function, settings = (made.func, made.keywords) if isinstance(made, partial) else (made, {})
    if function is activation.gelu:
        return "gelu" if settings.get("approximate") == "none" else "gelu_pytorch_tanh"
    names = {activation.swish: "silu", activation.relu: "relu"}
    if function not in names:
        raise UserError(f"the activation {getattr(function, '__name__', function)} has no name in transformers")
    return names[function]
