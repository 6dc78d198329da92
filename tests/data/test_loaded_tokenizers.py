"""Tokenizers from files: special pieces that a text spells stay text, and one text always gives the same ids."""

import io
import json
import os

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from ablate.data import build_corpus
from ablate.data.tokenizer import Loaded
from ablate.data.tokenizer_backends import HuggingFace, load
from ablate.errors import UserError
from tests.data.conftest import texts, write_jsonl

SPELLED = "A </s> and <pad> and <unk>, <extra_id_0></s></s> or [SEP][PAD] and x</s>y <0x41> end"


def t5():
    """As `transformers` writes it for T5: the vocabulary of the model holds the special pieces and the sentinels."""
    special = ["<pad>", "</s>", "<unk>", "<extra_id_1>", "<extra_id_0>"]
    letters = sorted({letter for letter in SPELLED if letter != " "} | set("bcdefghijklmnopqrstuvw0123456789.A"))
    vocabulary = [(piece, 0.0) for piece in special[:3]] + [("\u2581", -2.0), ("\u2581and", -3.0), ("the", -3.5)]
    vocabulary += [(letter, -5.0) for letter in letters] + [(piece, 0.0) for piece in special[3:]]
    made = Tokenizer(models.Unigram(vocabulary, unk_id=2, byte_fallback=False))
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    made.post_processor = processors.TemplateProcessing(single=["$A", "</s>"], special_tokens=[("</s>", 1)])
    made.add_special_tokens([AddedToken(piece, normalized=False) for piece in special])
    return made


def word_piece():
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    made.train_from_iterator(
        [*texts(50), " ".join(SPELLED)], trainers.WordPieceTrainer(special_tokens=special, vocab_size=600)
    )
    return made


def bpe(**model):
    """Byte-level; with `ignore_merges` a whole word is looked up in the vocabulary, as for Llama 3."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, special_tokens=["<pad>", "</s>"])
    made.train_from_iterator(texts(50), trainer)
    described = json.loads(made.to_str())
    described["model"] |= model
    return Tokenizer.from_str(json.dumps(described))


def llama():
    """A byte-level BPE that keeps spaces, whose end is a product of merges and not marked as special."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    made.train_from_iterator(["</s> </s> <pad> <pad>"] * 50 + texts(50), trainer)
    made.add_tokens([AddedToken("</s>")])
    return made


def loaded(tmp_path, made, **ends):
    file = tmp_path / "tokenizer.json"
    made.save(str(file))
    return Loaded(str(file), 2048, 100, ends.get("eos"), ends.get("pad"))


@pytest.mark.parametrize("make", [t5, word_piece, bpe, lambda: bpe(ignore_merges=True), llama])
def test_special_pieces_that_a_text_spells_are_text(tmp_path, make):
    recipe = loaded(tmp_path, make())
    tokenizer, ids = recipe.make([]), recipe.layout
    documents = ["A </s>", SPELLED, "</s>", "\uff1c/s\uff1e", "<pad>", "[SEP] [PAD]", "<</s>>"]
    found = np.concatenate(tokenizer.encode(documents))
    assert not np.isin(found, [ids.eos_id, ids.pad_id, *ids.sentinels]).any()
    special = {tokenizer.pieces[piece] for piece in ("<extra_id_0>", "[CLS]", "[SEP]") if piece in tokenizer.pieces}
    assert not special & set(found.tolist())
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / tokenizer.file).write_bytes(tokenizer.content())
    again = load(tmp_path / "kept" / tokenizer.file)  # as a prepared corpus opens it
    assert all(
        (one == other).all() for one, other in zip(tokenizer.encode(documents), again.encode(documents), strict=True)
    )


def test_such_text_comes_back(tmp_path):
    assert llama().encode("a </s>").ids[-1] == llama().token_to_id("</s>")  # the fault
    for made, text in [(llama(), SPELLED), (t5(), SPELLED.replace("<unk>", "<u>"))]:
        tokenizer = loaded(tmp_path, made).make([])
        assert tokenizer.decode(tokenizer.encode([text])[0]) == text
        assert tokenizer.unknown_id not in tokenizer.encode([text])[0]


def test_bytes_that_a_text_spells_are_text(tmp_path):
    vocabulary = [("<unk>", 0.0), ("</s>", 0.0), *((f"<0x{n:02X}>", -9.0) for n in range(256))]
    vocabulary += [(letter, -5.0) for letter in "<>0x41 ab"]
    made = Tokenizer(models.Unigram(vocabulary, unk_id=0, byte_fallback=True))
    made.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    tokenizer = loaded(tmp_path, made).make([])
    for text in ("a <0x41> b", "\u00e9 </s>"):
        assert tokenizer.decode(tokenizer.encode([text])[0]) == text


def test_a_text_of_a_single_special_character_is_refused(tmp_path):
    made = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "b": 2}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = loaded(tmp_path, made, eos="a").make([])
    assert tokenizer.encode(["b c"])[0].tolist() == [2, 0]
    with pytest.raises(UserError, match="reads text as its special piece 'a'; take .* tokenizer.eos"):
        tokenizer.encode(["b a"])


@pytest.mark.parametrize("user_defined", [[], ["</s>", "<sep>"]])
def test_control_symbols_of_sentencepiece_are_text_in_a_text(tmp_path, user_defined):
    import sentencepiece

    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*texts(50), "< / > sep"]), model_writer=written, vocab_size=200, minloglevel=2,
        pad_id=3, control_symbols=["<cls>"], user_defined_symbols=user_defined, hard_vocab_limit=False,
        character_coverage=1.0,
    )  # fmt: skip
    file = tmp_path / "tokenizer.model"
    file.write_bytes(written.getvalue())
    recipe = Loaded(str(file), 2048, 100, None, None)
    tokenizer, ids = recipe.make([]), recipe.layout
    (found,) = tokenizer.encode(["a </s> and <pad> or <sep>"])
    assert not {ids.eos_id, ids.pad_id} & set(found.tolist())
    assert "</s> and <pad>" in tokenizer.decode(found)


def test_what_samples_shortens_or_adds_is_switched_off_and_said(config, tmp_path):
    made = bpe(dropout=0.5)
    made.enable_truncation(4)
    made.enable_padding(length=64)
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    made.save(str(tmp_path / "tokenizer.json"))
    file = write_jsonl(tmp_path / "text.jsonl", texts(100))
    given = ["tokenizer=file", f"tokenizer.file={tmp_path / 'tokenizer.json'}"]
    lines = []
    one, two = (build_corpus.prepare(config(file, *given, f"data.name={name}"), lines.append) for name in ("a", "b"))
    assert one.sha256 == two.sha256
    names = ["dropout", "padding", "post-processor", "truncation"]
    assert list(one.manifest["problems"]["noted"]) == [f"{name} of the tokenizer, switched off" for name in names]
    assert any("dropout of the tokenizer, switched off" in line for line in lines)
    without = bpe()
    text = texts(1, seed=9)[0]
    assert one.tokenizer.encode([text])[0].tolist() == without.encode(text).ids


@pytest.mark.parametrize("make", [t5, word_piece])
def test_an_unknown_piece_counts_as_a_byte_and_a_special_one_as_none(tmp_path, make):
    tokenizer = loaded(tmp_path, make()).make([])
    sizes = tokenizer.bytes_per_piece()
    assert sizes[tokenizer.unknown_id] == 1
    special = [tokenizer.pieces[piece] for piece in ("</s>", "<pad>", "[SEP]", "[PAD]") if piece in tokenizer.pieces]
    assert len(special) == 2 and not sizes[special].any()
    words = dict(zip(tokenizer.pieces, sizes[[*tokenizer.pieces.values()]], strict=True))
    assert words["the"] == 3


def test_a_tokenizer_encodes_the_whole_text_and_nothing_else_whatever_its_file_says():
    made = t5()
    plain = made.encode("and and and", add_special_tokens=False).ids
    made.enable_truncation(2)
    made.enable_padding(length=9)
    assert HuggingFace(made.to_str()).encode(["and and and"])[0].tolist() == plain


@pytest.mark.parametrize("end", ["</s>", "<pad>"])
def test_unknown_text_that_gets_the_id_of_an_end_or_of_padding_is_refused(tmp_path, config, end):
    """As a conversion for T5 writes it of a model whose unknown piece has another id than T5's."""
    described = json.loads(t5().to_str())
    described["model"]["unk_id"] = next(token["id"] for token in described["added_tokens"] if token["content"] == end)
    (tmp_path / "tokenizer.json").write_text(json.dumps(described))
    file = write_jsonl(tmp_path / "a.jsonl", texts(40))
    asked = config(file, "tokenizer=file", f"tokenizer.file={tmp_path}/tokenizer.json", "data.validation_share=0.2")
    with pytest.raises(UserError, match="gives text that it does not know the id"):
        build_corpus.prepare(asked)


def test_a_tokenizer_that_is_opened_sets_the_number_of_its_threads(tmp_path, monkeypatch):
    """Before its library reads it, at the first use."""
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("RAYON_NUM_THREADS", raising=False)
    bpe().save(str(tmp_path / "tokenizer.json"))
    load(tmp_path / "tokenizer.json")
    assert os.environ["RAYON_NUM_THREADS"] == "3"
