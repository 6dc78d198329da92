"""Building the model: fill the slots, tie what is tied, initialise by role."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ablate.model.contract import Parts
from ablate.model.head import Head, averaged
from ablate.model.init import first_values, initialise
from ablate.model.topology import Batch


class Model(nn.Module):
    """A language model: ``model(batch) -> (loss, nll)``."""

    def __init__(self, topology: nn.Module, head: Head):
        super().__init__()
        self.topology = topology
        self.head = head

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The training loss, a scalar, and the exact negative log-likelihood (B,T) of each target, in nats.

        The loss is the mean over B T of each token's loss times ``weights`` (1 if absent), plus auxiliary losses. In
        training an output layer may leave terms out of either; its class documents which.
        """
        hidden, auxiliary = self.topology(batch)
        weights = batch.get("weights")
        if hasattr(self.head, "mean_loss"):
            total, nll = self.head.mean_loss(hidden, batch["targets"], weights)
        else:
            loss, nll = self.head(hidden, batch["targets"], weights)
            total = averaged(loss, weights)
        for extra in auxiliary:
            total = total + extra
        return total, nll

    def logits(self, batch: Batch) -> Tensor:
        """(B,T,V)."""
        hidden, _ = self.topology(batch)
        return self.head.logits(hidden)


def build(
    slots: Mapping[str, Any], shape: Mapping[str, int], *, dropout: float = 0.0, seed: int = 0, device: str = "cpu"
) -> Model:
    """The model that the filled slots describe, initialised from `seed`; on ``meta`` nothing is allocated.

    `slots` maps each group (topology, norm, ..., init) to its option: a factory ``f(parts, place)``, or for ``bias``
    and ``sharing`` a mapping. Raises UserError for sizes that do not fit and for a parameter that is not declared.
    """
    topology = slots["topology"].func
    parts = Parts(slots, shape, dropout, topology.stacks)
    with torch.device(device):
        model = Model(slots["topology"](parts), parts.head(topology.scored))
    parts.check_places()
    init = slots["init"](parts)
    if device == "meta":
        first_values(model, init)  # checks that each parameter has a known role
    else:
        initialise(model, init, seed)
    return model
