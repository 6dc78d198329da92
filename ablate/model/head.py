"""From hidden states to losses: ``head(hidden (B,T,D), targets, weights) -> (training loss, exact nll)``, all (B,T).

Each token's loss will be multiplied by ``weights`` (None: 1), so that a head need not compute where they are 0. A head
that has ``mean_loss(hidden, targets, weights) -> (mean training loss, exact nll)`` is asked for that instead.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from ablate.model.contract import Linear, Parts, Place, declare
from ablate.model.embedding import Embedding
from ablate.model.linear_cross_entropy import FROM_LOGITS, capped, linear_cross_entropy, linear_nll
from ablate.ranges import POSITIVE, RATE, AddedKeys, Ranges


class Head(Protocol):
    """An output layer, as the model uses it."""

    def __call__(self, hidden: Tensor, targets: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """hidden (B,T,D), targets (B,T), weights (B,T) -> training loss and exact nll of each token, (B,T)."""
        ...

    def logits(self, hidden: Tensor) -> Tensor:
        """(B,T,D) -> (B,T,V)."""
        ...


def averaged(loss: Tensor, weights: Tensor | None) -> Tensor:
    """The mean over all B T tokens of their losses (B,T) times ``weights`` (None: 1)."""
    return loss.mean() if weights is None else (loss * weights).sum() / loss.numel()


class Vocabulary(nn.Module):
    """The logits of all ids, by the embedding's table or a matrix of its own, with a bias if ``bias.logits`` is set.

    A shared table that is narrower than D is met by a projection of hidden states from D to its width.
    """

    needs: frozenset[str] = frozenset()  # what the shared embedding must offer besides the logits
    reads_narrow = False  # whether hidden states have the width of a narrow table already

    def __init__(self, parts: Parts, place: Place, *, embedding: Embedding | None):
        super().__init__()
        self.vocab_size, tied = parts.shape["vocab_size"], embedding is not None
        self.embedding = embedding
        self.width = (embedding.table_width if embedding else None) or parts.d_model  # of what meets the table
        self.projection = None if tied else parts.linear(self.width, self.vocab_size, "logits", place)
        biased = tied and parts.has_bias("logits")
        self.bias = declare(nn.Parameter(torch.empty(self.vocab_size)), "bias", place=place) if biased else None
        narrows = self.width != parts.d_model and not self.reads_narrow
        self.narrow = Linear(parts.d_model, self.width, role="normal", place=place) if narrows else None

    def vocabulary(self, hidden: Tensor) -> Tensor:
        """(...,D) -> (...,V)."""
        if self.projection is not None:
            return self.projection(hidden)
        assert self.embedding is not None  # there is either a matrix of its own or a shared table
        logits = self.embedding.logits(self._narrowed(hidden))
        return logits if self.bias is None else logits + self.bias

    def as_product(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor | None] | None:
        """x (...,N), a matrix (V,N) and a bias (V,) whose product the logits are; None where they are no single one."""
        if self.projection is not None:
            return hidden, self.projection.weight, self.projection.bias
        assert self.embedding is not None
        product = self.embedding.as_product(self._narrowed(hidden))
        return None if product is None else (*product, self.bias)

    def _narrowed(self, hidden: Tensor) -> Tensor:
        return hidden if self.narrow is None else self.narrow(hidden)


class Softmax(Vocabulary):
    """A softmax over the vocabulary, tied to the embedding's table or with its own matrix.

    What meets a tied table is multiplied by ``tied_scale`` (the paper: D^-0.5); a matrix of its own has no scale.
    ``logit_scale`` multiplies the logits, bias and all, of either kind (PaLM: D^-0.5); then ``soft_cap`` keeps them
    between -c and c by c tanh(z / c) (Gemma 2: 30); null leaves them.
    In training, ``z_loss`` times the squared log of the normaliser is added for each token (the paper: 1e-4), and
    ``label_smoothing`` spreads that fraction of the target evenly over the vocabulary. From a number of logits on
    (`ablate.model.linear_cross_entropy`) they are made in chunks of tokens and never all at once.
    """

    ranges: ClassVar[Ranges] = {"label_smoothing": RATE, "logit_scale": POSITIVE, "soft_cap": POSITIVE}
    added_keys: ClassVar[AddedKeys] = {"logit_scale": 1.0, "soft_cap": None}

    def __init__(
        self,
        parts: Parts,
        place: Place,
        *,
        embedding: Embedding | None,
        tied_scale: float,
        z_loss: float,
        label_smoothing: float,
        logit_scale: float = 1.0,
        soft_cap: float | None = None,
    ):
        super().__init__(parts, place, embedding=embedding)
        self.scale = 1.0 if embedding is None else tied_scale
        self.z_loss, self.label_smoothing = z_loss, label_smoothing
        self.logit_scale, self.soft_cap = logit_scale, soft_cap

    def transformed(self, hidden: Tensor) -> Tensor:
        """What meets the table or matrix, before ``tied_scale``, of hidden states (...,D)."""
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """(B,T,D) -> (B,T,V)."""
        logits = self.vocabulary(self._scaled(self.transformed(hidden)))
        return capped(logits if self.logit_scale == 1.0 else logits * self.logit_scale, self.soft_cap)

    def _scaled(self, hidden: Tensor) -> Tensor:
        return hidden if self.scale == 1.0 else hidden * self.scale

    def forward(self, hidden: Tensor, targets: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if not self.training and not torch.is_grad_enabled() and (product := self._in_chunks(hidden)):
            nll = linear_nll(*product, targets, soft_cap=self.soft_cap)
            return nll, nll
        logits = self.logits(hidden).float()  # (B,T,V)
        normaliser = logits.logsumexp(-1)  # (B,T): the log of the softmax's denominator
        nll = normaliser - logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
        if not self.training:
            return nll, nll
        loss = nll
        if self.label_smoothing:  # (1 - s) nll + s times the mean negative log-probability of all ids
            uniform = normaliser - logits.mean(-1)
            loss = torch.lerp(loss, uniform, self.label_smoothing)
        if self.z_loss:
            loss = loss + self.z_loss * normaliser.square()
        return loss, nll

    def mean_loss(self, hidden: Tensor, targets: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
        """The mean of losses times ``weights``, a scalar, and each token's nll (B,T), which may have no gradient."""
        if self.training and (product := self._in_chunks(hidden)):
            return linear_cross_entropy(
                *product,
                targets,
                weights,
                z_loss=self.z_loss,
                label_smoothing=self.label_smoothing,
                soft_cap=self.soft_cap,
            )
        loss, nll = self(hidden, targets, weights)
        return averaged(loss, weights), nll

    def _in_chunks(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor | None] | None:
        """The product that the logits are, where they are so many that they are made in chunks.

        Not on the meta device, where operations are counted as those of the plain form.
        """
        if hidden.is_meta or hidden.shape[0] * hidden.shape[1] * self.vocab_size < FROM_LOGITS:
            return None
        product = self.as_product(self._scaled(self.transformed(hidden)))
        if product is None or self.logit_scale == 1.0:
            return product
        x, matrix, bias = product
        return x * self.logit_scale, matrix, None if bias is None else bias * self.logit_scale
