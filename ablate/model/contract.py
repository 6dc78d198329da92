"""The contract between the parts of a model: what an option of a slot receives, and what it returns.

Whatever is between two residual additions is ``f(x, ctx) -> y``; a block is a list of steps
``(x, ctx) -> (x, ctx)``; factories are called with ``(parts, place)``.

Shapes: B batch, T length, S memory length, D model width, H heads, K head width, F feed-forward width, V vocabulary.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from ablate import lazy_torch
from ablate.errors import UserError, nearest

if TYPE_CHECKING:
    from ablate.model.cache import Past

lazy_torch.install()  # before anything that has a model computes

FULL, CAUSAL, PREFIX = "full", "causal", "prefix"
SELF_ATTENTION, CROSS_ATTENTION, FEEDFORWARD = "self_attention", "cross_attention", "feedforward"


@dataclass
class View:
    """What is known of a sequence besides its hidden states, and so which tokens see which.

    ``ids (B,T)``; ``segments (B,T)``, 0 at padding, or None: one segment and no padding, the fast path of training;
    ``positions (B or 1,T)`` or None: 0 .. T-1; ``order``: full, causal or prefix; ``prefix (B,)``: the number of
    leading tokens that see each other in both directions. ``keys``: the view of the S tokens that these may see, where
    these are only the last of a sequence whose keys and values are kept; None, as in training, where they are the same.
    """

    ids: Tensor
    order: str = FULL
    segments: Tensor | None = None
    positions: Tensor | None = None
    prefix: Tensor | None = None
    keys: View | None = None
    token_types: Tensor | None = None

    @property
    def length(self) -> int:
        """The sequence length T."""
        return self.ids.shape[1]

    @property
    def present(self) -> Tensor | None:
        """(B,T) bool, False at padding; None where nothing is padded."""
        return None if self.segments is None else self.segments != 0

    @property
    def is_causal(self) -> bool:
        """Whether the mask is exactly the lower triangle."""
        return self.order == CAUSAL and self.segments is None and self.keys is None

    def place_indices(self) -> Tensor:
        """(B,T) or (1,T): the position of each token in its segment."""
        if self.positions is not None:
            return self.positions
        return torch.arange(self.length, device=self.ids.device)[None]

    def clear_padding(self, x: Tensor) -> Tensor:
        """x (B,T,...) with zeros at padding."""
        present = self.present
        return x if present is None else x * present.unsqueeze(-1).to(x.dtype)

    def visible(self) -> Tensor | None:
        """(B or 1,1,T,T) bool, True where a query (row) may see a key (column); None if all see all.

        (B or 1,1,T,S) where ``keys`` are more.
        """
        if self.keys is not None:
            return self._visible_keys(self.keys)
        mask = None
        if self.order != FULL:
            at = torch.arange(self.length, device=self.ids.device)
            mask = (at[None, :] <= at[:, None])[None, None]
            if self.order == PREFIX and self.prefix is not None:
                mask = mask | (at < self.prefix[:, None])[:, None, None, :]
        return _same_segment(self.segments, self.segments, mask)

    def _visible_keys(self, keys: View) -> Tensor | None:
        mask = None
        if self.order != FULL and self.length > 1:  # a single token is the last one, and sees all others
            q, k = self.place_indices()[:, None, :, None], keys.place_indices()[:, None, None, :]
            mask = k <= q
            if self.order == PREFIX and self.prefix is not None:
                mask = mask | (k < self.prefix[:, None, None, None])
        return _same_segment(self.segments, keys.segments, mask)

    def distances(self) -> Tensor:
        """(B or 1,T,S): the position of each key less that of each query."""
        keys = self if self.keys is None else self.keys
        return keys.place_indices()[:, None, :] - self.place_indices()[:, :, None]

    def visible_memory(self, memory: View) -> Tensor | None:
        """(B,1,T,S) bool, True where a token of this sequence (row) may see one of another (column); None if all do."""
        if self.segments is None and memory.segments is None:
            return None
        queries, keys = (
            torch.ones_like(view.ids) if view.segments is None else view.segments for view in (self, memory)
        )
        return _same_segment(queries, keys, None)

    def map(self, of: Callable[[Tensor], Tensor]) -> View:
        """The view with `of` applied to each of its tensors."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        mapped: dict[str, Any] = {name: of(value) for name, value in values.items() if isinstance(value, Tensor)}
        return replace(self, **mapped)

    def mask_mod(self) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
        """The same as `visible`, as FlexAttention's ``mask_mod(b, h, q, k)``."""
        order, segments, prefix = self.order, self.segments, self.prefix

        def visible(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            seen = (k <= q) if order != FULL else (k >= 0)
            if order == PREFIX and prefix is not None:
                seen = seen | (k < prefix[b])
            if segments is not None:
                seen = seen & (segments[b, q] == segments[b, k])
            return seen

        return visible


def _same_segment(queries: Tensor | None, keys: Tensor | None, mask: Tensor | None) -> Tensor | None:
    """`mask` restricted to pairs of one segment, (B,1,T,S), for the segments of queries (B,T) and of keys (B,S)."""
    if queries is None or keys is None:
        return mask
    same = (queries[:, :, None] == keys[:, None, :])[:, None]
    return same if mask is None else same & mask


@dataclass
class Memory:
    """What a decoder may attend to: the encoder's view, its output (B,S,D), and all its states, each (B,S,D).

    ``states``: the embedding, the residual stream after each block, and last the output after the final norm.
    """

    view: View
    output: Tensor
    states: list[Tensor]


T = TypeVar("T")  # of what layers share


@dataclass
class Context:
    """What passes through a stack besides the hidden states.

    ``losses`` collects auxiliary losses; ``cache`` holds what layers of one stack share within a forward pass;
    ``past`` has the keys and values of the tokens before these and takes up those of these, where they are kept.
    """

    view: View
    memory: Memory | None = None
    losses: list[Tensor] = field(default_factory=list)
    cache: dict[str, Any] = field(default_factory=dict)
    past: Past | None = None

    def shared(self, key: str, make: Callable[[], T]) -> T:
        """The value cached under `key` in this forward pass, made at the first call."""
        if key not in self.cache:
            self.cache[key] = make()
        kept: T = self.cache[key]
        return kept


@dataclass(frozen=True)
class Place:
    """Where a part belongs: its stack, its layer (0-based) of how many, and the kind of sub-layer."""

    stack: str
    layer: int = 0
    n_layers: int = 1
    sublayer: str = ""

    def at(self, sublayer: str) -> Place:
        """The same layer's place of another sub-layer."""
        return Place(self.stack, self.layer, self.n_layers, sublayer)


@dataclass(frozen=True)
class Spec:
    """What an initialiser must know of a parameter; its role is what it is for, not which option it belongs to.

    ``use``: the fraction of its elements that acts on any one token.
    """

    role: str
    fan_in: int = 1
    fan_out: int = 1
    head_dim: int = 1
    place: Place | None = None
    value: float = 0.0
    use: float = 1.0


def declare(parameter: nn.Parameter, role: str, **numbers: Any) -> nn.Parameter:
    """Say what a parameter is for (``query key value output ffn_in ffn_out gate table logits bias scale shift ...``).

    Every parameter of a model must be declared: the ``init`` slot turns roles into distributions. Role ``constant``
    is set to ``value`` whatever the initialiser.
    """
    parameter.spec = Spec(role, **numbers)  # type: ignore[attr-defined]  # an attribute of our own
    return parameter


def spec_of(parameter: nn.Parameter) -> Spec:
    """What was declared of a parameter; AttributeError if nothing was."""
    spec: Spec = parameter.spec  # type: ignore[attr-defined]  # set by `declare`
    return spec


class Linear(nn.Module):
    """y = x W^T + b, weight (out, in), with a declared role."""

    __call__: Callable[..., Tensor]

    token_wise = True

    def __init__(self, d_in: int, d_out: int, *, role: str, place: Place, bias: bool = False, head_dim: int = 1):
        super().__init__()
        self.weight = declare(
            nn.Parameter(torch.empty(d_out, d_in)), role, fan_in=d_in, fan_out=d_out, head_dim=head_dim, place=place
        )
        self.bias = declare(nn.Parameter(torch.empty(d_out)), "bias", place=place) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight, self.bias)


class Parts:
    """The filled slots of a model, as factories; what is shared between places is made once."""

    def __init__(self, slots: Mapping[str, Any], shape: Mapping[str, int], dropout: float, stacks: Sequence[str]):
        self.slots = slots
        self.shape = shape
        self.dropout = dropout
        self.stacks = tuple(stacks)
        self.depths = {name: slots["stack"][name].func.depth(slots["stack"][name].keywords) for name in stacks}
        self._shared: dict[Any, nn.Module] = {}
        self._named = 0
        self._chosen: set[int] = set()

    @property
    def d_model(self) -> int:
        """The model width D."""
        return self.shape["d_model"]

    def factory(self, slot: str, place: Place) -> partial[nn.Module]:
        """The option that fills `slot` at `place`."""
        chosen: Any = self.slots[slot]
        while hasattr(chosen, "choose"):
            chosen = chosen.choose(place)
        self._chosen.add(id(chosen))
        factory: partial[nn.Module] = chosen
        return factory

    def declared(self, slot: str, place: Place) -> Any:
        """The class of the option that fills `slot` at `place`, to read what it declares."""
        return self.factory(slot, place).func

    def check_places(self) -> None:
        """Raise UserError if no layer of the model that was built uses an option that is placed by layer."""
        depths = " and ".join(f"{depth} in the {stack}" for stack, depth in self.depths.items())
        shared = [stack for stack, is_shared in self.slots["sharing"].items() if is_shared]
        if shared and not set(shared) & set(self.stacks):
            raise UserError(
                f"sharing is set for the {' and '.join(shared)}, which this model does not have (its layers: {depths})"
            )
        for slot, chosen in self.slots.items():
            options, key = chosen.placed() if hasattr(chosen, "placed") else ({}, "")
            for name, option in options.items():
                if id(option) not in self._chosen:
                    remedy = f"change {slot}.{key}, or the number of layers" if key else f"choose another {slot}"
                    raise UserError(f"{slot}.{name} is used by no layer of this model ({depths}); {remedy}")

    def shared(self, key: Any, make: Callable[[], nn.Module]) -> nn.Module:
        """The module cached under `key`, made at the first call: tied tables, shared biases, shared blocks."""
        if key not in self._shared:
            self._shared[key] = make()
        return self._shared[key]

    def unique(self, word: str) -> str:
        """A key for `Context.shared` that no other part of this model has; the same whenever the model is built."""
        self._named += 1
        return f"{word}/{self._named}"

    def has_bias(self, kind: str) -> bool:
        """Whether projections of this kind (query, key, value, output, ffn_in, ffn_out, gate, logits) have a bias."""
        kinds = self.slots["bias"]
        if kind not in kinds:
            raise UserError(
                f"the bias slot has no entry {kind!r}{nearest(kind, kinds)}; parts.linear takes one as `kind`"
            )
        return bool(kinds[kind])

    def linear(
        self, d_in: int, d_out: int, role: str, place: Place, *, kind: str | None = None, head_dim: int = 1
    ) -> Linear:
        """A projection whose bias follows the ``bias`` slot; `kind` is `role` unless given."""
        return Linear(d_in, d_out, role=role, place=place, bias=self.has_bias(kind or role), head_dim=head_dim)

    def norm(self, place: Place, width: int | None = None) -> nn.Module:
        """The norm at `place`, of `width` channels instead of D if given."""
        return self.factory("norm", place)(self, place, **({} if width is None else {"width": width}))

    def residual(self, place: Place) -> nn.Module:
        """The residual addition at `place`."""
        return self.factory("residual", place)(self, place)

    def end(self, place: Place) -> nn.Module:
        """The module at a stack's end: the residual's own choice, by default one more norm."""
        end: nn.Module = self.declared("residual", place).end(self, place)
        return end

    def activation(self, place: Place) -> nn.Module:
        """The activation of the feed-forward at `place`; its attribute ``gated`` says how it is called."""
        return self.factory("activation", place)(self, place)

    def sublayer(self, place: Place, **numbers: Any) -> nn.Module:
        """The sub-layer of the kind that `place` names: attention (self or cross) or feed-forward.

        Raises UserError for an unknown kind.
        """
        kinds = {SELF_ATTENTION: self.attention, CROSS_ATTENTION: self.attention, FEEDFORWARD: self.feedforward}
        if place.sublayer not in kinds:
            raise UserError(
                f"block.sublayers.{place.stack}: no sub-layer {place.sublayer!r}{nearest(place.sublayer, kinds)}"
            )
        return kinds[place.sublayer](place, **numbers)

    def feedforward(self, place: Place, **numbers: Any) -> nn.Module:
        """The feed-forward at `place`; `numbers` replace those of its option."""
        return self.factory("feedforward", place)(self, place, **numbers)

    def attention(self, place: Place, **numbers: Any) -> nn.Module:
        """Attention at `place`; an option with its own ``cross`` entry uses that one for the memory."""
        factory = self.factory("attention", place)
        if place.sublayer == CROSS_ATTENTION and factory.keywords.get("cross") is not None:
            factory = factory.keywords["cross"]
        return factory(self, place, **numbers)

    def position(self, place: Place, n_heads: int, head_dim: int) -> Any:
        """The `Position` at `place`, shared as its option declares (by model, by stack and head count, or not)."""
        factory = self.factory("position", place)
        key = self.declared("position", place).shared_by(place, n_heads, head_dim, factory.keywords)
        # id: two options in one stack do not share
        return self.shared(
            ("position", id(factory), *key), lambda: factory(self, place, n_heads=n_heads, head_dim=head_dim)
        )

    def position_needs(self, place: Place) -> frozenset[str]:
        """The hooks that the position at `place` works by."""
        needs: frozenset[str] = self.declared("position", place).needs
        return needs

    def block(self, place: Place) -> nn.Module:
        """The block at `place`; with ``sharing``, all layers of a stack that have the same options are one block."""
        make = lambda: self.factory("block", place)(self, place)  # noqa: E731
        if self.slots["sharing"][place.stack]:
            options = tuple(id(self.factory(slot, place)) for slot in self.slots)
            return self.shared(("block", place.stack, options), make)
        return make()

    def embedding(self, stack: str) -> Any:
        """The `Embedding` of a stack's input: one for all stacks that ``embedding.tie`` names."""
        tied = stack in self.tie
        return self.shared(
            ("embedding", "tied" if tied else stack),
            lambda: self.slots["embedding"](self, Place(stack, sublayer="embedding")),
        )

    def embedding_norm(self, stack: str) -> nn.Module | None:
        """The norm after a stack's embedding, if ``embedding.norm`` is set."""
        return self.norm(Place(stack, sublayer="embedding")) if self.slots["embedding"].keywords["norm"] else None

    def of_width(self, width: int | None) -> Parts:
        """The same parts for vectors of `width` channels in place of D; None: these."""
        if width is None:
            return self
        other = copy.copy(self)
        other.shape = {**self.shape, "d_model": width}
        return other

    @property
    def tie(self) -> tuple[str, ...]:
        """Which of encoder, decoder and head share one embedding."""
        return tuple(self.slots["embedding"].keywords.get("tie") or ())

    def stack(self, name: str) -> nn.Module:
        """The encoder or the decoder."""
        stack: nn.Module = self.slots["stack"][name](self, Place(name))
        return stack

    def head(self, stack: str) -> Any:
        """The output layer on top of `stack`, a `Head`, tied to that stack's embedding or with its own matrix.

        Raises UserError if ``embedding.tie`` names the head, but not this stack.
        """
        if "head" in self.tie and stack not in self.tie:
            raise UserError(
                f"embedding.tie must name {stack} and head, or leave out head: an output layer can only share the "
                "table of the stack that it scores"
            )
        tied = "head" in self.tie
        return self.slots["head"](
            self, Place(stack, sublayer="head"), embedding=self.embedding(stack) if tied else None
        )


def stable_seed(*words: object) -> int:
    """A 63-bit seed that depends only on the words, the same on every machine."""
    import hashlib

    return int.from_bytes(hashlib.sha256("/".join(map(str, words)).encode()).digest()[:8], "little") % (1 << 63)


def rsqrt(x: float) -> float:
    return 1.0 / math.sqrt(x)
