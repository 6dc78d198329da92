"""An encoder-decoder that was trained on spans is asked as it was trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lm_eval.api.instance import Instance

from ablate.data import objective
from ablate.data.vocabulary import UNUSED
from ablate.evaluation.likelihood import Scorer
from ablate.evaluation.zero_shot.language_model import LanguageModel
from tests.evaluation.zero_shot.made_up import VOCABULARY, Corpus, config, model_of, tokenizer

LENGTH = 12
ONE_SPAN = [
    "topology=encoder_decoder",
    "objective=span_corruption",
    f"objective.length={LENGTH}",
    "objective.mean_span=4",
]
PAD, END = 0, 1
SENTINEL = VOCABULARY - UNUSED - 1  # <0>: the last of the sentinels, which are behind the ids of text
CONTEXT, ANSWER = "the old cat", " sings well"


@pytest.fixture(scope="module")
def spans():
    cfg = config(*ONE_SPAN)
    return cfg, objective.build(cfg, Corpus())


@pytest.fixture
def asked(spans):
    """`asked(context, answer)`: the log-likelihood, and the ids that encoder and decoder have read for it."""
    cfg, trained = spans
    model, read = model_of(cfg), []
    for name in ("encoder", "decoder"):
        tower = getattr(model.topology, name)
        tower.register_forward_pre_hook(lambda _, given, name=name: read.append((name, given[0].view.ids.tolist())))
    ours = LanguageModel(Scorer(model, length=LENGTH, batch_tokens=400), tokenizer(), trained.prompt, END)

    def ask(context, answer):
        read.clear()
        (found,) = ours.loglikelihood([Instance("loglikelihood", {}, (context, answer), 0)])
        return found[0], [*read], ours

    ask.model = model
    return ask


def ids(text):
    return tokenizer().encode([text])[0].tolist()


def test_the_prompt_is_that_of_training(spans):
    """A row of one span, which is at its end: the text before it, <0>, the end; and <0> before what was left out."""
    _, trained = spans
    layout = Corpus().layout
    assert (layout.pad_id, layout.eos_id, layout.sentinel(0)) == (PAD, END, SENTINEL)
    assert trained.lengths.spans == 1
    window = np.arange(10, 10 + trained.raw_length)[None]
    row = trained.apply(window, np.random.default_rng(0))
    context = row["encoder_ids"][0][:-2].tolist()
    left_out = window[0][len(context) :].tolist()
    prompt = trained.prompt(context)
    assert list(prompt.encoder) == row["encoder_ids"][0].tolist() == [*window[0][: len(context)], SENTINEL, END]
    assert [*prompt.decoder, *left_out] == row["decoder_ids"][0].tolist() and prompt.decoder == (PAD, SENTINEL)


def test_what_is_read(asked):
    found, read, _ = asked(CONTEXT, ANSWER)
    context, answer = ids(CONTEXT), ids(ANSWER)
    assert read == [("encoder", [[*context, SENTINEL, END]]), ("decoder", [[PAD, SENTINEL, *answer[:-1]]])]
    batch = {"encoder_ids": torch.tensor(read[0][1]), "decoder_ids": torch.tensor(read[1][1])}
    with torch.no_grad():
        log_p = asked.model.logits(batch)[0, 1:].double().log_softmax(-1)  # the sentinel predicts the first token
    assert found == pytest.approx(sum(log_p[at, token].item() for at, token in enumerate(answer)), abs=1e-4)


def test_an_empty_context(asked):
    _, read, _ = asked("", ANSWER)
    assert read[0] == ("encoder", [[SENTINEL, END]])


def test_a_long_context_loses_its_beginning_and_keeps_the_sentinel(asked):
    long = " ".join([CONTEXT] * 10)
    _, read, ours = asked(long, ANSWER)
    assert read[0] == ("encoder", [[*ids(long)[-(LENGTH - 2) :], SENTINEL, END]])
    assert ours.inputs.cut == 1


@pytest.mark.parametrize("more", [0, 1])
def test_a_long_answer_keeps_what_the_decoder_begins_with(more, asked):
    longest = LENGTH - 1  # the decoder reads the start, the sentinel and all of the answer but its last token
    answer = next(
        text for text in (" sings" + " well" * n + "." * m for n in range(12) for m in range(9))
        if len(ids(text)) == longest + more
    )  # fmt: skip
    _, read, ours = asked(CONTEXT, answer)
    decoders = [row for name, rows in read for row in rows if name == "decoder"]
    assert all(row[:2] == [PAD, SENTINEL] and len(row) <= LENGTH for row in decoders)
    assert len(decoders) == 1 + more and ours.inputs.cut == more  # two pieces where it is longer
    encoders = [row for name, rows in read for row in rows if name == "encoder"]
    assert all(SENTINEL in row and END in row for row in encoders)
