"""Tokenizers: lossless, deterministic, with the paper's ids, or loaded with their own."""

import hashlib
import re
import subprocess
import sys

import numpy as np
import pytest

from ablate.data.tokenizer import BPE, LONGEST_WORD, Loaded, Unigram
from ablate.data.vocabulary import Layout
from ablate.errors import UserError
from tests.data.conftest import texts

TRAINED = {"bpe": BPE, "unigram": Unigram}
ODD = "naïve <pad> <eos> <unk> </s>\r\n\t  日本語 😀\x00 \u2028 trailing  "


@pytest.fixture(scope="module", params=TRAINED)
def trained(request):
    recipe = TRAINED[request.param](768, 100, 10**6)
    return recipe.make(texts(300)), recipe.layout


def test_ids_of_the_paper():
    ids = BPE(32128, 100, 1).layout
    assert (ids.text_size, ids.pad_id, ids.eos_id) == (32000, 0, 1)
    assert [ids.sentinel(0), ids.sentinel(99), ids.mask_id] == [32099, 32000, 32099]
    assert list(ids.sentinels[:3]) == [32099, 32098, 32097] and len(ids.sentinels) == 100
    assert ids.dtype == np.uint16 and Layout(70_000, 69_000, 100, 0, 1).dtype == np.uint32
    with pytest.raises(IndexError):
        ids.sentinel(100)


def test_any_text_comes_back(trained):
    tokenizer, ids = trained
    for text in [*texts(20, seed=1), ODD]:
        (found,) = tokenizer.encode([text])
        assert tokenizer.decode(found) == text
        assert found.min() >= 3 and found.max() < tokenizer.size <= ids.text_size
        assert tokenizer.bytes_per_piece()[found].sum() == len(text.encode())


def test_what_is_no_piece_has_no_bytes(trained):
    assert list(trained[0].bytes_per_piece()[:2]) == [0, 0]


def test_ids_fall_with_frequency(trained):
    tokenizer, _ = trained
    counts = np.bincount(np.concatenate(tokenizer.encode(texts(300))), minlength=tokenizer.size)[3:]
    assert (np.diff(counts) <= 0).all()


PROGRAM = """
import hashlib, sys
from ablate.data.tokenizer import BPE, Unigram
from tests.data.conftest import texts
tokenizer = {"bpe": BPE, "unigram": Unigram}[sys.argv[1]](768, 100, 10**6).make(texts(300))
print(hashlib.sha256(tokenizer.content()).hexdigest())
"""


@pytest.mark.parametrize("kind", TRAINED)
@pytest.mark.parametrize("threads", [1, 2])
def test_another_process_trains_the_same(kind, threads):
    here = hashlib.sha256(TRAINED[kind](768, 100, 10**6).make(texts(300)).content()).hexdigest()
    environment = {"RAYON_NUM_THREADS": str(threads), "PYTHONHASHSEED": str(threads), "PATH": ""}
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM, kind], env=environment, capture_output=True, text=True, check=True
    )
    assert finished.stdout.strip() == here


def test_only_the_first_characters_are_read():
    def endless():
        yield from texts(50)
        raise AssertionError("read too far")

    BPE(768, 100, 1000).make(endless())


@pytest.mark.parametrize("kind", TRAINED)
def test_long_words_are_cut_to_train_and_that_is_noted(kind, monkeypatch):
    """Uncut, 200,000 letters in one word took 23 seconds: what BPE does grows with the square of a word's length."""
    sample, train = [], TRAINED[kind]._train
    monkeypatch.setattr(TRAINED[kind], "_train", lambda self, *given: (sample.extend(given[0]), train(self, *given))[1])
    letters = np.random.default_rng(0).integers(97, 123, 200_000).astype(np.uint8).tobytes().decode()
    given = [*texts(50), letters, "a" + " " * 300]
    made = TRAINED[kind](2048, 100, 10**6).make(given)
    assert "".join(sample) == "".join(given)
    assert max(len(word) for text in sample for word in re.findall(r"\S+|\s+", text)) == LONGEST_WORD == 256
    assert list(made.notes.values()) == [200_000 // 256 + 1]
    assert made.decode(made.encode([letters])[0]) == letters
    assert TRAINED[kind](768, 100, 10**6).make(texts(50)).notes == {}


def test_too_small_a_vocabulary():
    with pytest.raises(UserError, match="vocab_size=600 leaves 472 pieces .* at least 640"):
        _ = BPE(600, 100, 1).layout


@pytest.mark.parametrize("kind", TRAINED)
def test_a_trained_tokenizer_can_be_loaded(kind, tmp_path):
    made = TRAINED[kind](768, 100, 10**6).make(texts(300))
    file = tmp_path / made.file
    file.write_bytes(made.content())
    loaded = Loaded(str(file), 768, 100, None, None)
    again = loaded.make([])
    for one, other in zip(made.encode(texts(5)), again.encode(texts(5)), strict=True):
        assert (one == other).all()
    assert (again.bytes_per_piece() == made.bytes_per_piece()).all()
    assert (loaded.layout.pad_id, loaded.layout.eos_id) == (0, 1)
    assert loaded.layout.sentinel(0) == made.size + 99


def test_a_foreign_tokenizer_keeps_its_ids(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    foreign = Tokenizer(models.BPE())
    foreign.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, special_tokens=["<|endoftext|>"], show_progress=False
    )
    foreign.train_from_iterator(texts(50), trainer)
    foreign.enable_truncation(4)
    file = tmp_path / "tokenizer.json"
    foreign.save(str(file))
    foreign.no_truncation()
    text = texts(1)[0]
    loaded = Loaded(str(file), 512, 100, None, None)
    tokenizer, ids = loaded.make([]), loaded.layout
    size = foreign.get_vocab_size()
    assert list(tokenizer.encode([text])[0]) == foreign.encode(text).ids
    assert (ids.eos_id, ids.text_size, ids.pad_id, ids.sentinel(0)) == (0, size, size + 100, size + 99)
    assert 0 not in tokenizer.encode(["a <|endoftext|> b"])[0]
    assert tokenizer.bytes_per_piece()[tokenizer.encode([ODD])[0]].sum() == len(ODD.encode())
    assert Loaded(str(file), 600, 100, "Ġthe", None).layout.eos_id == foreign.token_to_id("Ġthe")
    with pytest.raises(
        UserError, match="tokenizer.eos=<|endoftxt|>: no such piece in .*; did you mean '<|endoftext|>'"
    ):
        _ = Loaded(str(file), 600, 100, "<|endoftxt|>", None).layout
    with pytest.raises(UserError, match=f"its {size} pieces with 100 sentinels need .*tokenizer.vocab_size is 448"):
        _ = Loaded(str(file), 448, 100, None, None).layout


@pytest.mark.parametrize("given", [("<eos>", None), (None, "<pad>")])
def test_a_sentencepiece_model_keeps_its_own_end_and_padding(given, tmp_path):
    made = Unigram(768, 100, 10**6).make(texts(300))
    file = tmp_path / made.file
    file.write_bytes(made.content())
    with pytest.raises(UserError, match="tokenizer.eos and tokenizer.pad: a SentencePiece model defines its own"):
        _ = Loaded(str(file), 768, 100, *given).layout


def test_a_text_that_is_too_poor_for_unigram_is_refused():
    with pytest.raises(UserError, match="tokenizer=unigram: cannot be trained on this text"):
        Unigram(768, 100, 10**6).make([])


@pytest.mark.parametrize(
    "content, reason",
    [
        (None, "no such file"),
        (b'{"model": 3}', "not a tokenizer.json"),
        (b"\x00\x01", "not a SentencePiece model"),
    ],
)
def test_a_file_that_is_not_a_tokenizer(tmp_path, content, reason):
    file = tmp_path / "tokenizer"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=f"tokenizer.file=.*: .*{reason}"):
        _ = Loaded(str(file), 1000, 100, None, None).layout


def test_no_file_named():
    with pytest.raises(UserError, match="tokenizer.file: name a"):
        Loaded(None, 1000, 100, None, None)
