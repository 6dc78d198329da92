"""Who takes part: for each family ours first, then its peers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

OURS = "ablate"


@dataclass(frozen=True)
class Contestant:
    """A model of one library.

    name: how it is shown; a library may take part with several settings.
    module, options: the module of this package that makes it, and what its `make` is given.
    package: the distribution whose version is shown; one of `sources` may be absent.
    converted: what of its weights is written down otherwise, so that from the second step on its losses may differ.
    other_work: why its loss cannot equal ours; then it is shown, and nothing is demanded against it.
    """

    name: str
    module: str
    package: str
    options: Mapping[str, Any] = field(default_factory=dict)
    converted: str = ""
    other_work: str = ""


ABLATE = Contestant(OURS, "ours", "ablate")
FAMILIES: dict[str, tuple[Contestant, ...]] = {
    "llama": (
        ABLATE,
        Contestant("transformers", "huggingface", "transformers"),
        Contestant("litgpt", "litgpt_models", "litgpt"),
        Contestant("x-transformers", "x_transformers_models", "x-transformers"),
        Contestant("x-transformers, fused attention", "x_transformers_models", "x-transformers", {"flash": True}),
    ),
    "gpt2": (
        ABLATE,
        Contestant("nanoGPT", "nanogpt", "nanogpt"),
        Contestant("transformers", "huggingface", "transformers"),
        Contestant("torch.nn layers", "torch_layers", "torch"),
    ),
    "t5": (
        ABLATE,
        Contestant("nanoT5", "nanot5", "nanot5"),
        Contestant("transformers", "huggingface", "transformers"),
        Contestant("transformers, plain attention", "huggingface", "transformers", {"attention": "eager"}),
        Contestant(
            "x-transformers",
            "x_transformers_models",
            "x-transformers",
            converted="it divides the scores by sqrt(K), which T5 does not",
        ),
        Contestant(
            "torch.nn layers",
            "torch_layers",
            "torch",
            other_work="no relative bias, LayerNorm, a plain feed-forward of as many parameters",
        ),
    ),
}


def find(family: str, name: str) -> Contestant:
    """A contestant by its name."""
    return next(contestant for contestant in FAMILIES[family] if contestant.name == name)
