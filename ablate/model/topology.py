"""Topologies, the stacks of a model: batch -> hidden states ``(B,T,D)`` of the scored sequence.

encoder-decoder    encoder_ids -> encoder -> memory -> decoder <- decoder_ids
decoder            decoder_ids -> decoder             (causal, or with a prefix visible in both directions)
encoder            encoder_ids -> encoder             (every token sees every other)

A class declares the fields of a batch that it `reads`. It can be trained on an objective that gives just these: one
that it would ignore says something that the model must know. Segments and positions come beside any ids.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from ablate.model.cache import Past
from ablate.model.contract import CAUSAL, FULL, PREFIX, Context, Memory, Parts, Place, View
from ablate.model.embedding import token_types
from ablate.model.position import ADD

Batch = Mapping[str, Tensor]


def view_of(batch: Batch, side: str, order: str) -> View:
    """The view of the encoder's or decoder's sequence of a batch."""
    return View(
        ids=batch[f"{side}_ids"],
        order=order,
        segments=batch.get(f"{side}_segments"),
        positions=batch.get(f"{side}_positions"),
        prefix=batch.get("prefix_lengths") if order == PREFIX else None,
        token_types=batch.get(f"{side}_token_types"),
    )


class Tower(nn.Module):
    """One stack with its input: embedding, and perhaps a norm, a position and token types that are added."""

    incremental = True

    def __init__(self, parts: Parts, name: str):
        super().__init__()
        place = Place(name)
        self.embedding = parts.embedding(name)
        added = parts.of_width(self.embedding.sum_width)
        self.norm = added.embedding_norm(name)
        self.norms_sum = bool(parts.slots["embedding"].keywords.get("norm_of_sum"))
        adds = ADD in parts.position_needs(place)
        self.position = added.position(place, parts.shape["n_heads"], parts.shape["head_dim"]) if adds else None
        self.token_types = token_types(added, name)
        self.stack = parts.stack(name)

    def forward(self, ctx: Context) -> tuple[Tensor, Context, list[Tensor]]:
        x = self.embedding(ctx.view.ids)
        if self.norm is not None and not self.norms_sum:
            x = self.norm(x, ctx.view)
        if self.position is not None:
            x = self.position.add(x, ctx.view)
        if self.token_types is not None:
            x = x + self.token_types(ctx.view)
        if self.norm is not None and self.norms_sum:
            x = self.norm(x, ctx.view)
        x = self.embedding.project(x)
        result: tuple[Tensor, Context, list[Tensor]] = self.stack(x, ctx)
        return result


class Writer(nn.Module):
    """The base of the topologies that write: their decoder reads from left to right, perhaps a memory beside it."""

    mask_orders: ClassVar[dict[str, str]]
    decoder: Tower

    def encode(self, batch: Batch) -> tuple[Memory | None, list[Tensor]]:
        """What the decoder may attend to, and auxiliary losses; None without an encoder."""
        return None, []

    def decode(self, view: View, memory: Memory | None, past: Past | None = None) -> tuple[Tensor, list[Tensor]]:
        """Hidden states (B,T,D) of the decoder's tokens in `view`, and auxiliary losses."""
        hidden, ctx, _ = self.decoder(Context(view, memory, past=past))
        return hidden, ctx.losses

    def forward(self, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        memory, losses = self.encode(batch)
        hidden, more = self.decode(view_of(batch, "decoder", self.mask_orders["decoder"]), memory)
        return hidden, losses + more


class EncoderDecoder(Writer):
    """An encoder, and a causal decoder that attends to its output (Vaswani et al. 2017): the baseline."""

    stacks = ("encoder", "decoder")
    mask_orders: ClassVar[dict[str, str]] = {"encoder": FULL, "decoder": CAUSAL}
    scored = "decoder"
    reads = frozenset({"encoder_ids", "decoder_ids"})

    def __init__(self, parts: Parts):
        super().__init__()
        self.encoder = Tower(parts, "encoder")
        self.decoder = Tower(parts, "decoder")

    def encode(self, batch: Batch) -> tuple[Memory | None, list[Tensor]]:
        source = Context(view_of(batch, "encoder", FULL))
        output, source, states = self.encoder(source)
        return Memory(source.view, output, states), source.losses


class CausalDecoder(Writer):
    """A decoder alone; each token sees itself and those before it (Radford et al. 2018)."""

    stacks = ("decoder",)
    mask_orders: ClassVar[dict[str, str]] = {"decoder": CAUSAL}
    scored = "decoder"
    reads = frozenset({"decoder_ids"})

    def __init__(self, parts: Parts):
        super().__init__()
        self.decoder = Tower(parts, "decoder")


class PrefixDecoder(CausalDecoder):
    """A decoder alone, whose first ``prefix_lengths`` tokens see each other in both directions (Liu et al. 2018)."""

    mask_orders: ClassVar[dict[str, str]] = {"decoder": PREFIX}
    reads = frozenset({"decoder_ids", "prefix_lengths"})


class Encoder(nn.Module):
    """An encoder alone, scored at each of its tokens (Devlin et al. 2019)."""

    stacks = ("encoder",)
    mask_orders: ClassVar[dict[str, str]] = {"encoder": FULL}
    scored = "encoder"
    reads = frozenset({"encoder_ids"})

    def __init__(self, parts: Parts):
        super().__init__()
        self.encoder = Tower(parts, "encoder")

    def forward(self, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        hidden, ctx, _ = self.encoder(Context(view_of(batch, "encoder", FULL)))
        return hidden, ctx.losses
