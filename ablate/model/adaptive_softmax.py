"""The adaptive softmax: frequent ids in a first softmax, rare ones in others that only their own tokens compute."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ablate.errors import UserError
from ablate.model.clusters import Clusters
from ablate.model.contract import Parts, Place, declare


class AdaptiveSoftmax(nn.Module):
    """A softmax over the first cluster's ids and the other clusters; within each of those, another (Joulin et al. 2017,
    https://arxiv.org/abs/1609.04309):

        log p(id) = log p(cluster) + log p(id | cluster)

    It shares the clusters of the embedding (`ablate.model.clusters`); only the entries (C-1,D) of the C-1 clusters of
    rare ids in the first softmax are its own. In evaluation it is exact. In training each cluster of rare ids has slots
    for a fraction ``slots`` of a sequence's tokens, taken by the first tokens whose targets are its own; the others go
    without their second term. As in the library with which the paper was run, what a cluster adds is a mean over its
    slots, not over the length, and so has length / slots times its weight in the likelihood. Tokens of weight 0 take no
    slot. ``z_loss`` is added for each softmax.
    Raises UserError if the embedding is not shared, if ``bias.logits`` is set, or if ``slots`` is not in (0, 1].
    """

    needs = frozenset({"clusters"})

    def __init__(
        self, parts: Parts, place: Place, *, embedding: Clusters | None, tied_scale: float, z_loss: float, slots: float
    ):
        super().__init__()
        if embedding is None:
            raise UserError(
                f"embedding.tie must name {place.stack} and head: the adaptive softmax shares the embedding's clusters"
            )
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
        first = self._first(hidden).log_softmax(-1)  # (B,T,frequent + C-1)
        rare = [  # log p(cluster) + log p(id | cluster), (B,T,size) each
            first[..., frequent + at, None] + cluster.logits(hidden).float().log_softmax(-1)
            for at, cluster in enumerate(self.embedding.clusters[1:])
        ]
        return torch.cat([first[..., :frequent], *rare], -1)

    def forward(self, hidden: Tensor, targets: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """In training the second result also lacks the second term of tokens without a slot."""
        hidden = hidden * self.tied_scale
        sizes, starts = self.embedding.sizes, self.embedding.starts
        # (B,T): the number of each target's cluster, and with it the target's entry in the first softmax
        number = sum(((targets >= start).long() for start in starts[1:]), torch.zeros_like(targets))
        nll, loss = self._losses(self._first(hidden), torch.where(number == 0, targets, sizes[0] - 1 + number))
        for at, cluster in enumerate(self.embedding.clusters):
            if at == 0:
                continue
            own, labels = number == at, (targets - starts[at]) % sizes[at]  # labels of other clusters are not used
            if not self.training:
                nll = nll + own * self._losses(cluster.logits(hidden).float(), labels)[0]
                continue
            own = own if weights is None else own & (weights != 0)
            more_nll, more_loss = self._in_slots(cluster, hidden, labels, own)
            nll, loss = nll + more_nll, loss + more_loss
        return loss if self.training else nll, nll

    def _in_slots(self, cluster: Any, hidden: Tensor, labels: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
        """What a cluster adds to nll and loss, (B,T) each: nonzero at the first of its `own` (B,T) tokens."""
        length = labels.shape[1]
        slots = math.ceil(self.slots * length)
        # A stable sort puts the cluster's own tokens first, in order; slots left over get others, with a factor of 0.
        where = (~own).to(torch.uint8).argsort(dim=-1, stable=True)[:, :slots]  # (B,slots)
        taken = hidden.gather(1, where.unsqueeze(-1).expand(-1, -1, hidden.shape[-1]))  # (B,slots,D)
        terms = self._losses(cluster.logits(taken).float(), labels.gather(1, where))  # (B,slots) each
        zeros = terms[0].new_zeros(labels.shape)
        nll, loss = (zeros.scatter(1, where, term * own.gather(1, where)) for term in terms)
        return nll, loss * (length / slots)

    def _first(self, hidden: Tensor) -> Tensor:
        """(B,T,D) -> (B,T,frequent ids + other clusters), float32."""
        entries = nn.functional.linear(hidden, self.entries)
        return torch.cat([self.embedding.clusters[0].logits(hidden), entries], -1).float()

    def _losses(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """For logits (B,T,n) of one softmax: the nll of the labels (B,T), and the same with the z-loss added."""
        normaliser = logits.logsumexp(-1)
        nll = normaliser - logits.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
        return nll, nll + self.z_loss * normaliser.square()
