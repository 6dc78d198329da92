"""From hidden states to losses: ``head(hidden (B,T,D), targets (B,T)) -> (training loss, exact nll)``, both (B,T)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ablate.model.contract import Parts, Place, declare


class Softmax(nn.Module):
    """A softmax over the vocabulary, tied to the embedding's table or with its own matrix.

    Tied logits are multiplied by ``tied_scale`` (the paper: D^-0.5); a matrix of its own has no scale. Either has a
    bias where ``bias.logits`` asks for it.
    In training, ``z_loss`` times the squared log of the normaliser is added for each token (the paper: 1e-4), and
    ``label_smoothing`` spreads that share of the target evenly over the vocabulary.
    """

    def __init__(
        self,
        parts: Parts,
        place: Place,
        *,
        embedding: nn.Module | None,
        tied_scale: float,
        z_loss: float,
        label_smoothing: float,
    ):
        super().__init__()
        self.embedding = embedding
        vocabulary = parts.shape["vocab_size"]
        self.projection = self.bias = None
        if embedding is None:
            self.projection = parts.linear(parts.d_model, vocabulary, "logits", place)
        elif parts.has_bias("logits"):
            self.bias = declare(nn.Parameter(torch.empty(vocabulary)), "bias", place=place)
        biased = embedding is not None and parts.has_bias("logits")
        self.bias = declare(nn.Parameter(torch.empty(vocabulary)), "bias", place=place) if biased else None
        self.tied_scale, self.z_loss, self.label_smoothing = tied_scale, z_loss, label_smoothing

    def logits(self, hidden: Tensor) -> Tensor:
        """(B,T,D) -> (B,T,V)."""
        if self.embedding is None:
            return self.projection(hidden)
        logits = self.embedding.logits(hidden * self.tied_scale)
        return logits if self.bias is None else logits + self.bias

    def forward(self, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.logits(hidden).float()
        normaliser = logits.logsumexp(-1)
        nll = normaliser - logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
        if not self.training:
            return nll, nll
        loss = nll
        if self.label_smoothing:
            uniform = normaliser - logits.mean(-1)
            loss = torch.lerp(loss, uniform, self.label_smoothing)
        if self.z_loss:
            loss = loss + self.z_loss * normaliser.square()
        return loss, nll
