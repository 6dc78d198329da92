"""Reading a sequence piece by piece, as decoding and likelihoods need it: what was read before is not computed again.

    reader = reader_of(model)
    hidden, state = reader.read(batch)           (B,P,D): the first P tokens of the decoder's sequence
    hidden, state = reader.extend(state, ids)    (B,N,D): the N tokens behind them
    logits = reader.logits(hidden)               (B,N,V)

Where all parts of the decoder declare it (`ablate.model.cache`), keys and values are kept; the decoder of any other
model computes the whole sequence again in each call, with the same results and by the same interface.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ablate.errors import UserError
from ablate.model.build import Model
from ablate.model.cache import Past, is_incremental
from ablate.model.contract import CAUSAL, PREFIX, Memory, View
from ablate.model.position import Position
from ablate.model.topology import Batch, Writer, view_of

S = TypeVar("S", bound="State")
Rows = Callable[[Tensor], Tensor]  # a choice of rows, from a tensor (B,...) to one (C,...)


@dataclass(frozen=True)
class State(ABC):
    """What is known of B sequences that were read so far. It never changes: several may go on from the same one.

    ids (B,S): the tokens; lengths (B,): how many of them each row has, without padding; is_padded: whether some rows
    have less than S; prefix (B,): how many see each other in both directions, for a prefix decoder; memory: what the
    encoder made.
    """

    ids: Tensor
    lengths: Tensor
    is_padded: bool
    prefix: Tensor | None
    memory: Memory | None

    def repeated(self: S, n: int) -> S:
        """Each row `n` times in a row, as for the `n` answers to one question: (B n) rows."""
        if n == 1:
            return self
        repeat = lambda x: x.repeat_interleave(n, 0)  # noqa: E731
        return self._map(repeat, repeat)

    def reordered(self: S, index: Tensor, *, same_source: bool = False) -> S:
        """Row ``index[i]`` as row i, for any number of rows: index (C,).

        `same_source` promises that ``index[i]`` has the same encoder input as i, as with the beams of one example; then
        nothing of the memory is copied.
        """
        take = lambda x: x.index_select(0, index)  # noqa: E731
        return self._map(take, (lambda x: x) if same_source else take)

    def _map(self: S, of: Rows, of_memory: Rows) -> S:
        """The state with `of` applied to what belongs to its rows, `of_memory` to what was made from the memory."""
        memory = self.memory and Memory(
            self.memory.view.map(of_memory), of_memory(self.memory.output), [of_memory(x) for x in self.memory.states]
        )
        prefix = None if self.prefix is None else of(self.prefix)
        return replace(self, ids=of(self.ids), lengths=of(self.lengths), prefix=prefix, memory=memory)


class Head(Protocol):
    """What reading needs of an output layer."""

    def logits(self, hidden: Tensor) -> Tensor:
        """(B,T,D) -> (B,T,V)."""
        ...


class Reader(ABC):
    """Reads with one model, which the caller has put into evaluation mode, without gradients."""

    keeps_keys: bool  # whether what was read is not computed again

    def __init__(self, topology: Writer, head: Head):
        self._topology, self._head = topology, head

    @abstractmethod
    def read(self, batch: Batch) -> tuple[Tensor, Any]:
        """Hidden states (B,P,D) of the first P tokens of the decoder's sequence, and the state behind them.

        `batch` as in training, the start symbol first: ``decoder_ids`` (B,P), and ``decoder_segments`` (B,P), 1 and
        behind each row's end 0, where the rows have different lengths; ``encoder_ids`` and, if they are padded,
        ``encoder_segments`` for an encoder-decoder; ``prefix_lengths`` (B,) for a prefix decoder, else all that is read
        is its prefix. Hidden states at padding have no meaning. Raises UserError for a sequence that is longer than the
        model's positions, ValueError for padding that is not at the end.
        """

    @abstractmethod
    def extend(self, state: Any, ids: Tensor, present: Tensor | None = None) -> tuple[Tensor, Any]:
        """Hidden states (B,N,D) of N more tokens `ids` (B,N) of each row, each directly behind what its row has, and
        the state behind them.

        `present` (B,N) bool is False at padding, which is at the end; None: there is none. Errors as for `read`.
        """

    def logits(self, hidden: Tensor) -> Tensor:
        """(...,T,D) -> (...,T,V)."""
        return self._head.logits(hidden)

    def _first(self, batch: Batch) -> tuple[View, Tensor, Memory | None]:
        """The view of the first tokens, how many each row has, and the memory."""
        order = self._topology.mask_orders["decoder"]
        view = view_of(batch, "decoder", order)
        if view.token_types is not None:
            raise UserError("decoder_token_types: tokens that are written have no types; all are of type 0")
        rows, length = view.ids.shape
        lengths = torch.full((rows,), length, device=view.ids.device) if view.present is None else _ends(view.present)
        if order == PREFIX and view.prefix is None:
            view = replace(view, prefix=lengths)
        return view, lengths, self._topology.encode(batch)[0]


def reader_of(model: Model, *, keep_keys: bool = True) -> Reader:
    """The reader of a model: one that keeps keys and values, where the model's parts allow it and `keep_keys` is set.

    Raises UserError for a model that does not write, such as an encoder alone.
    """
    topology = model.topology
    if not isinstance(topology, Writer):
        raise UserError(
            "an encoder alone cannot write; choose topology=encoder_decoder, causal_decoder or prefix_decoder"
        )
    head = cast(Head, model.head)
    if keep_keys and is_incremental(topology.decoder):
        return CachedReader(topology, head)
    return RecomputingReader(topology, head)


def ignores_padding(model: nn.Module, order: str) -> bool:
    """Whether no token sees padding behind it: that of a causal mask, unless some part lets tokens compete."""
    return order == CAUSAL and not any(getattr(module, "mixes_segments", False) for module in model.modules())


@dataclass(frozen=True)
class CachedState(State):
    """Tokens in the order in which they were read, padding between them, and their keys and values.

    positions (B,S) and segments (B,S), 0 at padding, where a row has padding.
    """

    positions: Tensor | None
    segments: Tensor | None
    past: Past

    def _map(self, of: Rows, of_memory: Rows) -> CachedState:
        positions, segments = (None if x is None else of(x) for x in (self.positions, self.segments))
        mapped = super()._map(of, of_memory)
        return replace(mapped, positions=positions, segments=segments, past=self.past.map(of, of_memory))


class CachedReader(Reader):
    """Keeps the keys and values of all tokens, and computes only new ones."""

    keeps_keys = True

    def __init__(self, topology: Writer, head: Head):
        super().__init__(topology, head)
        positions = (part for part in topology.decoder.modules() if isinstance(part, Position))
        self._longest = min((part.longest for part in positions if part.longest is not None), default=None)
        self._ignores_padding = ignores_padding(topology.decoder, topology.mask_orders["decoder"])

    def read(self, batch: Batch) -> tuple[Tensor, CachedState]:
        view, lengths, memory = self._first(batch)
        past = Past()
        seen = replace(view, segments=None) if self._ignores_padding else view  # the mask is the plain triangle
        hidden, _ = self._topology.decode(seen, memory, past)
        is_padded = view.segments is not None
        positions = view.place_indices().expand_as(view.ids) if is_padded else None
        return hidden, CachedState(
            view.ids, lengths, is_padded, view.prefix, memory, positions=positions, segments=view.segments, past=past
        )

    def extend(self, state: CachedState, ids: Tensor, present: Tensor | None = None) -> tuple[Tensor, CachedState]:
        state = _behind(state, ids, present)
        self._check_length(state)
        count, order = ids.shape[1], self._topology.mask_orders["decoder"]
        keys = View(state.ids, order, state.segments, state.positions)
        last = lambda x: None if x is None else x[:, -count:]  # noqa: E731
        view = View(ids, order, last(state.segments), keys.place_indices()[:, -count:], state.prefix, keys)
        past = Past(state.past)
        hidden, _ = self._topology.decode(view, state.memory, past)
        return hidden, replace(state, past=past)

    def _check_length(self, state: CachedState) -> None:
        if self._longest is None or state.ids.shape[1] <= self._longest:
            return
        if (length := int(state.lengths.max())) > self._longest:
            raise UserError(f"a sequence of {length} tokens is longer than position.max_length={self._longest}")


def _behind(state: CachedState, ids: Tensor, present: Tensor | None) -> CachedState:
    """The state with `ids` (B,N) behind it, but without their keys and values."""
    count = ids.shape[1]
    longer = replace(state, ids=torch.cat([state.ids, ids], 1))
    if not state.is_padded and present is None:
        return replace(longer, lengths=state.lengths + count)
    positions, segments = state.positions, state.segments
    if positions is None or segments is None:
        positions = torch.arange(state.ids.shape[1], device=ids.device).expand_as(state.ids)
        segments = torch.ones_like(state.ids)
    present = torch.ones_like(ids, dtype=torch.bool) if present is None else present
    _ends(present)
    # a token of padding has the position of the last one before it: within every table, and nothing sees it
    new = (state.lengths[:, None] + present.long().cumsum(1) - 1).clamp_min(0)
    return replace(
        longer,
        lengths=state.lengths + present.sum(1),
        is_padded=True,
        positions=torch.cat([positions, new], 1),
        segments=torch.cat([segments, present.to(segments.dtype)], 1),
    )


@dataclass(frozen=True)
class WholeState(State):
    """Tokens without gaps: padding is only at the end of a row."""


class RecomputingReader(Reader):
    """Computes the whole sequence again each time: right for every model."""

    keeps_keys = False

    def read(self, batch: Batch) -> tuple[Tensor, WholeState]:
        view, lengths, memory = self._first(batch)
        hidden, _ = self._topology.decode(view, memory)
        return hidden, WholeState(view.ids, lengths, view.segments is not None, view.prefix, memory)

    def extend(self, state: WholeState, ids: Tensor, present: Tensor | None = None) -> tuple[Tensor, WholeState]:
        at = state.lengths[:, None] + torch.arange(ids.shape[1], device=ids.device)  # (B,N)
        whole = functional.pad(state.ids, (0, ids.shape[1])).scatter(1, at, ids)
        added: Tensor | int = ids.shape[1] if present is None else _ends(present)
        is_padded = state.is_padded or present is not None
        state = replace(state, ids=whole, lengths=state.lengths + added, is_padded=is_padded)
        segments = None
        if is_padded:
            places = torch.arange(whole.shape[1], device=ids.device)
            segments = (places < state.lengths[:, None]).to(ids.dtype)
        view = View(whole, self._topology.mask_orders["decoder"], segments, prefix=state.prefix)
        hidden, _ = self._topology.decode(view, state.memory)
        return hidden.gather(1, at.unsqueeze(-1).expand(-1, -1, hidden.shape[-1])), state


def _ends(present: Tensor) -> Tensor:
    """present (B,T) -> (B,): how many tokens each row has; ValueError for a token behind padding."""
    if (present[:, 1:] & ~present[:, :-1]).any():
        raise ValueError("padding must be at the end of a row")
    return present.sum(1)
