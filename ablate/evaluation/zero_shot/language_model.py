"""Our models as lm-eval's `LM`: it gives texts, and gets log-likelihoods and what the model writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lm_eval.api.model import LM

from ablate.data.prompt import Prompt
from ablate.data.tokenizer_backends import Tokenizer
from ablate.errors import UserError
from ablate.evaluation.likelihood import Likelihood, Question, Scorer, rolling

MOST_WRITTEN = 256  # tokens, where a task does not say: lm-eval's own


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
        """What the model writes after each request's context, greedily, up to one of its stop texts."""
        raise NotImplementedError

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
        if len(answer) <= self.length:
            return [self._question(context, answer)] if answer else []
        step = max(self.length // 2, 1)
        return [
            self._question([*context, *answer[:begin]], answer[begin : begin + step])
            for begin in range(0, len(answer), step)
        ]

    def _is_cut(self, context: list[int], answer: list[int]) -> bool:
        if self.has_encoder:
            return len(context) + self.added > self.length or len(answer) > self.length
        return len(self.prompt(()).decoder) + len(context) + len(answer) > self.length + 1

    def _question(self, context: list[int], answer: list[int]) -> Question:
        """The encoder keeps what it reads besides the context; of that the end."""
        room = self.length - self.added
        return Question(self.prompt(context[-room:] if self.has_encoder else context), tuple(answer))


def plain(padding: int, end: int) -> Callable[[Sequence[int]], Prompt]:
    """The prompt of an encoder-decoder as lm-eval's `hf` asks T5: `context end` in the encoder, then the answer."""
    return lambda context: Prompt((padding,), (*context, end))


def _moved(context: str, continuation: str) -> tuple[str, str]:
    """Spaces at the end of a context belong to the continuation, of whose first word they are a part."""
    kept = context.rstrip()
    return kept, context[len(kept) :] + continuation


def _sum(parts: list[Likelihood]) -> Likelihood:
    return Likelihood(sum(part.log_likelihood for part in parts), all(part.is_greedy for part in parts))
