"""Log-likelihoods of given answers: log p(answer | prompt), summed over the answer's tokens.

    decoder            start context | answer                 (the prefix decoder reads start and context both ways)
    encoder-decoder    encoder: what the prompt says         decoder: start ... | answer

Questions are sorted by length and asked in batches of about the same number of tokens, padding included. What several
answers share, their first tokens too, is read once, where the model allows it (`ablate.model.reading`), and logits are
computed of the answers' places alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from ablate.data.prompt import Prompt
from ablate.evaluation.contract import evaluating
from ablate.model.build import Model
from ablate.model.cache import Past
from ablate.model.contract import PREFIX, Memory, View
from ablate.model.reading import ignores_padding, reader_of
from ablate.model.topology import Writer

Read = tuple[Tensor, list[int], list[int]]  # hidden states (P,D); of each answer's tokens the places; the questions
LOGITS = 1 << 24  # that are held at once, in float32: 64 MiB
FEWEST = 256  # tokens: on a CPU a batch of less takes about as long
PADDING = 0.125  # the most of a larger batch that is padding, on a CPU
T = TypeVar("T")


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


@dataclass
class Group:
    """What is read before some answers, and these: by their inputs, which are all tokens but the last, the numbers of
    the questions."""

    prompt: Prompt
    tails: dict[tuple[int, ...], list[int]]

    @cached_property
    def common(self) -> tuple[int, ...]:
        """The tokens with which all inputs begin."""
        first, last = min(self.tails), max(self.tails)  # in between, all begin as both of these do
        return tuple(token for token, _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False)))


@dataclass(frozen=True)
class Share:
    """This process's part of the batches: `rank` of `world_size`; `total` adds a tensor over all processes."""

    rank: int = 0
    world_size: int = 1
    total: Callable[[Tensor], Tensor] = lambda sums: sums


class Scorer:
    """Asks a model; every process gets every answer.

    length: the most tokens that the decoder reads, and that the encoder reads; longer inputs lose tokens on the left.
    batch_tokens: the most tokens that a batch has, padding included.
    between: called before each batch with the number of questions answered so far and of all of them.
    keep_keys: whether what several answers share is read once, where the model allows it; else only where answers
        differ in their last token alone.
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
        share: Share = Share(),
        between: Callable[[int, int], None] = lambda done, of: None,
        keep_keys: bool = True,
    ):
        self.model, self.length, self.batch_tokens, self.padding = model, length, batch_tokens, padding
        self.autocast, self.share, self.between = autocast, share, between
        self.reader = reader_of(model, keep_keys=keep_keys)
        self.device = next(model.parameters()).device
        self.fewest = FEWEST if self.device.type == "cpu" else batch_tokens  # on a GPU few large batches are faster
        topology = cast(Writer, model.topology)
        self.order = topology.mask_orders["decoder"]
        self.ignores_padding = ignores_padding(topology.decoder, self.order)

    def __call__(self, questions: Sequence[Question]) -> list[Likelihood]:
        """The likelihood of each question's answer, in the order of the questions."""
        groups: dict[Prompt, Group] = {}  # each once, with the questions that it answers
        for number, question in enumerate(questions):
            prompt = self._cut(question)
            group = groups.setdefault(prompt, Group(prompt, {}))
            group.tails.setdefault(question.answer[:-1], []).append(number)
        found = torch.zeros(len(questions), 2, dtype=torch.float64, device=self.device)
        done = 0
        with evaluating(self.model), torch.inference_mode():
            for number, batch in enumerate(self._batches([*groups.values()])):
                self.between(done, len(questions))
                if number % self.share.world_size == self.share.rank:
                    with self.autocast():
                        self._answer(batch, questions, found)
                done += sum(len(numbers) for group in batch for numbers in group.tails.values())
        sums = self.share.total(found).tolist()
        return [Likelihood(value, bool(greedy)) for value, greedy in sums]

    def _cut(self, question: Question) -> Prompt:
        """The prompt, cut on the left to what the model can read, as by lm-eval's `hf`: an answer's last token is no
        input."""
        if not question.answer:
            raise ValueError("an answer has no tokens")
        if len(question.answer) > self.length:
            raise ValueError(f"an answer of {len(question.answer)} tokens is longer than the length {self.length}")
        room = self.length + 1 - len(question.answer)
        encoder = question.prompt.encoder
        return Prompt(question.prompt.decoder[-room:], None if encoder is None else encoder[-self.length :])

    def _batches(self, groups: list[Group]) -> Iterator[list[Group]]:
        """Groups of about the same length, the longest first, at most `batch_tokens` tokens at once.

        Those of one answer each are separate: these are read in one piece.
        """
        shared = [group for group in groups if self._is_shared(group)]
        alone = [group for group in groups if not self._is_shared(group)]
        yield from self._cut_up(shared, self._size_before)
        yield from self._cut_up(alone, _size, rows=lambda group: len(group.tails))

    def _cut_up(
        self, items: Iterable[T], size: Callable[[T], tuple[int, ...]], rows: Callable[[T], int] = lambda _: 1
    ) -> Iterator[list[T]]:
        """Items of about the same size, the largest first, in batches of at most `batch_tokens` tokens with padding.

        `size` gives an item's lengths, each of which is padded to the largest in the batch; `rows` how often it is
        read. Items of no length are separate from others. An item alone may be larger.
        """
        batch: list[T] = []
        widths: tuple[int, ...] = ()
        count = filled = 0
        for item in sorted(items, key=size, reverse=True):
            own, number = size(item), rows(item)
            wider = tuple(map(max, widths, own)) if batch else own
            padded, full = (count + number) * sum(wider), filled + number * sum(own)
            wasteful = padded > self.fewest and padded - full > PADDING * padded
            if batch and (padded > self.batch_tokens or wasteful or sum(own) == 0 < sum(wider)):
                yield batch
                batch, wider, full, count = [], own, number * sum(own), 0
            batch.append(item)
            widths, filled, count = wider, full, count + number
        if batch:
            yield batch

    def _size_before(self, group: Group) -> tuple[int, ...]:
        encoder, decoder = group.prompt.lengths
        return encoder, decoder + len(self._common(group))

    def _common(self, group: Group) -> tuple[int, ...]:
        """What of the answers is read with the prompt; nothing where the prompt's tokens would see it."""
        return () if self.order == PREFIX else group.common

    def _is_shared(self, group: Group) -> bool:
        return self.reader.keeps_keys and len(group.tails) > 1

    def _answer(self, groups: list[Group], questions: Sequence[Question], found: Tensor) -> None:
        """Put log-likelihood and greediness of the answers of a batch into their rows of `found`."""
        read = self._read_shared if self._is_shared(groups[0]) else self._read_whole
        for hidden, places, numbers in read(groups):
            answers = [questions[number].answer for number in numbers]
            lengths = torch.tensor([len(answer) for answer in answers], device=self.device)
            of = torch.arange(len(answers), device=self.device).repeat_interleave(lengths)
            targets = torch.tensor([token for answer in answers for token in answer], device=self.device)
            scores = self._scores(hidden, torch.tensor(places, device=self.device), targets)  # (tokens,2)
            sums = scores.new_zeros(len(answers), 2).index_add_(0, of, scores)
            found[numbers] = torch.stack([sums[:, 0], (sums[:, 1] == lengths).double()], 1)

    def _read_whole(self, groups: list[Group]) -> Iterator[Read]:
        """Each input as one sequence; each encoder's input is read once."""
        rows = [(group, tail) for group in groups for tail in group.tails]
        ids, segments = self._padded([(*group.prompt.decoder, *tail) for group, tail in rows])
        topology = cast(Writer, self.model.topology)
        view = View(ids, self.order, None if self.ignores_padding else segments)
        if self.order == PREFIX:
            view.prefix = torch.tensor([len(group.prompt.decoder) for group, _ in rows], device=self.device)
        memory, _ = topology.encode(self._encoder_batch([group.prompt for group in groups]))
        if memory is not None:
            at = [number for number, group in enumerate(groups) for _ in group.tails]
            memory = chosen(memory, torch.tensor(at, device=self.device))
        past = (
            Past() if self.reader.keeps_keys else None
        )  # nothing is read after it: it makes attention use the kernels of reading
        hidden, _ = topology.decode(view, memory, past)
        places: list[int] = []
        numbers: list[int] = []
        for row, (group, tail) in enumerate(rows):
            first = row * ids.shape[1] + len(group.prompt.decoder) - 1
            for number in group.tails[tail]:
                places += range(first, first + len(tail) + 1)
                numbers.append(number)
        yield hidden.flatten(0, 1), places, numbers

    def _read_shared(self, groups: list[Group]) -> Iterator[Read]:
        """What is before the answers once, with the tokens with which all of them begin, and the rest behind it."""
        before = [Prompt((*group.prompt.decoder, *self._common(group)), group.prompt.encoder) for group in groups]
        hidden, state = self.reader.read(self.batch(before))
        rows = [(at, tail[len(self._common(group)) :]) for at, group in enumerate(groups) for tail in group.tails]
        for part in self._cut_up(rows, lambda row: (len(row[1]),)):
            yield self._read_tails(groups, part, hidden, state)

    def _read_tails(
        self, groups: list[Group], rows: list[tuple[int, tuple[int, ...]]], before: Tensor, state: Any
    ) -> Read:
        """Rows (group, inputs of an answer that are not read yet) behind what was read of their groups: `before`
        (G,P,D)."""
        width = len(rows[0][1])
        length = before.shape[1]
        hidden = before.flatten(0, 1)
        behind = len(hidden)
        if width:
            state = state.reordered(torch.tensor([at for at, _ in rows], device=self.device))
            ids, segments = self._padded([tail for _, tail in rows])
            # Behind padding nothing is read here, so that rows without any before it need no mask.
            present = segments.bool() if segments is not None and state.is_padded else None
            hidden = torch.cat([hidden, self.reader.extend(state, ids, present)[0].flatten(0, 1)])
        places: list[int] = []
        numbers: list[int] = []
        for row, (at, tail) in enumerate(rows):
            common = self._common(groups[at])
            start = at * length + len(groups[at].prompt.decoder) - 1  # what predicts the first token
            first = behind + row * width
            for number in groups[at].tails[(*common, *tail)]:
                places += [*range(start, start + len(common) + 1), *range(first, first + len(tail))]
                numbers.append(number)
        return hidden, places, numbers

    def batch(self, prompts: Sequence[Prompt]) -> dict[str, Tensor]:
        """Prompts as a batch, padded on the right."""
        ids, segments = self._padded([prompt.decoder for prompt in prompts])
        found = {"decoder_ids": ids} if segments is None else {"decoder_ids": ids, "decoder_segments": segments}
        return {**found, **self._encoder_batch(prompts)}

    def _encoder_batch(self, prompts: Sequence[Prompt]) -> dict[str, Tensor]:
        """What the encoder reads of each prompt; nothing for a model without one."""
        encoders = [prompt.encoder for prompt in prompts if prompt.encoder is not None]
        if not encoders:
            return {}
        ids, segments = self._padded(encoders)
        return {"encoder_ids": ids} if segments is None else {"encoder_ids": ids, "encoder_segments": segments}

    def _scores(self, hidden: Tensor, places: Tensor, targets: Tensor) -> Tensor:
        """Of each target, at its place in `hidden` (P,D): log p, whether none is more likely; (tokens,2) float64."""
        needed, places = places.unique(return_inverse=True)
        found = hidden.new_zeros(len(targets), 2, dtype=torch.float64)
        order = places.argsort(stable=True)
        step = max(LOGITS // self.vocab_size, 1)
        for start in range(0, len(needed), step):
            logits = self.reader.logits(hidden[None, needed[start : start + step]])[0].float()  # (step,V)
            begin, end = torch.searchsorted(places[order], torch.tensor([start, start + step], device=self.device))
            which = order[begin:end]
            place, target = places[which] - start, targets[which]
            log_p = logits[place, target] - logits.logsumexp(-1)[place]
            found[which] = torch.stack([log_p.double(), (logits.argmax(-1)[place] == target).double()], 1)
        return found

    @cached_property
    def vocab_size(self) -> int:
        """How many ids the model has logits of."""
        topology = cast(Writer, self.model.topology)
        width = topology.decoder.embedding(torch.zeros(1, 1, dtype=torch.long, device=self.device))
        return self.reader.logits(width).shape[-1]

    def _padded(self, sequences: Sequence[tuple[int, ...]]) -> tuple[Tensor, Tensor | None]:
        """Ids (N,T) padded on the right, and segments (N,T), 0 at padding; no segments where none is padded."""
        longest = max(map(len, sequences))
        rows = [[*ids, *[self.padding] * (longest - len(ids))] for ids in sequences]
        ids = torch.tensor(rows, dtype=torch.long, device=self.device)
        if all(len(ids) == longest for ids in sequences):
            return ids, None
        lengths = torch.tensor([len(ids) for ids in sequences], device=self.device)
        return ids, (torch.arange(longest, device=self.device) < lengths[:, None]).long()


def _size(group: Group) -> tuple[int, ...]:
    encoder, decoder = group.prompt.lengths
    return encoder, decoder + max(map(len, group.tails))


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


def chosen(memory: Memory, index: Tensor) -> Memory:
    """The memory of the examples at `index` (N,), each as often as it is there."""

    def of(x: Tensor) -> Tensor:
        return x.index_select(0, index)

    return Memory(memory.view.map(of), of(memory.output), [of(state) for state in memory.states])
