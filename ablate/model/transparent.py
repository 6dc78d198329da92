"""Transparent attention: each decoder layer attends to its own mixture of all of the encoder's states."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from ablate.model.contract import Context, Memory, Parts, Place, declare
from ablate.model.stack import PlainStack, n_blocks


class TransparentStack(PlainStack):
    """A decoder whose layer i attends to sum_j softmax_j(w[j,i]) state_j (Bapna et al. 2018,
    https://arxiv.org/abs/1808.07561).

    The states are the encoder's embedded input, its residual stream after each block but the last, and its output
    after the final norm: as in Narang et al.'s library the residual stream is mixed without a norm of its own. Weights
    (states, blocks), one column for each of the decoder's blocks; dropout is applied to the weights.
    """

    needs = frozenset({"encoder", "decoder"})
    incremental = True

    def __init__(self, parts: Parts, place: Place, *, n_layers: int):
        super().__init__(parts, place, n_layers=n_layers)
        n_states = n_blocks(parts, "encoder", parts.depths["encoder"]) + 1
        self.mixture = declare(
            nn.Parameter(torch.empty(n_states, len(self.blocks))),
            "normal",
            fan_in=n_states,
            fan_out=len(self.blocks),
            place=place,
        )

    def through(self, x: Tensor, ctx: Context) -> tuple[list[Tensor], Context]:
        weights = functional.dropout(self.mixture, self.dropout.p, self.training).softmax(0)
        memory = ctx.memory
        assert memory is not None, "a transparent stack needs an encoder"
        # states (J,B,S,D) and weights (J,I) -> a memory (B,S,D) for each of I blocks
        mixed = torch.einsum("jbsd,ji->ibsd", torch.stack(memory.states), weights.to(x.dtype))
        states = [x]
        for block, output in zip(self.blocks, mixed, strict=True):
            x, _ = block(x, replace(ctx, memory=Memory(memory.view, output, memory.states)))
            states.append(x)
        return states, ctx
