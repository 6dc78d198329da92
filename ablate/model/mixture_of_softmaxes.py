"""The mixture of softmaxes: an output layer whose log-probabilities are not limited to rank D."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ablate.model.contract import Parts, Place, declare
from ablate.model.embedding import Embedding
from ablate.model.head import Vocabulary


class MixtureOfSoftmaxes(Vocabulary):
    """K softmaxes over the vocabulary, mixed as probabilities (Yang et al. 2018, https://arxiv.org/abs/1711.03953):

        log p = logsumexp_k (log prior_k + log softmax(table tanh(h C_k))),   prior = softmax(h P)

    h is scaled first if the table is shared, the K contexts are not. The logits (B,T,K,V) never exist at once: the loss
    needs only the normaliser and the target's logit of each softmax, computed one after the other, so that one (B,T,V)
    is alive at a time. With ``recompute`` the backward pass computes each again, and keeps none either.
    The mixture is normalised, so that a z-loss would be zero.
    """

    def __init__(
        self,
        parts: Parts,
        place: Place,
        *,
        embedding: Embedding | None,
        tied_scale: float,
        n_softmaxes: int,
        recompute: bool,
    ):
        super().__init__(parts, place, embedding=embedding)
        d = parts.d_model
        self.prior, self.contexts = (
            declare(nn.Parameter(torch.empty(size)), "mixture", fan_in=d, fan_out=fan_out, place=place)
            for size, fan_out in (((n_softmaxes, d), n_softmaxes), ((n_softmaxes, d, d), d))
        )
        self.scale = 1.0 if embedding is None else tied_scale
        self.recompute = recompute

    def logits(self, hidden: Tensor) -> Tensor:
        """(B,T,D) -> (B,T,V): log-probabilities of the mixture."""
        hidden = hidden * self.scale
        weighted = (
            log_prior.unsqueeze(-1) + self._component(context, hidden).log_softmax(-1)
            for log_prior, context in zip(self._log_prior(hidden).unbind(-1), self.contexts, strict=True)
        )
        return reduce(torch.logaddexp, weighted)

    def forward(self, hidden: Tensor, targets: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        hidden = hidden * self.scale
        of_target: Callable[..., Tensor] = self._of_target
        if self.recompute:
            of_target = partial(checkpoint, self._of_target, use_reentrant=False, preserve_rng_state=False)
        each = torch.stack([of_target(context, hidden, targets) for context in self.contexts], -1)  # (B,T,K)
        nll = -(self._log_prior(hidden) + each).logsumexp(-1)
        return nll, nll

    def _log_prior(self, hidden: Tensor) -> Tensor:
        """(B,T,D) -> (B,T,K), float32."""
        return nn.functional.linear(hidden, self.prior).float().log_softmax(-1)

    def _component(self, context: Tensor, hidden: Tensor) -> Tensor:
        """(D,D), (B,T,D) -> (B,T,V): the logits of one softmax, float32."""
        return self.vocabulary(torch.tanh(hidden @ context)).float()

    def _of_target(self, context: Tensor, hidden: Tensor, targets: Tensor) -> Tensor:
        """(B,T): each target's log-probability in one softmax."""
        logits = self._component(context, hidden)
        return logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1) - logits.logsumexp(-1)
