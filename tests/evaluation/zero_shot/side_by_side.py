"""Two language models of lm-eval are asked the same, and must answer the same."""

from __future__ import annotations

import pytest
import torch

from ablate.evaluation.zero_shot import scoring
from ablate.evaluation.zero_shot.loading import Tasks

TOLERANCE = 1e-4  # of a log-likelihood, a token


def assert_same(task, data, theirs, ours, limit=None):
    """Log-likelihoods to 1e-4 a token, and so every score; returns ours, and the largest difference a token.

    theirs, ours: instances of lm-eval's `LM`, ours with a tokenizer. limit: the first items of the task.
    """
    results, asked = [], []
    for model in (theirs, ours):
        (loaded,) = Tasks(data, None, None).load(task, limit)
        items = scoring.asked(loaded)
        with torch.no_grad():
            results.append(scoring.score(loaded, items, model))
        asked.append([request for item in items for request in (*item.requests, item.reference) if request])
    largest = 0.0
    for expected, found in zip(*asked, strict=True):
        if expected.request_type == "generate_until":
            continue
        (log_p, greedy), (own_log_p, own_greedy) = _answer(expected), _answer(found)
        tokens = max(len(ours.tokenizer.encode([found.args[-1]])[0]), 1)
        largest = max(largest, abs(log_p - own_log_p) / tokens)
        assert abs(log_p - own_log_p) <= TOLERANCE * tokens, found.args
        assert greedy == own_greedy, found.args
    assert results[0].scores.keys() == results[1].scores.keys()
    for name, score in results[0].scores.items():
        assert results[1].scores[name].value == pytest.approx(score.value, rel=1e-4, abs=1e-6), name
    return results[1].scores, largest


def _answer(request):
    """The log-likelihood, and whether it is greedy, which is not said of a whole text."""
    response = request.resps[0]
    return response if isinstance(response, tuple) else (response, None)
