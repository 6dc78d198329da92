"""From hidden states to losses: ``head(hidden (B,T,D), targets, weights) -> (training loss, exact nll)``, all (B,T).

Each token's loss will be multiplied by ``weights`` (None: 1), so that a head need not compute where they are 0.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from ablate.model.contract import Parts, Place, declare
from ablate.model.embedding import Embedding


class Head(Protocol):
    """An output layer, as the model uses it."""

    def __call__(self, hidden: Tensor, targets: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """hidden (B,T,D), targets (B,T), weights (B,T) -> training loss and exact nll of each token, (B,T)."""
        ...

    def logits(self, hidden: Tensor) -> Tensor:
        """(B,T,D) -> (B,T,V)."""
        ...


class Vocabulary(nn.Module):
    """The logits of all ids, by the embedding's table or a matrix of its own, with a bias if ``bias.logits`` is set."""

    needs: frozenset[str] = frozenset()  # what the shared embedding must offer besides the logits

    def __init__(self, parts: Parts, place: Place, *, embedding: Embedding | None):
        super().__init__()
        vocab_size, tied = parts.shape["vocab_size"], embedding is not None
        self.embedding = embedding
        self.projection = None if tied else parts.linear(parts.d_model, vocab_size, "logits", place)
        biased = tied and parts.has_bias("logits")
        self.bias = declare(nn.Parameter(torch.empty(vocab_size)), "bias", place=place) if biased else None

    def vocabulary(self, hidden: Tensor) -> Tensor:
        """(...,D) -> (...,V)."""
        if self.projection is not None:
            return self.projection(hidden)
        assert self.embedding is not None  # there is either a matrix of its own or a shared table
        logits = self.embedding.logits(hidden)
        return logits if self.bias is None else logits + self.bias


class Softmax(Vocabulary):
    """A softmax over the vocabulary, tied to the embedding's table or with its own matrix.

    Tied logits are multiplied by ``tied_scale`` (the paper: D^-0.5); a matrix of its own has no scale.
    In training, ``z_loss`` times the squared log of the normaliser is added for each token (the paper: 1e-4), and
    ``label_smoothing`` spreads that fraction of the target evenly over the vocabulary.
    """

    def __init__(
        self,
        parts: Parts,
        place: Place,
        *,
        embedding: Embedding | None,
        tied_scale: float,
        z_loss: float,
        label_smoothing: float,
    ):
        super().__init__(parts, place, embedding=embedding)
        self.scale = 1.0 if embedding is None else tied_scale
        self.z_loss, self.label_smoothing = z_loss, label_smoothing

    def logits(self, hidden: Tensor) -> Tensor:
        """(B,T,D) -> (B,T,V)."""
        return self.vocabulary(hidden if self.scale == 1.0 else hidden * self.scale)

    def forward(self, hidden: Tensor, targets: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
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
