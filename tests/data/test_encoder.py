"""A long document is encoded in pieces, without another result where that can be, and said."""

import numpy as np
import pytest

from ablate.data import encoder
from ablate.data.data_faults import DataFaults
from ablate.data.encoder import Encoder, pieces
from ablate.data.shards import Writer
from ablate.data.spool import Spool
from ablate.data.ticker import Ticker
from ablate.data.tokenizer import BPE
from ablate.data.unfinished import Journal

WORDS = "a few  words of\ntext, \t and a\n\n  longer one: incomprehensibilities"


@pytest.mark.parametrize("longest", [1, 5, 12, len(WORDS) - 1, len(WORDS)])
def test_pieces_are_the_text_and_begin_at_spaces(longest):
    found = list(pieces(WORDS, longest))
    assert "".join(found) == WORDS and max(map(len, found)) <= longest and all(found)
    if longest > len("incomprehensibilities"):
        assert all(piece[0] == " " for piece in found[1:]) and not any(piece[-1].isspace() for piece in found[:-1])


def test_ids_are_those_of_the_whole_and_it_is_said(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    document = " ".join("".join(chr(97 + c) for c in rng.integers(0, 26, n)) for n in rng.integers(1, 9, 3000))
    bpe = BPE(vocab_size=700, sentinels=20, characters=10**6)
    tokenizer = bpe.make([document])

    def written(name, texts):
        faults = DataFaults("fail")
        spool = Spool(tmp_path / f"{name}.txt")
        for text in texts:
            spool.add(text.encode())
        spool.finish()
        (tmp_path / name).mkdir()
        made = Encoder(tokenizer, bpe.layout, ("train",), faults, Ticker(lambda line: None, "test"))
        writer = Writer(tmp_path / name, "train", bpe.layout.dtype)
        entry = made.write(spool, writer, Journal(tmp_path / f"{name}.jsonl"))
        return np.fromfile(tmp_path / name / entry["shards"][0]["file"], bpe.layout.dtype), faults.as_dict()["noted"]

    whole, said = written("whole", ["short", document])
    assert said == {}
    monkeypatch.setattr(encoder, "LONGEST", 1000)
    monkeypatch.setattr(pieces, "__defaults__", (1000,))
    in_pieces, said = written("pieces", ["short", document])
    assert (in_pieces == whole).all()
    assert set(written("twice", ["short", document, document])[1].values()) == {2}
    assert said == {"document of more than 1,000 characters, encoded in pieces": 1}
