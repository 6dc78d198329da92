"""The output layer of masked language models: a dense layer, an activation and a norm in front of the table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor

from ablate.errors import UserError
from ablate.model.contract import Linear, Parts, Place, View
from ablate.model.embedding import Embedding
from ablate.model.head import Softmax


class TransformedSoftmax(Softmax):
    """logits = norm(f(h W + c)) E^T + b (Devlin et al. 2019, BERT, https://arxiv.org/abs/1810.04805).

    W is (D,N), N the width of the table that is shared, mostly D: it also narrows hidden states to a narrow table
    (ALBERT). ``transform_bias``: whether there is c (ModernBERT has none); ``transform_norm``: whether there is a norm,
    which is what the slot ``norm`` holds; ``function``: the activation f. b is there if ``bias.logits`` is set. Raises
    UserError for a norm with statistics of the batch.
    """

    inner_options: ClassVar[dict[str, str]] = {"function": "activation.function"}
    reads_narrow = True

    def __init__(
        self,
        parts: Parts,
        place: Place,
        *,
        embedding: Embedding | None,
        transform_bias: bool,
        transform_norm: bool,
        function: Callable[[Tensor], Tensor],
        **settings: Any,
    ):
        if transform_norm and parts.declared("norm", place).uses_batch_statistics:
            raise UserError(
                "head.transform_norm=true: the norm in front of the table would take its statistics over padding, too; "
                "choose norm=layernorm or rmsnorm, or head.transform_norm=false"
            )
        super().__init__(parts, place, embedding=embedding, **settings)
        self.dense = Linear(parts.d_model, self.width, role="normal", place=place, bias=transform_bias)
        self.norm = parts.norm(place, self.width) if transform_norm else None
        self.function = function

    def transformed(self, hidden: Tensor) -> Tensor:
        """(...,D) -> (...,N)."""
        x = self.function(self.dense(hidden))
        return x if self.norm is None else self.norm(x, View(ids=x[..., 0]))
