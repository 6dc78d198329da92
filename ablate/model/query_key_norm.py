"""The norm of queries and of keys (Dehghani et al. 2023, https://arxiv.org/abs/2302.05442), in front of the scores."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from ablate.errors import UserError
from ablate.model.contract import Parts, Place

NONE, HEAD, PROJECTION = "none", "head", "projection"


def query_or_key_norm(
    parts: Parts, place: Place, over: str, kind: Callable[..., nn.Module] | None, head_dim: int, n_heads: int
) -> nn.Module | None:
    """The norm of one projection of `n_heads` heads: over each `head`, over the whole `projection`, or `none`.

    `kind` is its option, by default the model's own at `place`. Raises UserError for a norm with statistics of the
    batch, in which heads, and a decoder's later tokens, would be mixed.
    """
    if over == NONE:
        return None
    chosen = parts.factory("norm", place) if kind is None else kind
    norm = chosen(parts, place, width=head_dim if over == HEAD else head_dim * n_heads)
    if norm.uses_batch_statistics:
        raise UserError(
            f"attention.qk_norm={over}: a norm with statistics of the batch cannot be that of queries and keys; "
            "set attention.qk_norm_kind to another option, such as that of norm=rmsnorm"
        )
    return norm
