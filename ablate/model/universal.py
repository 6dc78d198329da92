"""Universal Transformers: the same layers are applied repeatedly, a number of steps deep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ablate.model.contract import Context, Parts, Place, declare
from ablate.model.stack import PlainStack
from ablate.ranges import DEPTH, POSITIVE, Ranges, whole


class UniversalStack(PlainStack):
    """``n_steps`` applications of the same ``n_layers`` layers, as Narang et al. released it (Dehghani et al. 2018,
    https://arxiv.org/abs/1807.03819).

        x -> layers (steps_before times) -> [+ vector -> layers] (n_steps times) -> layers (steps_after times) -> norm

    All applications share their weights, including those before and after the recurrence. Before each step a learned
    vector for that step is added, times ``step_scale``, unless ``step_vectors`` is false. Positions are those of the
    ``position`` slot: a sinusoidal signal in each step was configured in the release, but never applied. The paper's
    row has gates (``residual=gated``), an untied softmax (``embedding.tie=[encoder,decoder]``), and no halting,
    although its text describes it (``stack=universal_act``). ``states`` holds the input and each application's output.
    """

    ranges: ClassVar[Ranges] = {
        "n_steps": DEPTH,
        "steps_before": whole(0, 10_000),
        "steps_after": whole(0, 10_000),
        "step_scale": POSITIVE,
    }
    repeats = True
    incremental = True

    def __init__(
        self,
        parts: Parts,
        place: Place,
        *,
        n_layers: int,
        n_steps: int,
        steps_before: int,
        steps_after: int,
        step_vectors: bool,
        step_scale: float,
    ):
        super().__init__(parts, place, n_layers=n_layers)
        self.n_steps, self.steps_before, self.steps_after = n_steps, steps_before, steps_after
        self.step_scale = step_scale
        self.step_table = None
        if step_vectors:
            self.step_table = declare(
                nn.Parameter(torch.empty(n_steps, parts.d_model)),
                "normal",
                fan_in=parts.d_model,
                fan_out=n_steps,
                place=place,
            )

    @staticmethod
    def depth(options: Mapping[str, Any]) -> int:
        applications: int = options["steps_before"] + options["n_steps"] + options["steps_after"]
        return PlainStack.depth(options) * applications

    def through(self, x: Tensor, ctx: Context) -> tuple[list[Tensor], Context]:
        states = [x]
        for _ in range(self.steps_before):
            states.append(self._layers(states[-1], ctx))
        states.extend(self._recur(states[-1], ctx))
        for _ in range(self.steps_after):
            states.append(self._layers(states[-1], ctx))
        return states, ctx

    def _recur(self, x: Tensor, ctx: Context) -> list[Tensor]:
        """The output of each step of the recurrence, (B,T,D) each; the last one is passed on."""
        states = []
        for step in range(self.n_steps):
            x = self._layers(self._mark(x, step), ctx)
            states.append(x)
        return states

    def _mark(self, x: Tensor, step: int) -> Tensor:
        """x with the vector of `step` added; steps beyond the table have none."""
        if self.step_table is None or step >= len(self.step_table):
            return x
        return x + self.step_table[step] * self.step_scale

    def _layers(self, x: Tensor, ctx: Context) -> Tensor:
        """One application."""
        for block in self.blocks:
            x, _ = block(x, ctx)
        return x


class AdaptiveUniversalStack(UniversalStack):
    """A universal stack in which each token halts individually (adaptive computation time, Graves 2016,
    https://arxiv.org/abs/1603.08983), as Narang et al.'s appendix describes and their release leaves out.

    Before each application a token halts with probability p = sigmoid(w x + b); once the sum of its p exceeds
    ``threshold`` it has halted. The output of the recurrence is the sum of the states weighted by p, the last by the
    remainder to 1; the weights of a token that is still running at the end add up to less than 1. As in the authors'
    library there is one application more than ``n_steps``, without a step embedding, and no ponder cost in the loss.
    All tokens are computed in every step.
    """

    incremental = True

    def __init__(self, parts: Parts, place: Place, *, threshold: float, **options: Any):
        super().__init__(parts, place, **options)
        self.threshold = threshold
        self.halt = parts.linear(parts.d_model, 1, "gate", place)

    @staticmethod
    def depth(options: Mapping[str, Any]) -> int:
        return UniversalStack.depth(options) + PlainStack.depth(options)

    def _recur(self, x: Tensor, ctx: Context) -> list[Tensor]:
        total = torch.zeros_like(x)  # (B,T,D)
        halted = x.new_zeros(*x.shape[:2], 1, dtype=torch.float32)  # (B,T,1): the sum of each token's weights
        states = []
        for step in range(self.n_steps + 1):
            x = self._mark(x, step)
            p = self.halt(x).float().sigmoid()  # (B,T,1), as all below
            # A running token either goes on, with weight p, or stops here, with the remainder; others have weight 0.
            running = (halted < 1.0).float()
            goes_on = running * (halted + p <= self.threshold).float()
            stops = running - goes_on
            weight = p * goes_on + (1.0 - halted) * stops
            halted = halted + weight
            x = self._layers(x, ctx)
            total = total + x * weight.to(x.dtype)
            states.append(x)
        return [*states[:-1], total]
