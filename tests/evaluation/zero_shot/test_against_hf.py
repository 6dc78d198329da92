"""lm-eval's own `hf` model and ours, with the same weights: the same log-likelihoods, accuracies and texts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from ablate.config import build_model, compose
from ablate.data.prompt import Prompt
from ablate.evaluation.likelihood import Scorer
from ablate.evaluation.zero_shot import scoring
from ablate.evaluation.zero_shot.language_model import LanguageModel, plain
from ablate.evaluation.zero_shot.loading import Tasks
from ablate.evaluation.zero_shot.local_tasks import TASKS
from ablate.weights.form import LLAMA, T5
from tests.evaluation.zero_shot.made_up import VOCABULARY, rows, tokenizer, write
from tests.evaluation.zero_shot.side_by_side import assert_same
from tests.model.tiny import set_all

LENGTH = 40  # some inputs are longer, and lose their beginning in both
PAD, END = "<pad>", "<eos>"
LIKELIHOODS = [name for name in TASKS if name not in ("nq_open", "wikitext")]


def library_tokenizer(template):
    """Ours as `transformers` has it, with what it puts around a text."""
    fast = Tokenizer.from_str(tokenizer().content().decode())
    fast.post_processor = TemplateProcessing(single=template, special_tokens=[(PAD, 0), (END, 1)])
    return PreTrainedTokenizerFast(tokenizer_object=fast, bos_token=PAD, eos_token=END, pad_token=PAD)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    for task in TASKS:
        write(folder, task)
    return folder


@pytest.fixture(scope="module")
def of_llama():
    theirs = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, bos_token_id=0, eos_token_id=1, pad_token_id=0,
        )
    ).eval()  # fmt: skip
    set_all(theirs, (0.15,))
    ours = build_model(compose(LLAMA.overrides(theirs.config))).eval()
    LLAMA.load(ours, theirs.state_dict())
    hf = HFLM(
        pretrained=theirs, tokenizer=library_tokenizer(f"{PAD} $A"), backend="causal", device="cpu", batch_size=4,
        max_length=LENGTH, add_bos_token=True,
    )  # fmt: skip
    scorer = Scorer(ours, length=LENGTH, batch_tokens=300)
    return hf, LanguageModel(scorer, tokenizer(), lambda context: Prompt((0, *context)), end=1)


@pytest.fixture(scope="module")
def of_t5():
    theirs = T5ForConditionalGeneration(
        T5Config(
            vocab_size=VOCABULARY, d_model=32, d_kv=8, d_ff=40, num_layers=2, num_heads=4, decoder_start_token_id=0
        )
    ).eval()
    set_all(theirs, (0.15,))
    ours = build_model(compose(T5.overrides(theirs.config))).eval()
    T5.load(ours, theirs.state_dict())
    hf = HFLM(
        pretrained=theirs, tokenizer=library_tokenizer(f"$A {END}"), backend="seq2seq", device="cpu", batch_size=4,
        max_length=LENGTH,
    )  # fmt: skip
    return hf, LanguageModel(Scorer(ours, length=LENGTH, batch_tokens=300), tokenizer(), plain(0, 1), end=1)


@pytest.mark.parametrize("task", LIKELIHOODS)
def test_llama(task, data, of_llama):
    assert_same(task, data, *of_llama)


def test_a_whole_text(data, of_llama, monkeypatch):
    """Theirs would predict the start symbol that it puts before the text, from another one before that."""
    hf, ours = of_llama
    monkeypatch.setattr(hf, "add_bos_token", False)
    assert_same("wikitext", data, hf, ours)


@pytest.mark.parametrize("task", LIKELIHOODS)
def test_t5_in_the_plain_form(task, data, of_t5):
    assert_same(task, data, *of_t5)


@pytest.mark.parametrize("models", ["of_llama", "of_t5"])
def test_what_is_written(models, request):
    hf, ours = request.getfixturevalue(models)
    settings = {"until": [" cat", "\n"], "do_sample": False, "temperature": 0.0, "max_gen_toks": 12}
    contexts = ["the old cat", "green", "the bird sings on the tree and the old cat sleeps under the house", "and well"]
    asked = lambda: [Instance("generate_until", {}, (text, {**settings}), 0) for text in contexts]  # noqa: E731
    with torch.no_grad():
        mine, theirs = ours.generate_until(asked()), hf.generate_until(asked())
    if models == "of_t5":  # theirs may write as many tokens more as the input has
        theirs = [text[: len(own)] for text, own in zip(theirs, mine, strict=True)]
    assert mine == theirs and all(mine)


def test_an_empty_context(of_llama):
    hf, ours = of_llama
    asked = [Instance("loglikelihood", {}, ("", text), 0) for text in ("the cat", " sings", "x")]
    with torch.no_grad():
        expected, found = hf.loglikelihood(asked), ours.loglikelihood(asked)
    assert [one[0] for one in found] == pytest.approx([one[0] for one in expected], abs=1e-4)


def by_hand(task, row):
    """The context and the answers that lm-eval's task file makes of a row, and which is right."""
    if task == "piqa":
        return f"Question: {row['goal']}\nAnswer:", [row["sol1"], row["sol2"]], row["label"]
    choices = row["choices"]
    question = row["question_stem"] if task == "openbookqa" else f"Question: {row['question']}\nAnswer:"
    return question, choices["text"], choices["label"].index(row["answerKey"])


def rates_by_hand(theirs, context, answers):
    """log2 p of each answer, a byte, from the logits of one pass over each whole text."""
    found, before = [], tokenizer().encode([context])[0].tolist()
    for answer in answers:
        whole = tokenizer().encode([f"{context} {answer}"])[0].tolist()
        count = len(whole) - len(before)
        ids = torch.tensor([[0, *whole][-(LENGTH + 1) :]])
        with torch.no_grad():
            log_p = theirs(ids[:, :-1]).logits[0].double().log_softmax(-1)
        nats = log_p[-count:].gather(1, ids[0, -count:, None]).sum().item()
        found.append(nats / math.log(2) / len(answer.encode()))
    return found


@pytest.mark.parametrize("task", ["piqa", "arc_easy", "openbookqa"])
def test_bits_per_byte_and_margin_by_hand(task, of_llama, tmp_path):
    hf, ours = of_llama
    made = rows(task, 20)
    write(tmp_path, task, made)
    (loaded,) = Tasks(tmp_path, None, None).load(task)
    found = scoring.score(loaded, scoring.asked(loaded), ours)
    bits, margins = [], []
    for item, row in zip(found.items, made, strict=True):
        context, answers, right = by_hand(task, row)
        rates = rates_by_hand(hf.model, context, answers)
        bits.append(-rates[right])
        margins.append(rates[right] - max(rate for number, rate in enumerate(rates) if number != right))
        assert item.values[f"{task}_bits_per_byte"] == pytest.approx(bits[-1], abs=1e-5)
        assert item.values[f"{task}_margin"] == pytest.approx(margins[-1], abs=1e-5)
    for name, values in (("bits_per_byte", bits), ("margin", margins)):
        score = found.scores[f"{task}_{name}"]
        assert score.value == pytest.approx(np.mean(values), abs=1e-5)
        assert score.standard_error == pytest.approx(np.std(values, ddof=1) / math.sqrt(20), abs=1e-5)
