"""lm-eval's own `hf` model and ours with the same weights, over the first 200 items of each real task.

    ABLATE_TASKS=tasks pytest -rP -m slow tests/evaluation/zero_shot/test_real_tasks.py

ABLATE_TASKS names a folder with the tasks' files and, in stories260K/, the model of llama2.c with its tokenizer;
without it these tests are skipped. The T5 has random weights. Each test prints accuracies and the largest difference a
token.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from lm_eval.models.huggingface import HFLM
from tokenizers import Regex, normalizers
from tokenizers.processors import TemplateProcessing
from transformers import LlamaConfig, LlamaForCausalLM, LlamaTokenizerFast, T5Config, T5ForConditionalGeneration

from ablate.config import build_model, compose
from ablate.data.prompt import Prompt
from ablate.data.tokenizer_backends import SentencePiece
from ablate.evaluation.likelihood import Scorer
from ablate.evaluation.zero_shot.language_model import LanguageModel, plain
from ablate.evaluation.zero_shot.local_tasks import TASKS
from ablate.weights import llama2c
from ablate.weights.form import LLAMA, T5
from tests.evaluation.zero_shot.side_by_side import assert_same

VARIABLE = "ABLATE_TASKS"
FOLDER = Path(os.environ.get(VARIABLE, ""))
ITEMS, LENGTH, BATCH = 200, 512, 16
UNKNOWN, START, END = 0, 1, 2
MARK = "▁"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(
        VARIABLE not in os.environ, reason=f"{VARIABLE} names no folder with the tasks' files and stories260K/"
    ),
]


def tokenizers(tmp_path_factory, template):
    """The tokenizer of the folder, as `transformers` has it with what it puts around a text, and ours."""
    model = (FOLDER / "stories260K" / "tok512.model").read_bytes()
    folder = tmp_path_factory.mktemp("tokenizer")
    (folder / "tokenizer.model").write_bytes(model)
    theirs = LlamaTokenizerFast.from_pretrained(folder, pad_token="</s>")
    backend = theirs.backend_tokenizer
    backend.post_processor = TemplateProcessing(single=template, special_tokens=[("<s>", START), ("</s>", END)])
    # as SentencePiece has spaces: one of several, none at the ends, and a mark for each and before the text
    one, none = normalizers.Replace(Regex(" +"), " "), normalizers.Replace(Regex(r"\A | \z"), "")
    backend.normalizer = normalizers.Sequence([one, none, normalizers.Prepend(MARK), normalizers.Replace(" ", MARK)])
    backend.pre_tokenizer = None
    return theirs, SentencePiece(model)


@pytest.fixture(scope="module")
def of_llama(tmp_path_factory):
    config, state = llama2c.read(FOLDER / "stories260K" / "stories260K.bin")
    theirs = LlamaForCausalLM(LlamaConfig(**config)).eval()
    theirs.load_state_dict(state, strict=False)
    theirs.tie_weights()
    ours = build_model(compose(LLAMA.overrides(theirs.config))).eval()
    LLAMA.load(ours, theirs.state_dict())
    library, tokenizer = tokenizers(tmp_path_factory, "<s> $A")
    hf = HFLM(
        pretrained=theirs, tokenizer=library, backend="causal", device="cpu", batch_size=BATCH, max_length=LENGTH,
        add_bos_token=True,
    )  # fmt: skip
    scorer = Scorer(ours, length=LENGTH, batch_tokens=2048)
    return hf, LanguageModel(scorer, tokenizer, lambda context: Prompt((START, *context)), END)


@pytest.fixture(scope="module")
def of_t5(tmp_path_factory):
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=512, d_model=64, d_kv=8, d_ff=172, num_layers=4, num_heads=8, decoder_start_token_id=UNKNOWN,
        pad_token_id=UNKNOWN, eos_token_id=END,
    )  # fmt: skip
    theirs = T5ForConditionalGeneration(config).eval()
    ours = build_model(compose(T5.overrides(config))).eval()
    T5.load(ours, theirs.state_dict())
    library, tokenizer = tokenizers(tmp_path_factory, "$A </s>")
    hf = HFLM(
        pretrained=theirs, tokenizer=library, backend="seq2seq", device="cpu", batch_size=BATCH, max_length=LENGTH
    )
    scorer = Scorer(ours, length=LENGTH, batch_tokens=2048)
    return hf, LanguageModel(scorer, tokenizer, plain(UNKNOWN, END), END)


def assert_same_and_said(task, hf, ours):
    scores, largest = assert_same(task, FOLDER, hf, ours, ITEMS)
    values = ", ".join(f"{name} {score.value:.4g}" for name, score in scores.items())
    print(f"{task}: {next(iter(scores.values())).items} items, largest difference a token {largest:.1e}: {values}")


@pytest.mark.parametrize("task", [name for name in TASKS if name != "wikitext"])
def test_llama(task, of_llama):
    assert_same_and_said(task, *of_llama)


def test_whole_texts(of_llama, monkeypatch):
    """Theirs would predict the start symbol that it puts before the text, from another one before that."""
    monkeypatch.setattr(of_llama[0], "add_bos_token", False)
    assert_same_and_said("wikitext", *of_llama)


@pytest.mark.parametrize("task", [name for name in TASKS if name != "wikitext"])
def test_t5_in_the_plain_form(task, of_t5):
    assert_same_and_said(task, *of_t5)
