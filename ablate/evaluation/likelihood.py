"""Log-likelihoods of given answers: log p(answer | prompt), summed over the answer's tokens.

    decoder            start context | answer                 (the prefix decoder reads start and context both ways)
    encoder-decoder    encoder: what the prompt says         decoder: start ... | answer

Questions are sorted by length and asked in batches of about the same number of tokens. What several answers share, the
encoder's input, or all of an input where answers differ in their last token only, is computed once, and logits are
computed of the answers' places alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ablate.data.prompt import Prompt
from ablate.errors import UserError
from ablate.evaluation.contract import evaluating
from ablate.model.build import Model
from ablate.model.contract import Memory
from ablate.model.topology import EncoderDecoder

LOGITS = 1 << 24  # that are held at once, in float32: 64 MiB


@dataclass(frozen=True)
class Question:
    """An answer, as ids, and what is read before it."""

    prompt: Prompt
    answer: tuple[int, ...]


@dataclass(frozen=True)
class Likelihood:
    """log p(answer | prompt) in nats, and whether each of the answer's tokens is the most likely one at its place."""

    log_likelihood: float
    is_greedy: bool


@dataclass(frozen=True)
class Row:
    """One sequence of the decoder: its ids, of which the last `scored` places each predict a token of an answer."""

    encoder: tuple[int, ...] | None
    ids: tuple[int, ...]
    scored: int


@dataclass(frozen=True)
class Share:
    """This process's part of the batches: `rank` of `world_size`; `total` adds a tensor over all processes."""

    rank: int = 0
    world_size: int = 1
    total: Callable[[Tensor], Tensor] = lambda sums: sums


class Scorer:
    """Asks a model; every process gets every answer.

    length: the most tokens that the decoder reads, and that the encoder reads; longer inputs lose tokens on the left.
    batch_tokens: about how many tokens a batch has, padding included.
    between: called before each batch with the number of questions answered so far and of all of them.
    Raises UserError for a model that does not write.
    """

    def __init__(
        self,
        model: Model,
        *,
        length: int,
        batch_tokens: int,
        padding: int = 0,
        autocast: Callable[[], AbstractContextManager] = nullcontext,
        share: Share = Share(),  # noqa: B008 (frozen)
        between: Callable[[int, int], None] = lambda done, of: None,
    ):
        check_writes(model)
        self.model, self.length, self.batch_tokens, self.padding = model, length, batch_tokens, padding
        self.autocast, self.share, self.between = autocast, share, between
        self.device = next(model.parameters()).device
        self.has_prefix = "prefix_lengths" in _topology(model).reads
        # Later padding is seen by no token of a causal decoder, except through parts whose tokens compete.
        self.ignores_padding = not self.has_prefix and not any(
            getattr(module, "mixes_segments", False) for module in model.modules()
        )

    def __call__(self, questions: Sequence[Question]) -> list[Likelihood]:
        """The likelihood of each question's answer, in the order of the questions."""
        rows: dict[Row, list[int]] = {}  # each once, with the questions that it answers
        for number, question in enumerate(questions):
            rows.setdefault(self._row(question), []).append(number)
        found = torch.zeros(len(questions), 2, dtype=torch.float64, device=self.device)
        done = 0
        with evaluating(self.model):
            for number, batch in enumerate(self._batches([*rows])):
                self.between(done, len(questions))
                asked = [(at, index) for at, row in enumerate(batch) for index in rows[row]]
                if number % self.share.world_size == self.share.rank:
                    answers = [questions[index].answer for _, index in asked]
                    with self.autocast():
                        found[[index for _, index in asked]] = self._answered(batch, [at for at, _ in asked], answers)
                done += len(asked)
        sums = self.share.total(found).tolist()
        return [Likelihood(value, bool(greedy)) for value, greedy in sums]

    def _row(self, question: Question) -> Row:
        """The inputs that predict an answer: its last token is no input; cut on the left, as by lm-eval's `hf`."""
        if not question.answer:
            raise ValueError("an answer has no tokens")
        if len(question.answer) > self.length:
            raise ValueError(f"an answer of {len(question.answer)} tokens is longer than the length {self.length}")
        whole = (*question.prompt.decoder, *question.answer)[-(self.length + 1) :]
        encoder = question.prompt.encoder
        return Row(None if encoder is None else encoder[-self.length :], whole[:-1], len(question.answer))

    def _batches(self, rows: list[Row]) -> Iterator[list[Row]]:
        """The rows by length, the longest first, cut where a batch would have more than `batch_tokens` tokens."""
        rows = sorted(rows, key=lambda row: (-len(row.encoder or ()), row.encoder or (), -len(row.ids), row.ids))
        batch: list[Row] = []
        encoders: set[tuple[int, ...]] = set()
        longest = widest = 0
        for row in rows:
            longest, widest = max(longest, len(row.ids)), max(widest, len(row.encoder or ()))
            encoders.add(row.encoder or ())
            if batch and (len(batch) + 1) * longest + len(encoders) * widest > self.batch_tokens:
                yield batch
                batch, encoders = [], {row.encoder or ()}
                longest, widest = len(row.ids), len(row.encoder or ())
            batch.append(row)
        if batch:
            yield batch

    def _answered(self, rows: list[Row], at: list[int], answers: list[tuple[int, ...]]) -> Tensor:
        """Log-likelihood and greediness (N,2) float64 of `answers` (N), each of the row at its place in `at` (N)."""
        hidden = self._hidden(rows)  # (places, D): the scored places of all rows, one row after the other
        begins = torch.tensor([0, *(row.scored for row in rows)]).cumsum(0).tolist()
        places = [place for row in at for place in range(begins[row], begins[row + 1])]
        of = torch.tensor([number for number, answer in enumerate(answers) for _ in answer], device=self.device)
        targets = torch.tensor([token for answer in answers for token in answer], device=self.device)
        scores = self._scores(hidden, torch.tensor(places, device=self.device), targets)  # (tokens, 2)
        sums = scores.new_zeros(len(answers), 2).index_add_(0, of, scores)
        lengths = torch.tensor([len(answer) for answer in answers], device=self.device)
        return torch.stack([sums[:, 0], (sums[:, 1] == lengths).double()], 1)

    def _scores(self, hidden: Tensor, places: Tensor, targets: Tensor) -> Tensor:
        """Of each target, at its place in `hidden` (P,D): log p, whether none is more likely; (tokens,2) float64."""
        head: Any = self.model.head
        found = hidden.new_zeros(len(targets), 2, dtype=torch.float64)
        order = places.argsort(stable=True)
        step = max(LOGITS // head.logits(hidden[None, :1]).shape[-1], 1)
        edges = torch.searchsorted(
            places[order], torch.arange(0, len(hidden) + step, step, device=self.device)
        ).tolist()
        for number, (begin, end) in enumerate(zip(edges, edges[1:], strict=False)):
            start = number * step
            logits = head.logits(hidden[None, start : start + step])[0].float()  # (step,V)
            which = order[begin:end]
            place, target = places[which] - start, targets[which]
            log_p = logits[place, target] - logits.logsumexp(-1)[place]
            found[which] = torch.stack([log_p.double(), (logits.argmax(-1)[place] == target).double()], 1)
        return found

    def _hidden(self, rows: list[Row]) -> Tensor:
        """Hidden states of the scored places of all rows, (places, D)."""
        ids, segments = self._padded([row.ids for row in rows], unless_needed=self.ignores_padding)
        batch = {"decoder_ids": ids}
        if segments is not None:
            batch["decoder_segments"] = segments
        if self.has_prefix:
            prefixes = [len(row.ids) - row.scored + 1 for row in rows]
            batch["prefix_lengths"] = torch.tensor(prefixes, device=self.device)
        topology = _topology(self.model)
        if isinstance(topology, EncoderDecoder):
            hidden, _ = topology.decode(batch, self._memory(topology, rows))
        else:
            hidden, _ = topology(batch)
        length = ids.shape[1]
        at = [
            row * length + place
            for row, one in enumerate(rows)
            for place in range(len(one.ids) - one.scored, len(one.ids))
        ]
        return hidden.flatten(0, 1)[torch.tensor(at, device=self.device)]

    def _memory(self, topology: EncoderDecoder, rows: list[Row]) -> Memory:
        """What each row's decoder attends to: each encoder's input is read once."""
        encoders = {row.encoder or (): None for row in rows}
        number = {encoder: at for at, encoder in enumerate(encoders)}
        ids, segments = self._padded([*encoders])
        batch = {"encoder_ids": ids} if segments is None else {"encoder_ids": ids, "encoder_segments": segments}
        memory, _ = topology.encode(batch)
        index = torch.tensor([number[row.encoder or ()] for row in rows], device=self.device)
        return chosen(memory, index)

    def _padded(
        self, sequences: Sequence[tuple[int, ...]], *, unless_needed: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Ids (N,T) padded on the right, and segments (N,T), 0 at padding; None where there is no padding."""
        longest = max(map(len, sequences))
        rows = [[*ids, *[self.padding] * (longest - len(ids))] for ids in sequences]
        ids = torch.tensor(rows, dtype=torch.long, device=self.device)
        if unless_needed or all(len(ids) == longest for ids in sequences):
            return ids, None
        lengths = torch.tensor([len(ids) for ids in sequences], device=self.device)
        return ids, (torch.arange(longest, device=self.device) < lengths[:, None]).long()


def rolling(ids: Sequence[int], start: int, length: int) -> list[Question]:
    """Questions whose log-likelihoods add up to that of a whole text: each token once, in windows of `length` tokens.

    The first token follows `start`; each later window begins with the last token of the one before it, and the last one
    reaches back as far as it can. The windows are those of lm-eval.
    """
    questions = []
    for begin in range(0, len(ids), length):
        answer = tuple(ids[begin : begin + length])
        end = begin + len(answer)
        before = (start,) if begin == 0 else tuple(ids[max(end - length - 1, 0) : begin])
        questions.append(Question(Prompt(before), answer))
    return questions


def check_writes(model: Model) -> None:
    """Raise `UserError` for a model that gives no probability of what comes next."""
    if "decoder_ids" not in _topology(model).reads:
        raise UserError(
            "the model has no decoder, so it gives no probability of an answer; "
            "choose topology=causal_decoder, prefix_decoder or encoder_decoder"
        )


def chosen(memory: Memory, index: Tensor) -> Memory:
    """The memory of the examples at `index` (N,), each as often as it is there."""

    def of(x: Tensor) -> Tensor:
        return x.index_select(0, index)

    return Memory(memory.view.map(of), of(memory.output), [of(state) for state in memory.states])


def _topology(model: nn.Module) -> Any:
    return model.topology
