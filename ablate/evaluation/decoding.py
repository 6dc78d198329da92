"""Writing: greedy or beam search, for every model that has a decoder.

An encoder-decoder writes to the encoder's input, a causal or prefix decoder goes on behind what it is given. Keys and
values of what was written are kept where the model allows it (`ablate.model.reading`); else each step computes the
whole sequence again, with the same outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ablate.evaluation.contract import evaluating
from ablate.model.build import Model
from ablate.model.reading import Reader, State, reader_of
from ablate.model.topology import Batch

OUT = -1e7  # the log-probability of a beam that does not exist yet or has ended, as in the authors' library


def greedy(
    model: Model, batch: Batch, length: int, *, padding: int = 0, end: int = 1, keep_keys: bool = True
) -> Tensor:
    """The most likely token at each step: ids (B,length), `padding` after `end`.

    `batch` has what is written to: ``encoder_ids`` (B,S) for an encoder-decoder, ``decoder_ids`` (B,P), which begin
    with the start symbol, for a decoder; an encoder-decoder without ``decoder_ids`` starts with `padding`. Rows of
    different lengths have ``encoder_segments`` or ``decoder_segments``, 0 at their end; what is written continues each
    row where it ends. The tokens given to a prefix decoder are its prefix, or ``prefix_lengths`` (B,) of them.
    `keep_keys=False` computes all anew in each step. Raises UserError if the model is an encoder alone.
    """
    with evaluating(model):
        reader, chances, state = _start(model, batch, padding, keep_keys)
        ids = state.ids[:, :0]
        going = torch.ones_like(state.lengths, dtype=torch.bool)
        while ids.shape[1] < length and going.any():
            if ids.shape[1]:
                chances, state = _next(reader, state, ids[:, -1:])
            token = chances.argmax(-1).masked_fill(~going, padding)
            ids, going = torch.cat([ids, token[:, None]], 1), going & (token != end)
    return _filled(ids, length, padding)


def beam_search(
    model: Model,
    batch: Batch,
    length: int,
    *,
    beams: int,
    alpha: float,
    candidates: int = 2,
    padding: int = 0,
    end: int = 1,
    keep_keys: bool = True,
) -> Tensor:
    """Beam search with `beams` beams: ids (B,length); other arguments as for `greedy`.

    Finished sequences are ranked by log-probability / ((5 + tokens) / 6)^alpha (Wu et al. 2016,
    https://arxiv.org/abs/1609.08144); if none is finished, the most likely unfinished one is taken. Each beam is
    extended by its `candidates` best tokens: two as in the authors' library; with 2 `beams` no better one is missed.
    """
    count = len(batch["encoder_ids"] if "encoder_ids" in batch else batch["decoder_ids"])
    with evaluating(model):
        reader, chances, state = _start(model, batch, padding, keep_keys)
        chances, state = chances.repeat_interleave(beams, 0), state.repeated(beams)
        candidates = min(candidates, chances.shape[-1])
        ids = state.ids.new_empty(count, beams, 0)
        total = torch.full((count, beams), OUT, device=ids.device)  # log-probabilities of the unfinished, (B,beams)
        total[:, 0] = 0.0  # at first there is one beam
        done, done_score = ids.new_zeros(count, beams, length), torch.full_like(total, -torch.inf)
        first_beam = torch.arange(count, device=ids.device)[:, None] * beams  # (B,1): the state's row of each example
        for written in range(1, length + 1):
            best, token = chances.unflatten(0, (count, beams)).topk(candidates, -1)  # (B,beams,C)
            candidate = (total.unsqueeze(-1) + best).flatten(1)  # (B,beams C): C of the first beam, C of the next, ...
            longer = torch.cat([ids.repeat_interleave(candidates, 1), token.flatten(1).unsqueeze(-1)], -1)
            # Those that end here compete with the finished ones; of the others the best are the next beams.
            ends = longer[..., -1] == end
            score = (candidate / _length_penalty(written, alpha)).masked_fill(~ends, -torch.inf)
            done_score, kept = torch.cat([done_score, score], 1).topk(beams, 1)
            done = _chosen(torch.cat([done, _filled(longer, length, padding)], 1), kept)
            total, kept = (candidate + OUT * ends).topk(beams, 1)
            ids = _chosen(longer, kept)
            if written == length or (done_score[:, 0] >= total[:, 0] / _length_penalty(length, alpha)).all():
                break  # no unfinished beam can become better
            state = state.reordered((first_beam + kept // candidates).flatten(), same_source=True)
            chances, state = _next(reader, state, ids[..., -1:].flatten(0, 1))
    unfinished = _filled(ids[:, 0], length, padding)
    return torch.where(done_score[:, :1].isfinite(), done[:, 0], unfinished)


def _start(model: Model, batch: Batch, padding: int, keep_keys: bool) -> tuple[Reader, Tensor, State]:
    """A reader, and what it has read of `batch`: log-probabilities of each row's next token (B,V), and its state."""
    reader = reader_of(model, keep_keys=keep_keys)
    if "decoder_ids" not in batch:
        batch = {**batch, "decoder_ids": batch["encoder_ids"].new_full((len(batch["encoder_ids"]), 1), padding)}
    hidden, state = reader.read(batch)
    last = (state.lengths - 1)[:, None, None].expand(-1, 1, hidden.shape[-1])
    return reader, _chances(reader, hidden.gather(1, last)), state


def _next(reader: Reader, state: State, ids: Tensor) -> tuple[Tensor, State]:
    """Log-probabilities of the token behind `ids` (B,1), which are behind what `state` has: (B,V); and the state."""
    hidden, state = reader.extend(state, ids)
    return _chances(reader, hidden), state


def _chances(reader: Reader, hidden: Tensor) -> Tensor:
    """(B,1,D) -> log-probabilities (B,V), float32."""
    return reader.logits(hidden)[:, 0].float().log_softmax(-1)


def _chosen(sequences: Tensor, at: Tensor) -> Tensor:
    """sequences (B,N,T), at (B,K) -> (B,K,T): K of the N sequences of each example."""
    return sequences.gather(1, at.unsqueeze(-1).expand(-1, -1, sequences.shape[-1]))


def _filled(ids: Tensor, length: int, padding: int) -> Tensor:
    """ids (...,T) with padding up to (...,length)."""
    return torch.nn.functional.pad(ids, (0, length - ids.shape[-1]), value=padding)


def _length_penalty(tokens: int, alpha: float) -> float:
    return float(((5 + tokens) / 6) ** alpha)
