"""The names of activations in `transformers`, and ours."""

from __future__ import annotations

from ablate.errors import UserError, nearest

# theirs -> our option, plain and gated, and the form of GELU
OPTIONS = {
    "relu": ("relu", "reglu", None),
    "silu": ("swish", "swiglu", None),
    "swish": ("swish", "swiglu", None),
    "gelu": ("gelu", "geglu", "none"),
    "gelu_new": ("gelu", "geglu", "tanh"),
    "gelu_pytorch_tanh": ("gelu", "geglu", "tanh"),
}
NAMES = ("relu", "silu", "gelu", "gelu_pytorch_tanh")  # one for each; the last is computed as ours is


def overrides(name: str, *, gated: bool, key: str) -> list[str]:
    """The overrides that give the activation which `transformers` calls `name`; UserError, with `key`, for others."""
    if name not in OPTIONS:
        raise UserError(f"{key}={name}: must be one of {', '.join(OPTIONS)}{nearest(name, OPTIONS)}")
    plain, with_gate, approximate = OPTIONS[name]
    chosen = [f"activation={with_gate if gated else plain}"]
    return chosen if approximate is None else [*chosen, f"activation.function.approximate={approximate}"]
