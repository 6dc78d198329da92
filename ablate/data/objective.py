"""Objectives: windows of tokens -> inputs and targets, a whole batch at once.

span_corruption   the <0> sat on <1>.   ->  <0> cat <1> the mat       (encoder and decoder)
prefix            the cat | sat on      ->            sat on          (the prefix is fully visible)
causal            the cat sat on        ->  the cat sat on            (each token from those before)
masked            the <0> sat on        ->      cat                   (an encoder fills in the gaps)

Those whose sequences are no text are in `ablate.data.made_up`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from ablate.config.instantiation import fill
from ablate.data import segments as segment
from ablate.data import spans
from ablate.data.prompt import Prompt
from ablate.data.vocabulary import Layout
from ablate.errors import UserError
from ablate.ranges import COUNT, PROPER_FRACTION, Ranges, at_least, check

Arrays = dict[str, np.ndarray]


class Objective:
    """Turns windows (rows, raw_length) into a batch; `documents` adds segments and positions of a row's documents.

    Subclasses set `raw_length` (tokens of text that a row needs), and define `apply`. `text_ids` are the ids that text
    has: those that occur in the train part, where there is a corpus. They declare what they give: the
    fields of a batch beside `targets`, `scored`, segments and positions, or a tuple of several such sets where that
    follows from the stacks of the model. A topology must read all of one set, and nothing else. Where the targets are
    no text, `targets_are_text` is false: there are no bits per byte. `chance` is how often a guess is right, where that
    is known.
    """

    ranges: ClassVar[Ranges] = {"length": COUNT}
    gives: ClassVar[frozenset[str] | tuple[frozenset[str], ...]]
    targets_are_text: ClassVar[bool] = True
    chance: float | None = None
    raw_length: int
    text_ids: np.ndarray

    def __init__(self, layout: Layout, stacks: Collection[str], documents: bool, length: int):
        self.layout, self.stacks, self.documents, self.length = layout, stacks, documents, length
        self.raw_length = length
        self.text_ids = np.arange(layout.text_size)

    def apply(self, windows: np.ndarray, rng: np.random.Generator) -> Arrays:
        """The batch of these windows: ids, segments and positions, each (rows, length); and, if not all targets count,
        `scored` (rows, length) bool."""
        raise NotImplementedError

    def prompt(self, context: Sequence[int]) -> Prompt:
        """How a model trained on this is asked to go on after `context`: as it was trained to.

        Here: by a decoder that has read the start symbol and the context. Raises UserError where it cannot be.
        """
        return Prompt((self.layout.pad_id, *context))

    def _sides(self, **segments: np.ndarray) -> Arrays:
        """Segments (rows, length), and the positions in them, under the names of a batch's fields."""
        named: Arrays = {}
        for side, values in segments.items():
            named[f"{side}_segments"], named[f"{side}_positions"] = values, segment.positions(values)
        return named


class SpanCorruption(Objective):
    """Each span of tokens is replaced by one sentinel and predicted (Raffel et al. 2020): the baseline.

    length: of the inputs, exactly. noise_density: fraction of the text that is noise. mean_span: mean length of a span.
    """

    ranges: ClassVar[Ranges] = {"noise_density": PROPER_FRACTION, "mean_span": at_least(1)}
    gives = frozenset({"encoder_ids", "decoder_ids"})

    def __init__(
        self,
        layout: Layout,
        stacks: Collection[str],
        documents: bool,
        length: int,
        noise_density: float,
        mean_span: float,
    ):
        super().__init__(layout, stacks, documents, length)
        check(type(self), "objective", noise_density=noise_density, mean_span=mean_span)
        self.lengths = spans.lengths_for(length, noise_density, mean_span)
        if self.lengths.spans > min(self.lengths.raw - self.lengths.noise, self.lengths.noise):
            raise UserError(
                f"objective: {self.lengths.noise} of {self.lengths.raw} tokens cannot form {self.lengths.spans} spans "
                "with text between them; choose a longer mean_span or a lower noise_density"
            )
        if self.lengths.spans > layout.n_sentinels:
            raise UserError(
                f"objective.length={length} needs {self.lengths.spans} sentinels, and the vocabulary has "
                f"{layout.n_sentinels}; set tokenizer.sentinels={self.lengths.spans} or a longer objective.mean_span"
            )
        self.raw_length = self.lengths.raw

    def apply(self, windows: np.ndarray, rng: np.random.Generator) -> Arrays:
        inputs, targets = spans.sides(spans.draw(len(windows), self.lengths, rng))
        sentinels, end = self.layout.sentinels, self.layout.eos_id
        batch = {"encoder_ids": inputs.fill(windows, sentinels, end), "targets": targets.fill(windows, sentinels, end)}
        segments = self._segments(windows, inputs, targets) if self.documents else {}
        decoder_ids = segment.shifted(batch["targets"], self.layout.pad_id, segments.get("decoder"))
        return {**batch, "decoder_ids": decoder_ids, **self._sides(**segments)}

    def prompt(self, context: Sequence[int]) -> Prompt:
        """What follows the context is a span that was left out at its end: `context <0> end`, and then `<0> ...`."""
        sentinel = self.layout.sentinel(0)
        return Prompt((self.layout.pad_id, sentinel), (*context, sentinel, self.layout.eos_id))

    def _segments(self, windows: np.ndarray, inputs: spans.Runs, targets: spans.Runs) -> Arrays:
        """(rows, length) on each side; a whole span and its sentinels belong to the document in which it begins."""
        raw = segment.of_documents(windows, self.layout.eos_id)  # (rows, raw_length)
        encoder = raw.ravel().take(inputs.index, mode="clip")  # a sentinel's slot is the first token of its span
        of_span = encoder.ravel()[inputs.slots]  # (rows, spans)
        encoder[:, -1] = of_span[:, -1]  # the end belongs to the last span
        decoder = np.repeat(of_span.ravel(), targets.sizes.ravel()).reshape(len(windows), -1)
        return {"encoder": encoder, "decoder": decoder}


class Causal(Objective):
    """Each token is predicted from those before it in its row, the first from the start symbol; all are scored."""

    gives = frozenset({"decoder_ids"})

    def apply(self, windows: np.ndarray, rng: np.random.Generator) -> Arrays:
        if not self.documents:
            return {"decoder_ids": segment.shifted(windows, self.layout.pad_id), "targets": windows}
        documents = segment.of_documents(windows, self.layout.eos_id)
        shifted = segment.shifted(windows, self.layout.pad_id, documents)
        return {"decoder_ids": shifted, "targets": windows, **self._sides(decoder=documents)}


class Prefix(Objective):
    """A prefix of random length is fully visible, what follows is scored (Liu et al. 2018; Raffel et al. 2020).

    A decoder reads both in one sequence of `length`; an encoder-decoder reads the prefix in the encoder and predicts
    the rest in the decoder, both padded to `length`. The prefix has 1 to length-1 tokens, uniformly distributed.
    """

    gives = (frozenset({"decoder_ids", "prefix_lengths"}), frozenset({"encoder_ids", "decoder_ids"}))

    def __init__(self, layout: Layout, stacks: Collection[str], documents: bool, length: int):
        super().__init__(layout, stacks, documents, length)
        if length < 2:
            raise UserError(f"objective.length={length}: a prefix and what follows need 2 tokens or more")
        self.is_split = "encoder" in stacks
        if self.is_split and documents:
            raise UserError(
                "data.document_mask=true with objective=prefix gives an encoder-decoder documents without an input; "
                "use topology=prefix_decoder, or data.document_mask=false"
            )

    def apply(self, windows: np.ndarray, rng: np.random.Generator) -> Arrays:
        prefix = rng.integers(1, self.length, len(windows))
        places = np.arange(self.length)
        # (rows, length): the rest starts at the front of the decoder's row if split, else behind the prefix
        scored = places < (self.length - prefix)[:, None] if self.is_split else places >= prefix[:, None]
        batch = self._split(windows, prefix, scored) if self.is_split else self._whole(windows, prefix)
        return {**batch, "scored": scored}

    def prompt(self, context: Sequence[int]) -> Prompt:
        """The context is the prefix: in the encoder, where there is one, else before what follows."""
        if not self.is_split:
            return super().prompt(context)
        return Prompt((self.layout.pad_id,), (*context,) or (self.layout.eos_id,))  # an encoder reads a token or more

    def _whole(self, windows: np.ndarray, prefix: np.ndarray) -> Arrays:
        """One sequence; the start symbol belongs to the prefix too, which is therefore one position longer."""
        documents = segment.of_documents(windows, self.layout.eos_id) if self.documents else None
        shifted = segment.shifted(windows, self.layout.pad_id, documents)
        sides = {} if documents is None else self._sides(decoder=documents)
        return {"decoder_ids": shifted, "targets": windows, "prefix_lengths": prefix + 1, **sides}

    def _split(self, windows: np.ndarray, prefix: np.ndarray, scored: np.ndarray) -> Arrays:
        """Prefix and rest, each aligned to the front of its own row; segment 0 is padding."""
        places, pad = np.arange(self.length), windows.dtype.type(self.layout.pad_id)
        is_prefix = places < prefix[:, None]
        # the tokens from the prefix's end on, (rows, length); places past the row's end repeat its last token
        rest = np.take_along_axis(windows, np.minimum(places + prefix[:, None], self.length - 1), axis=1)
        targets = np.where(scored, rest, pad)
        return {
            "encoder_ids": np.where(is_prefix, windows, pad),
            "encoder_segments": is_prefix.astype(np.int64),
            "decoder_ids": np.where(scored, segment.shifted(targets, self.layout.pad_id), pad),
            "decoder_segments": scored.astype(np.int64),
            "targets": targets,
        }


class Masked(Objective):
    """Some tokens are masked and predicted in place (Devlin et al. 2019).

    probability: fraction of each row that is predicted, the same number of tokens in each. Of those, keep_share stay
    unchanged, random_share are replaced by a random id out of those that text has, and the others by the mask symbol.
    """

    ranges: ClassVar[Ranges] = {"probability": PROPER_FRACTION}
    gives = frozenset({"encoder_ids"})

    def __init__(
        self,
        layout: Layout,
        stacks: Collection[str],
        documents: bool,
        length: int,
        probability: float,
        random_share: float,
        keep_share: float,
    ):
        super().__init__(layout, stacks, documents, length)
        check(type(self), "objective", probability=probability)
        if min(random_share, keep_share) < 0 or random_share + keep_share > 1:
            raise UserError(
                f"objective.random_share={random_share} and keep_share={keep_share}: must not be negative, "
                "nor add up to more than 1"
            )
        self.n_masked = min(max(round(length * probability), 1), length)
        self.random_share, self.keep_share = random_share, keep_share

    def apply(self, windows: np.ndarray, rng: np.random.Generator) -> Arrays:
        # the n_masked tokens of each row with the smallest random keys, (rows, length) bool
        keys = rng.random(windows.shape)
        chosen = keys <= np.partition(keys, self.n_masked - 1, axis=1)[:, self.n_masked - 1, None]
        fate = rng.random(windows.shape)  # below keep_share: kept; in the next random_share: random; else masked
        ids = np.where(chosen & (fate >= self.keep_share), windows.dtype.type(self.layout.mask_id), windows)
        is_random = chosen & (fate >= self.keep_share) & (fate < self.keep_share + self.random_share)
        ids[is_random] = self.text_ids[rng.integers(0, len(self.text_ids), np.count_nonzero(is_random))]
        batch = {"encoder_ids": ids, "targets": windows, "scored": chosen}
        if self.documents:
            batch |= self._sides(encoder=segment.of_documents(windows, self.layout.eos_id))
        return batch

    def prompt(self, context: Sequence[int]) -> Prompt:
        raise UserError("objective=masked fills in gaps, and a model trained on it does not go on after a text")


def build(cfg: Mapping[str, Any], corpus: Any) -> Objective:
    """The objective that `cfg.objective` describes, for the ids of `corpus` and the stacks of `cfg.topology`."""
    make, topology = fill(cfg, "objective"), fill(cfg, "topology")
    made: Objective = make(corpus.layout, topology.func.stacks, cfg["data"]["document_mask"])
    made.text_ids = corpus.text_ids
    return made
