"""Fill the slots, tie what is tied, initialise by role: the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ablate.model.contract import Parts
from ablate.model.init import first_values, initialise
from ablate.model.topology import Batch


class Model(nn.Module):
    """A language model: ``model(batch) -> (loss, nll)``."""

    def __init__(self, topology: nn.Module, head: nn.Module):
        super().__init__()
        self.topology = topology
        self.head = head

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The training loss, a scalar, and the exact negative log-likelihood (B,T) of each target, in nats.

        The loss is the sum of each token's loss times ``weights`` (absent: 1) over B T, plus auxiliary losses. In
        training an output layer may leave something out of either; its class says what.
        """
        hidden, auxiliary = self.topology(batch)
        weights = batch.get("weights")
        loss, nll = self.head(hidden, batch["targets"], weights)
        total = loss.mean() if weights is None else (loss * weights).sum() / loss.numel()
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
    and ``sharing`` a mapping. Raises UserError where numbers do not fit, or a parameter is not declared.
    """
    topology = slots["topology"].func
    parts = Parts(slots, shape, dropout, topology.stacks)
    with torch.device(device):
        model = Model(slots["topology"](parts), parts.head(topology.scored))
    parts.check_places()
    init = slots["init"](parts)
    if device == "meta":
        first_values(model, init)  # that each parameter has some
    else:
        initialise(model, init, seed)
    return model
