"""Numbers of parameters of a model, as they are reported and as a scaling rule counts them."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from ablate.model.contract import spec_of

LOOKED_UP = frozenset({"table", "table_factor"})  # the roles of vocabulary tables
EMBEDDING = LOOKED_UP | {"position_table", "logits"}


def parameters(model: nn.Module) -> dict[str, int]:
    """Numbers of parameters: `total`, `non_embedding` (without embeddings and logits), `active` on any one token."""
    counts = [(parameter.numel(), spec_of(parameter).role) for parameter in model.parameters()]
    total = sum(count for count, _ in counts)
    return {
        "total": total,
        "non_embedding": sum(count for count, role in counts if role not in EMBEDDING),
        "active": round(sum(parameter.numel() * spec_of(parameter).use for parameter in model.parameters())),
    }


def _all(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Each parameter under each of its names: those of a shared one are several."""
    return model.named_parameters(remove_duplicate=False)


def scaled(model: nn.Module) -> int:
    """The parameters that `tokens_per_parameter` counts: those outside the embeddings, and the head.

    A table that the head shares with the embedding is counted once, as the head's: its product is computed for each
    token, that of a look-up is not.
    """
    in_head = {id(parameter) for name, parameter in _all(model) if name.startswith("head.")}
    return sum(
        parameter.numel()
        for parameter in model.parameters()
        if id(parameter) in in_head or spec_of(parameter).role not in EMBEDDING
    )
