"""Longer texts: ROUGE by `rouge-score` and BLEU by `sacrebleu`, as their authors compute them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import ModuleType

import numpy as np

from ablate.errors import UserError
from ablate.tasks.example import Example, Judged
from ablate.tasks.metrics import resampling

ROUGE = ("rouge1", "rouge2", "rougeLsum")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
RESAMPLES = 1000


def rouge(examples: Sequence[Example], outputs: Sequence[str]) -> Judged:
    """XSum: ROUGE-2, F of each output against its summary with Porter's stemmer, and the mean over items.

    ROUGE-1 and ROUGE-Lsum are beside it; for the latter sentences are put on lines of their own, as T5 does. Raises
    UserError where `rouge-score` is not installed.
    """
    version, scorer_module = extra("rouge_score", "rouge_scorer")
    scorer = scorer_module.RougeScorer(ROUGE, use_stemmer=True)
    scores = [
        scorer.score(_in_lines(one.accepted[0]), _in_lines(output))
        for one, output in zip(examples, outputs, strict=True)
    ]
    metrics = {name: 100 * float(np.mean([score[name].fmeasure for score in scores])) for name in ROUGE}
    items = [float(score["rouge2"].fmeasure) for score in scores]
    error = resampling.of_mean(items)
    ids = [example.id for example in examples]
    return Judged(
        metrics["rouge2"], metrics, ids, items, resampling.in_per_cent(error), f"rouge-score {version}, stemmed"
    )


def bleu(examples: Sequence[Example], outputs: Sequence[str]) -> Judged:
    """WMT: the BLEU of the whole set by sacrebleu, whose signature is the scorer; items have their sentence's BLEU.

    The standard error is that of sacrebleu's bootstrap. Raises UserError where `sacrebleu` is not installed.
    """
    _, sacrebleu = extra("sacrebleu")
    references = [one.accepted[0] for one in examples]
    metric = sacrebleu.metrics.BLEU()
    found = metric.corpus_score(list(outputs), [references])
    # sacrebleu puts the bootstrap into the signature; that of the score itself is the one by which others compare
    signature = str(metric.get_signature())
    error = _bootstrapped(sacrebleu, list(outputs), references) if len(references) > 1 else None
    sentence = sacrebleu.metrics.BLEU(effective_order=True)
    items = [
        sentence.sentence_score(output, [reference]).score / 100
        for output, reference in zip(outputs, references, strict=True)
    ]
    return Judged(
        float(found.score),
        {"bleu": float(found.score)},
        [one.id for one in examples],
        items,
        error,
        f"sacrebleu {signature}",
    )


def _bootstrapped(sacrebleu: ModuleType, outputs: list[str], references: list[str]) -> float:
    """The standard error that belongs to sacrebleu's interval, which holds 95 % of the resamples."""
    metric = sacrebleu.metrics.BLEU()
    interval: float = metric.corpus_score(outputs, [references], n_bootstrap=RESAMPLES)._ci
    return interval / 1.96


def _in_lines(text: str) -> str:
    return "\n".join(SENTENCE_END.split(text.strip()))


def extra(package: str, module: str = "") -> tuple[str, ModuleType]:
    """The version of a package of the extra, and the package or a module in it; UserError where it is not installed."""
    import importlib
    import importlib.metadata

    try:
        found = importlib.import_module(f"{package}.{module}" if module else package)
        return importlib.metadata.version(package), found
    except ImportError:
        raise UserError(f"{package.replace('_', '-')} is not installed; pip install 'ablate[downstream]'") from None
