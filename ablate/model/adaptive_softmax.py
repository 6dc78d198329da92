"""The adaptive softmax: frequent ids at once, each cluster of rare ids only where it is needed."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ablate.errors import UserError
from ablate.model.contract import Parts, Place, declare


class AdaptiveSoftmax(nn.Module):
    """A softmax over the first cluster and one entry for each other; within those, one more (Joulin et al. 2017,
    https://arxiv.org/abs/1609.04309):

        log p(id) = log p(cluster) + log p(id | cluster)

    It shares the clusters of the embedding (`ablate.model.clusters`) and has the entries (C-1,D) of its own. In
    evaluation it is exact. In training each cluster of rare ids takes at most ``slots`` of a sequence's tokens, the
    first that are its own, and the others go without their second term. As in the library with which the paper was
    run, what a cluster adds is a mean over its slots, not over the length: it weighs length / slots as much as in the
    likelihood. Tokens of weight 0 take no slot. ``z_loss`` is added for each softmax.
    Raises UserError where the embedding is not shared, where a bias is asked for, or ``slots`` is no part.
    """

    needs = frozenset({"clusters"})

    def __init__(
        self, parts: Parts, place: Place, *, embedding: nn.Module | None, tied_scale: float, z_loss: float, slots: float
    ):
        super().__init__()
        if embedding is None:
            raise UserError(f"embedding.tie must name {place.stack} and head: the adaptive softmax shares its clusters")
        if parts.has_bias("logits"):
            raise UserError("bias.logits=true: the adaptive softmax has no bias; set bias.logits=false")
        if not 0 < slots <= 1:
            raise UserError(f"head.slots={slots}: must be above 0 and at most 1")
        self.embedding = embedding
        rare = len(embedding.sizes) - 1
        self.entries = declare(
            nn.Parameter(torch.empty(rare, parts.d_model)), "table", fan_in=parts.d_model, fan_out=rare, place=place
        )
        self.tied_scale, self.z_loss, self.slots = tied_scale, z_loss, slots

    def logits(self, hidden: Tensor) -> Tensor:
        """(B,T,D) -> (B,T,V): exact log-probabilities."""
        hidden = hidden * self.tied_scale
        frequent = self.embedding.sizes[0]
        first = self._first(hidden).log_softmax(-1)
        rare = [
            first[..., frequent + at, None] + cluster.logits(hidden).float().log_softmax(-1)
            for at, cluster in enumerate(self.embedding.clusters[1:])
        ]
        return torch.cat([first[..., :frequent], *rare], -1)

    def forward(self, hidden: Tensor, targets: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """In training the second result, too, lacks the second term of tokens without a slot."""
        hidden = hidden * self.tied_scale
        sizes, starts = self.embedding.sizes, self.embedding.starts
        number = sum(((targets >= start).long() for start in starts[1:]), torch.zeros_like(targets))  # of its cluster
        nll, loss = self._losses(self._first(hidden), torch.where(number == 0, targets, sizes[0] - 1 + number))
        for at, cluster in enumerate(self.embedding.clusters):
            if at == 0:
                continue
            own, labels = number == at, (targets - starts[at]) % sizes[at]
            if not self.training:
                nll = nll + own * self._losses(cluster.logits(hidden).float(), labels)[0]
                continue
            own = own if weights is None else own & (weights != 0)
            more_nll, more_loss = self._in_slots(cluster, hidden, labels, own)
            nll, loss = nll + more_nll, loss + more_loss
        return loss if self.training else nll, nll

    def _in_slots(self, cluster: nn.Module, hidden: Tensor, labels: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
        """What a cluster adds to the negative log-likelihood, and to the loss, of the first of its `own` tokens."""
        length = labels.shape[1]
        slots = math.ceil(self.slots * length)
        where = (~own).to(torch.uint8).argsort(dim=-1, stable=True)[:, :slots]  # its own first, in their order
        there = hidden.gather(1, where.unsqueeze(-1).expand(-1, -1, hidden.shape[-1]))
        terms = self._losses(cluster.logits(there).float(), labels.gather(1, where))
        none = terms[0].new_zeros(labels.shape)
        nll, loss = (none.scatter(1, where, term * own.gather(1, where)) for term in terms)
        return nll, loss * (length / slots)

    def _first(self, hidden: Tensor) -> Tensor:
        """(B,T,D) -> (B,T,frequent ids + other clusters), float32."""
        entries = nn.functional.linear(hidden, self.entries)
        return torch.cat([self.embedding.clusters[0].logits(hidden), entries], -1).float()

    def _losses(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Of one softmax: the negative log-likelihood of the labels, and the same with the z-loss."""
        normaliser = logits.logsumexp(-1)
        nll = normaliser - logits.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
        return nll, nll + self.z_loss * normaliser.square()
