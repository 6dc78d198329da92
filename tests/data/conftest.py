"""Small texts, and the config of a corpus made of them."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from ablate.config import compose, merge

WORDS = (
    "the of and to in a is that for it as was with be by on not he his but at are this have from or had an "
    "they which one you were all her she there would their we him been has when who will no more if out so up "
    "said what its about than river mountain window engine paper winter music garden answer letter market "
    "silver island story harbour question"
).split()


def texts(count: int, seed: int = 0, words: int = 120) -> list[str]:
    """Documents of made-up sentences, all different."""
    rng = random.Random(seed)
    documents = []
    for number in range(count):
        sentences = []
        for _ in range(words // 12):
            sentence = " ".join(rng.choice(WORDS) for _ in range(12))
            sentences.append(sentence.capitalize() + ".")
        documents.append(f"Number {number}. " + " ".join(sentences))
    return documents


def write_jsonl(file: Path, documents: list[str]) -> Path:
    """One document a line."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps({"text": text, "url": "x"}) + "\n" for text in documents), encoding="utf-8")
    return file


@pytest.fixture
def config(tmp_path):
    """`config(file, *overrides)`: a config that reads local files into a corpus under the test's folder."""

    def make(files, *overrides):
        named = [str(file) for file in (files if isinstance(files, list) else [files])]
        local = [f"data.files={json.dumps(named)}"] if named else []
        usual = ["data=local", *local, f"paths.data={tmp_path / 'corpora'}", "shape.vocab_size=768"]
        return compose(merge(usual, list(overrides)))

    return make


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """A prepared corpus of 400 documents, and the overrides that describe it."""
    from ablate.data import build_corpus

    folder = tmp_path_factory.mktemp("shared")
    file = write_jsonl(folder / "text.jsonl", texts(400))
    overrides = ["data=local", f"data.files={file}", f"paths.data={folder}", "shape.vocab_size=768"]
    return build_corpus.prepare(compose(overrides)), overrides
