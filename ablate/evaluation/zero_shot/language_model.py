"""Our models as lm-eval's `LM`: it gives texts, and gets log-likelihoods and what the model writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lm_eval.api.model import LM
from torch import Tensor

from ablate.data.prompt import Prompt
from ablate.data.tokenizer_backends import Tokenizer
from ablate.errors import UserError
from ablate.evaluation.decoding import greedy
from ablate.evaluation.likelihood import Likelihood, Question, Scorer, rolling

WRITTEN_AT_ONCE = 64  # texts
MOST_WRITTEN = 256  # tokens, where a task does not say: lm-eval's own


@dataclass(frozen=True)
class Writing:
    """What is read, the texts at which writing stops, and the most tokens that are written."""

    prompt: Prompt
    until: tuple[str, ...]
    most: int


@dataclass
class Inputs:
    """What was asked so far: questions, and how many of them lost the beginning of what they were to read."""

    asked: int = 0
    cut: int = 0


class LanguageModel(LM):
    """A model that writes, with its tokenizer.

    prompt: from the ids of a context, which may be none, to what is read before an answer (`Objective.prompt`).
    end: the id at which writing ends.
    """

    def __init__(self, scorer: Scorer, tokenizer: Tokenizer, prompt: Callable[[Sequence[int]], Prompt], end: int):
        super().__init__()
        self.scorer, self.tokenizer, self.prompt, self.end = scorer, tokenizer, prompt, end
        self.length = scorer.length
        empty = prompt(())
        self.has_encoder = empty.encoder is not None
        # Ids that the encoder reads besides the context; an empty context may be given an id in its place.
        self.added = len(prompt((end,)).encoder or (end,)) - 1
        # Behind a context in the encoder, the decoder keeps all that it reads before an answer.
        self.longest_answer = self.length + 1 - len(empty.decoder) if self.has_encoder else self.length
        self.inputs = Inputs()

    def begin(self) -> None:
        """Count the inputs anew."""
        self.inputs = Inputs()

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """For each request, (context, continuation): the log-likelihood of the continuation, and whether it is greedy.

        As lm-eval's `hf` encodes them: a decoder's context and continuation as one text, whose ids behind those of the
        context alone are the continuation; an encoder-decoder's as two. Spaces at the end of a context belong to the
        continuation.
        """
        pairs = [_moved(*request.args[:2]) for request in requests]
        parts = [self._parts(*pair) for pair in self._encoded(pairs)]
        found = iter(self.scorer([question for questions in parts for question in questions]))
        answers = [_sum([next(found) for _ in questions]) for questions in parts]
        return [(answer.log_likelihood, answer.is_greedy) for answer in answers]

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[float]:
        """The log-likelihood of each request's text, in windows of the model's length.

        Raises UserError for an encoder-decoder, which has been trained on no whole text.
        """
        if self.has_encoder:
            raise UserError("an encoder-decoder has no perplexity of a whole text")
        (start,) = self.prompt(()).decoder
        texts = self.tokenizer.encode([request.args[0] for request in requests])
        parts = [rolling(ids.tolist(), start, self.length) for ids in texts]
        self.inputs.asked += len(parts)
        found = iter(self.scorer([question for questions in parts for question in questions]))
        return [_sum([next(found) for _ in questions]).log_likelihood for questions in parts]

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[str]:
        """What the model writes after each request's context, greedily, up to one of its stop texts, as lm-eval's `hf`.

        At most `max_gen_toks` tokens, and no more than half of what it can read. Raises UserError for sampling.
        """
        contexts = self.tokenizer.encode([request.args[0] for request in requests])
        asked = [self._writing(ids.tolist(), request.args[1]) for ids, request in zip(contexts, requests, strict=True)]
        return self._written(asked)

    def _writing(self, context: list[int], settings: Mapping[str, Any]) -> Writing:
        if settings.get("do_sample") or settings.get("temperature"):
            raise UserError("the task draws what it writes at random (do_sample), and only greedy writing is offered")
        until = settings.get("until") or ()
        most = min(settings.get("max_gen_toks") or MOST_WRITTEN, max(self.length // 2, 1))
        room = self.length - self.added if self.has_encoder else self.length - most
        self.inputs.asked += 1
        self.inputs.cut += len(context) > room
        return Writing(self.prompt(context[-room:]), (until,) if isinstance(until, str) else tuple(until), most)

    def _written(self, asked: list[Writing]) -> list[str]:
        """The texts, in the order of what is asked; the batches are divided between the processes."""
        scorer, order = (
            self.scorer,
            sorted(range(len(asked)), key=lambda number: asked[number].prompt.lengths, reverse=True),
        )
        found = torch.zeros(len(asked), max(one.most for one in asked), dtype=torch.long, device=scorer.device)
        for batch, at in enumerate(range(0, len(asked), WRITTEN_AT_ONCE)):
            scorer.between(at, len(asked))
            if batch % scorer.share.world_size != scorer.share.rank:
                continue
            numbers = order[at : at + WRITTEN_AT_ONCE]
            ids = self._write([asked[number] for number in numbers])
            found[numbers, : ids.shape[1]] = ids + 1  # 0 is where another process writes
        written = (scorer.share.total(found) - 1).tolist()
        return [self._text(row, one) for row, one in zip(written, asked, strict=True)]

    def _write(self, asked: list[Writing]) -> Tensor:
        """The ids that are written, (N, most), with the end behind each."""
        most = max(one.most for one in asked)

        def stop(ids: Tensor) -> Tensor:
            rows = zip(ids.tolist(), asked, strict=True)
            done = [
                len(row) >= one.most or _first_stop(self.tokenizer.decode(row), one) is not None for row, one in rows
            ]
            return torch.tensor(done, device=ids.device)

        batch = self.scorer.batch([one.prompt for one in asked])
        with self.scorer.autocast():
            return greedy(self.scorer.model, batch, most, padding=self.end, end=self.end, stop=stop)

    def _text(self, ids: list[int], asked: Writing) -> str:
        """The text that ids stand for, up to the end and to the first of the stop texts."""
        ids = ids[: ids.index(self.end)] if self.end in ids else ids
        text = self.tokenizer.decode([i for i in ids if i >= 0])
        return text[: _first_stop(text, asked)]

    def _encoded(self, pairs: list[tuple[str, str]]) -> list[tuple[list[int], list[int]]]:
        """The ids of contexts and continuations; each text once."""
        contexts = {context: None for context, _ in pairs}
        texts = [
            *contexts,
            *(answer if self.has_encoder or not context else context + answer for context, answer in pairs),
        ]
        ids = [one.tolist() for one in self.tokenizer.encode(texts)]
        known = dict(zip(contexts, ids, strict=False))
        encoded = []
        for (context, answer), whole in zip(pairs, ids[len(contexts) :], strict=True):
            before = known[context] if context else []
            if self.has_encoder or not context:
                encoded.append((before, whole))
            elif len(whole) > len(before):
                encoded.append((before, whole[len(before) :]))
            else:  # the continuation became one token with the end of the context
                encoded.append((before, self.tokenizer.encode([answer])[0].tolist()))
        return encoded

    def _parts(self, context: list[int], answer: list[int]) -> list[Question]:
        """The question, in parts where the answer is longer than the model reads: each after what is before it."""
        self.inputs.asked += 1
        self.inputs.cut += self._is_cut(context, answer)
        if len(answer) <= self.longest_answer:
            return [self._question(context, answer)] if answer else []
        step = max(self.length // 2, 1)
        return [
            self._question([*context, *answer[:begin]], answer[begin : begin + step])
            for begin in range(0, len(answer), step)
        ]

    def _is_cut(self, context: list[int], answer: list[int]) -> bool:
        if self.has_encoder:
            return len(context) + self.added > self.length or len(answer) > self.longest_answer
        return len(self.prompt(()).decoder) + len(context) + len(answer) > self.length + 1

    def _question(self, context: list[int], answer: list[int]) -> Question:
        """The encoder keeps what it reads besides the context; of that the end."""
        room = self.length - self.added
        return Question(self.prompt(context[-room:] if self.has_encoder else context), tuple(answer))


def plain(padding: int, end: int) -> Callable[[Sequence[int]], Prompt]:
    """The prompt of an encoder-decoder as lm-eval's `hf` asks T5: `context end` in the encoder, then the answer."""
    return lambda context: Prompt((padding,), (*context, end))


def _first_stop(text: str, asked: Writing) -> int | None:
    """Where the first of the stop texts begins; None where there is none."""
    return min((text.index(stop) for stop in asked.until if stop and stop in text), default=None)


def _moved(context: str, continuation: str) -> tuple[str, str]:
    """Spaces at the end of a context belong to the continuation, of whose first word they are a part."""
    kept = context.rstrip()
    return kept, context[len(kept) :] + continuation


def _sum(parts: list[Likelihood]) -> Likelihood:
    return Likelihood(sum(part.log_likelihood for part in parts), all(part.is_greedy for part in parts))
