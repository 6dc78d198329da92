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
    """Attention whose heads are not added: each passes the layer's feed-forward by itself, and these are weighted.

    The same feed-forward serves all heads of a layer, so it runs H times; there is none elsewhere in the block.
    kappa (H,) and alpha (H,) start uniform in [0,1]. The paper wants each to add up to 1; as its library trained the
    published row they are free, because no optimizer applied the projection. ``simplex: true`` keeps them there: what
    multiplies the branches is relu(z) / sum(relu(z) + 1e-4). The paper also gives them
    a rate of their own and freezes them in the last 20,000 of its steps, which the row does not; with simplex that is
    ``parameter_groups=[{parameters: "*.kappa", until_fraction: 0.962}, ...]``, the same for ``*.alpha``, and
    ``lr_multiplier`` the rate.
    """

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
        by_head = self.output.weight.unflatten(1, (heads, -1)).permute(1, 2, 0)
        branches = torch.bmm((out * kappa[:, None, None]).transpose(0, 1).flatten(1, 2), by_head)
        if self.output.bias is not None:
            branches = branches + self.output.bias
        own = Context(
            view=ctx.view.map(lambda x: x.repeat(heads, *[1] * (x.dim() - 1))), memory=ctx.memory, losses=ctx.losses
        )
        y = self.feedforward(branches.view(heads * batch, length, -1), own)
        return torch.einsum("h,hbtd->btd", alpha, y.unflatten(0, (heads, batch)))


def on_simplex(z: Tensor) -> Tensor:
    """z (H,) without what is negative, divided by its sum; a little less than 1 in all, so that zeros divide too."""
    z = z.relu()
    return z / (z + 1e-4).sum()
