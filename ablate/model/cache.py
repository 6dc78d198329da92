"""The cache of keys and values: what attention keeps of the tokens that were read, so that only new ones are computed.

Which models can be read this way is declared by their parts, in one of two class attributes:

    token_wise    what the part gives for a token depends on that token alone: norms, activations, projections, ...
    incremental   called with the last tokens of a sequence alone, with a `View` that has ``keys`` and a `Context` that
                  has ``past``, the part gives for them what it gives in the whole sequence

``incremental`` counts for the class that has it and not for its subclasses, which may see other tokens.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

KeysValues = tuple[Tensor, Tensor]  # (B,G,S,K) each


class Past:
    """The keys and values of each attention of a stack, in the order of the calls, for one pass over new tokens.

    A layer that is applied several times, or shared, has an entry for each call. `before` is the `Past` of the pass
    that read the tokens before these; None for the first ones. Nothing is changed in it, so that several passes may
    follow on the same one.
    """

    def __init__(self, before: Past | None = None):
        self._before = before
        self.own: list[KeysValues] = []  # to the sequence itself
        self.memory: list[KeysValues] = []  # to the memory, which all passes have in common

    def joined(self, keys: Tensor, values: Tensor) -> KeysValues:
        """Those of all tokens so far, given those of the new tokens, (B,G,N,K) each, at this call."""
        if self._before is not None:
            old_keys, old_values = self._before.own[len(self.own)]
            keys, values = torch.cat([old_keys, keys], 2), torch.cat([old_values, values], 2)
        self.own.append((keys, values))
        return keys, values

    def of_memory(self, make: Callable[[], KeysValues]) -> KeysValues:
        """Those of the memory at this call, made in the first pass."""
        self.memory.append(make() if self._before is None else self._before.memory[len(self.memory)])
        return self.memory[-1]

    def map(self, of: Callable[[Tensor], Tensor], of_memory: Callable[[Tensor], Tensor]) -> Past:
        """The same with `of` applied to the keys and values of the sequence, `of_memory` to those of the memory."""
        mapped = Past()
        mapped.own = [(of(keys), of(values)) for keys, values in self.own]
        mapped.memory = [(of_memory(keys), of_memory(values)) for keys, values in self.memory]
        return mapped


def is_incremental(stack: nn.Module) -> bool:
    """Whether every part of `stack` declares that it can be called with the last tokens of a sequence alone."""
    return all(map(_declares, stack.modules()))


def _declares(part: nn.Module) -> bool:
    kind = type(part)
    if kind.__module__.partition(".")[0] == "torch":  # containers and dropout
        return True
    own: bool = vars(kind).get("incremental", False) or getattr(kind, "token_wise", False)
    return own
