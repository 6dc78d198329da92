"""The Weighted Transformer's attention: heads as branches of one feed-forward (Ahmed et al. 2017,
https://arxiv.org/abs/1711.02132).

    head 1 -> W1 -> * kappa1 -> feed-forward -> * alpha1 -+
    head 2 -> W2 -> * kappa2 -> feed-forward -> * alpha2 -+-> y
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ablate.model.attention import Attention
from ablate.model.contract import FEEDFORWARD, Context, Parts, Place, declare


class Weighted(Attention):
    """Attention whose heads are not summed: each passes through the layer's feed-forward on its own, then is weighted.

    The same feed-forward serves all heads of a layer, so it runs H times; the block has no other. kappa (H,) and
    alpha (H,) are initially uniform in [0,1]. In the paper each adds up to 1; as its library trained the published row
    they are unconstrained, because no optimizer applied the projection. ``simplex: true`` constrains them: the branches
    are multiplied by relu(z) / sum(relu(z) + 1e-4). The paper also gives them a learning rate of their own and freezes
    them in the last 20,000 of its steps, which the row does not; with simplex that is ``parameter_groups=[{parameters:
    "*.kappa", until_fraction: 0.962}, {parameters: "*.alpha", until_fraction: 0.962}]``, and ``lr_multiplier`` for the
    rate.
    """

    incremental = True

    def __init__(self, parts: Parts, place: Place, *, simplex: bool, **numbers: Any):
        super().__init__(parts, place, **numbers)
        self.kappa, self.alpha = (
            declare(nn.Parameter(torch.empty(self.n_heads)), "branch", place=place) for _ in range(2)
        )
        self.feedforward = parts.feedforward(place.at(FEEDFORWARD))
        self.simplex = simplex

    def combine(self, out: Tensor, ctx: Context) -> Tensor:
        kappa, alpha = (on_simplex(z) if self.simplex else z for z in (self.kappa, self.alpha))
        batch, heads, length, _ = out.shape
        # Each head has its own rows of the output projection: (D,H K) -> (H,K,D). The products are batched by head:
        # (H,B T,K) x (H,K,D) -> (H,B T,D).
        by_head = self.output.weight.unflatten(1, (heads, -1)).permute(1, 2, 0)
        branches = torch.bmm((out * kappa[:, None, None]).transpose(0, 1).flatten(1, 2), by_head)
        if self.output.bias is not None:
            branches = branches + self.output.bias
        # The feed-forward sees the heads as H times as many examples, head after head.
        own = Context(
            view=ctx.view.map(lambda x: x.repeat(heads, *[1] * (x.dim() - 1))), memory=ctx.memory, losses=ctx.losses
        )
        y = self.feedforward(branches.view(heads * batch, length, -1), own)
        return torch.einsum("h,hbtd->btd", alpha, y.unflatten(0, (heads, batch)))


def on_simplex(z: Tensor) -> Tensor:
    """relu(z) (H,) divided by its sum, which then is slightly below 1: 1e-4 a head avoids a division by zero."""
    z = z.relu()
    return z / (z + 1e-4).sum()
