"""Decoding: from inputs to the model's output, by greedy or beam search, for encoder-decoders.

The decoder processes the whole output so far at each step, without a cache of keys and values: slower than necessary,
but correct for every attention, convolution and stack.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ablate.errors import UserError
from ablate.evaluation.contract import evaluating
from ablate.model.build import Model
from ablate.model.contract import Memory
from ablate.model.topology import Batch, EncoderDecoder

OUT = -1e7  # the log-probability of a beam that does not exist yet or has ended, as in the authors' library


def greedy(model: Model, batch: Batch, length: int, *, padding: int = 0, end: int = 1) -> Tensor:
    """The most likely token at each step: ids (B,length), `padding` after `end`; a decoder starts with `padding`.

    `batch` has the encoder's input: `encoder_ids` (B,S) and, if they are padded, `encoder_segments` (B,S). Raises
    UserError if the model is not an encoder-decoder.
    """
    with evaluating(model):
        next_of = _continuation(model, batch, 1)
        ids = batch["encoder_ids"].new_full((len(batch["encoder_ids"]), 1), padding)
        going = torch.ones_like(ids[:, 0], dtype=torch.bool)
        while ids.shape[1] <= length and going.any():
            token = next_of(ids).argmax(-1).masked_fill(~going, padding)
            ids, going = torch.cat([ids, token[:, None]], 1), going & (token != end)
    return _filled(ids[:, 1:], length, padding)


def beam_search(
    model: Model, batch: Batch, length: int, *, beams: int, alpha: float, padding: int = 0, end: int = 1
) -> Tensor:
    """Beam search with `beams` beams: ids (B,length); all arguments but `beams` and `alpha` as for `greedy`.

    Finished sequences are ranked by log-probability / ((5 + tokens) / 6)^alpha (Wu et al. 2016,
    https://arxiv.org/abs/1609.08144); if none is finished, the most likely unfinished one is taken. As in the authors'
    library each beam is extended by its two best tokens only.
    """
    count = len(batch["encoder_ids"])
    with evaluating(model):
        next_of = _continuation(model, batch, beams)
        ids = batch["encoder_ids"].new_full((count, beams, 1), padding)
        total = torch.full((count, beams), OUT, device=ids.device)  # log-probabilities of the unfinished, (B,beams)
        total[:, 0] = 0.0  # at first there is one beam
        done, done_score = ids.new_zeros(count, beams, length), torch.full_like(total, -torch.inf)
        for written in range(1, length + 1):
            best, token = next_of(ids.flatten(0, 1)).unflatten(0, (count, beams)).topk(2, -1)  # (B,beams,2)
            candidate = (total.unsqueeze(-1) + best).flatten(1)  # (B,2 beams): two of the first beam, two of the next
            longer = torch.cat([ids.repeat_interleave(2, 1), token.flatten(1).unsqueeze(-1)], -1)  # (B,2 beams,T)
            # Those that end here compete with the finished ones; of the others the best are the next beams.
            ends = longer[..., -1] == end
            score = (candidate / _length_penalty(written, alpha)).masked_fill(~ends, -torch.inf)
            done_score, kept = torch.cat([done_score, score], 1).topk(beams, 1)
            done = _chosen(torch.cat([done, _filled(longer[..., 1:], length, padding)], 1), kept)
            total, kept = (candidate + OUT * ends).topk(beams, 1)
            ids = _chosen(longer, kept)
            if (done_score[:, 0] >= total[:, 0] / _length_penalty(length, alpha)).all():
                break  # no unfinished beam can become better
    unfinished = _filled(ids[:, 0, 1:], length, padding)
    return torch.where(done_score[:, :1].isfinite(), done[:, 0], unfinished)


def _continuation(model: Model, batch: Batch, copies: int) -> Callable[[Tensor], Tensor]:
    """A function of the outputs so far of `copies` decoders for each example, (B copies,T), that gives the
    log-probabilities of the next token, (B copies,V) float32. The encoder runs once."""
    topology = model.topology
    if not isinstance(topology, EncoderDecoder):
        raise UserError("decoding needs an encoder-decoder; choose topology=encoder_decoder")
    memory = _repeated(topology.encode(batch)[0], copies)
    head: Any = model.head

    def next_of(ids: Tensor) -> Tensor:
        target: dict[str, Any] = {"decoder_ids": ids}
        if memory.view.segments is not None:
            target["decoder_segments"] = torch.ones_like(ids)
        hidden, _ = topology.decode(target, memory)
        logits: Tensor = head.logits(hidden[:, -1:])  # (B copies,1,V)
        return logits[:, 0].float().log_softmax(-1)

    return next_of


def _repeated(memory: Memory, copies: int) -> Memory:
    """The memory with each example `copies` times in a row."""
    repeat = lambda x: x.repeat_interleave(copies, 0)  # noqa: E731
    return Memory(memory.view.map(repeat), repeat(memory.output), [repeat(state) for state in memory.states])


def _chosen(sequences: Tensor, at: Tensor) -> Tensor:
    """sequences (B,N,T), at (B,K) -> (B,K,T): K of the N sequences of each example."""
    return sequences.gather(1, at.unsqueeze(-1).expand(-1, -1, sequences.shape[-1]))


def _filled(ids: Tensor, length: int, padding: int) -> Tensor:
    """ids (...,T) with padding up to (...,length)."""
    return torch.nn.functional.pad(ids, (0, length - ids.shape[-1]), value=padding)


def _length_penalty(tokens: int, alpha: float) -> float:
    return float(((5 + tokens) / 6) ** alpha)
