"""Corpora on disk: the same for the same request, complete or absent, refused when changed."""

import fcntl
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from itertools import pairwise

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from ablate.data import build_corpus, file_hashes, shards
from ablate.data.corpus import Corpus
from ablate.data.corpus_request import corpus_request
from ablate.data.spool import Spool
from ablate.data.tokenizer_backends import HuggingFace
from ablate.errors import UserError
from ablate.run.files import sha256
from tests.data.conftest import texts, write_jsonl


@pytest.fixture
def file(tmp_path):
    return write_jsonl(tmp_path / "text.jsonl", texts(200))


def documents_of(made, part):
    """The texts of a part, by its tokens and offsets."""
    tokenizer = HuggingFace((made.folder / "tokenizer.json").read_text())
    reader = getattr(made, part)
    stream = reader.windows(np.array([0]), reader.n_tokens)[0]
    ends = np.load(made.folder / made.manifest[part]["offsets"]["file"])
    assert (stream[ends[1:] - 1] == made.eos_id).all() and (stream == made.eos_id).sum() == reader.n_documents
    return [tokenizer.decode(stream[start : end - 1]) for start, end in pairwise(ends)]


def test_every_document_is_on_one_side(config, tmp_path):
    documents = texts(200)
    file = write_jsonl(tmp_path / "text.jsonl", [*documents, *documents[:50], documents[3]])
    made = build_corpus.prepare(config(file, "data.validation_share=0.2"))
    train, validation = documents_of(made, "train"), documents_of(made, "validation")
    assert sorted(train + validation) == sorted(documents) and not set(train) & set(validation)
    assert 20 < len(validation) < 60 and made.manifest["duplicates"] == 51
    fields = made.describe()
    assert (fields["documents"], fields["validation_documents"]) == (len(train), len(validation))
    assert fields["tokens"] == made.train.n_tokens and fields["vocab_size"] == 768 and fields["python"] is None
    sizes = made.token_bytes[np.concatenate([made.train.windows(np.array([0]), made.train.n_tokens)[0]])]
    assert sizes.sum() == sum(len(text.encode()) for text in train) == made.manifest["train"]["bytes"]


def test_a_document_stays_on_its_side_when_others_come(config, tmp_path):
    few = build_corpus.prepare(config(write_jsonl(tmp_path / "few.jsonl", texts(100)), "data.validation_share=0.3"))
    more = build_corpus.prepare(config(write_jsonl(tmp_path / "more.jsonl", texts(200)), "data.validation_share=0.3"))
    assert set(documents_of(few, "validation")) <= set(documents_of(more, "validation"))


def test_the_tokenizer_sees_no_validation_text(config, tmp_path, monkeypatch):
    seen = []
    from ablate.data.tokenizer import BPE

    make = BPE.make
    monkeypatch.setattr(BPE, "make", lambda self, texts: make(self, [seen.append(text) or text for text in texts]))
    made = build_corpus.prepare(config(write_jsonl(tmp_path / "text.jsonl", texts(200))))
    assert set(seen) == set(documents_of(made, "train"))


def test_text_is_sampled_evenly_from_short_and_long_documents(tmp_path):
    """The beginning of a sample has its share of one long document and of the short ones behind it."""
    spool = Spool(tmp_path / "spool.txt")
    long = "\u00e9" * 600_000
    short = [f"{number} " + "b" * 500 for number in range(2400)]
    for text in (long, *short):
        spool.add(text.encode())
    spool.finish()
    drawn = list(spool.sample(1))
    assert drawn == list(spool.sample(1)) != list(spool.sample(2))
    whole = "".join(drawn)
    assert whole.count("\u00e9") == 600_000 and {text for text in drawn if "b" in text} == set(short)
    beginning = "".join(drawn)[:200_000].encode()
    assert len(beginning.decode().replace("\u00e9", "").encode()) / len(beginning) == pytest.approx(0.5, abs=0.15)
    odd = Spool(tmp_path / "odd.txt")
    odd.add(("x" + "\u00e9" * 20_000).encode())  # a cut falls into a character
    odd.finish()
    assert "".join(odd.sample(1)).count("\u00e9") == 19_998


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_the_tokenizer_is_trained_on_both_languages_of_a_mixture(config, tmp_path, kind):
    """Two languages one after the other, and a budget of characters that the first alone would use up."""
    one = texts(400)
    table = str.maketrans(
        "abcdefghijklmnopqrstuvwxyz",
        "\u0430\u0431\u0432\u0433\u0434\u0435\u0436\u0437\u0438\u0439\u043a\u043b\u043c\u043d\u043e\u043f\u0440\u0441\u0442\u0443\u0444\u0445\u0446\u0447\u0448\u0449",
    )
    other = [text.lower().translate(table) for text in texts(400, seed=1)]
    files = [write_jsonl(tmp_path / "one.jsonl", one), write_jsonl(tmp_path / "two.jsonl", other)]
    made = build_corpus.prepare(config(files, f"tokenizer={kind}", "tokenizer.characters=100000"))
    pieces = [made.tokenizer.decode([index]) for index in range(made.tokenizer.size)]
    of_second = [piece for piece in pieces if len([c for c in piece if "\u0430" <= c <= "\u044f"]) > 1]
    of_first = [piece for piece in pieces if len([c for c in piece if "a" <= c <= "z"]) > 1]
    assert min(len(of_first), len(of_second)) > 60
    again = build_corpus.prepare(
        config(files, f"tokenizer={kind}", "tokenizer.characters=100000", "seed=5", "data.name=b")
    )
    assert again.sha256 == made.sha256


def test_asking_again_does_nothing(config, file, monkeypatch):
    cfg = config(file)
    assert not corpus_request(cfg).folder.exists()
    lines = []
    made = build_corpus.prepare(cfg, lines.append)
    assert any("documents" in line for line in lines)
    monkeypatch.setattr(build_corpus, "build", None)
    assert build_corpus.prepare(cfg).sha256 == Corpus(corpus_request(cfg).folder).sha256 == made.sha256
    assert not [name for name in os.listdir(made.folder.parent) if "tmp" in name]
    assert sorted(os.listdir(made.folder)) == [
        "manifest.json", "token_bytes.npy", "token_counts.npy", "tokenizer.json", "train-00000.bin",
        "train-offsets.npy", "validation-00000.bin", "validation-offsets.npy",
    ]  # fmt: skip


def test_the_same_text_has_the_same_hash_in_any_folder(config, file, tmp_path):
    one = build_corpus.prepare(config(file))
    other = build_corpus.prepare(config(write_jsonl(tmp_path / "elsewhere" / "other.jsonl", texts(200))))
    assert one.sha256 == other.sha256 and one.folder != other.folder
    changed = build_corpus.prepare(config(write_jsonl(tmp_path / "changed.jsonl", texts(201))))
    assert changed.sha256 != one.sha256


def test_the_request_determines_the_folder(config, file):
    requests = [
        [],
        ["data.validation_share=0.1"],
        ["shape.vocab_size=800"],
        ["tokenizer.sentinels=50"],
        ["data.on_error=skip"],
    ]
    requests += [["tokenizer=unigram"], ["data.name=mine"]]
    folders = {corpus_request(config(file, *overrides)).folder for overrides in requests}
    assert len(folders) == len(requests)
    without_effect = ["data.document_mask=true", "seed=3", "objective.length=32", "shape.steps=10"]
    assert corpus_request(config(file, *without_effect)).folder == corpus_request(config(file)).folder
    os.utime(file, (1, 1))
    assert corpus_request(config(file)).folder in folders  # a file is known by its content
    write_jsonl(file, texts(201))
    assert corpus_request(config(file)).folder not in folders


def test_unigram_and_a_tokenizer_from_a_file(config, file, tmp_path):
    one = build_corpus.prepare(config(file, "tokenizer=unigram"))
    model = one.folder / "tokenizer.model"
    other = build_corpus.prepare(config(file, "tokenizer=file", f"tokenizer.file={model}"))
    assert other.sha256 == one.sha256 or other.layout.text_size != one.layout.text_size
    assert (other.train.windows(np.arange(5), 64) == one.train.windows(np.arange(5), 64)).all()
    assert corpus_request(config(file, "tokenizer=file", f"tokenizer.file={model}")).fingerprint["tokenizer"][
        "file"
    ] == (hashlib.sha256(model.read_bytes()).hexdigest())


@pytest.mark.parametrize("overrides", [[], ["tokenizer=unigram"]])
def test_a_corpus_opens_its_tokenizer_again(config, file, overrides):
    made = build_corpus.prepare(config(file, *overrides))
    text = "The river has a silver window."
    assert made.tokenizer.decode(made.tokenizer.encode([text])[0]) == text
    assert made.tokenizer.size <= made.vocab_size


def whole_bits_per_byte(cfg, made):
    """The bytes that an evaluation of all of the held-out text counts, and the bytes of that text."""
    from ablate.data.batches import Batches

    there = Batches(cfg, made)
    counted = sum(made.token_bytes[batch["targets"].numpy()].sum() for batch in there.evaluation(10**8, 1))
    length = there.objective.raw_length
    used = made.validation.n_windows(length) * length / made.validation.n_tokens
    return counted / used, made.manifest["validation"]["bytes"]


def words_alone():
    """Spaces are no pieces here."""
    words = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    words.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    special = ["[UNK]", "</s>"]
    words.train_from_iterator(texts(5), trainers.WordLevelTrainer(special_tokens=special, show_progress=False))
    return "words.json", words.to_str().encode()


def with_dummy_prefix():
    """A SentencePiece model as it is by default: a space in front, NFKC, unknown characters."""
    import sentencepiece

    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts(50)), model_writer=written, vocab_size=150, minloglevel=2
    )
    return "usual.model", written.getvalue()


@pytest.mark.parametrize("make", [None, words_alone, with_dummy_prefix])
def test_bytes_are_those_of_the_text(config, tmp_path, make):
    """Of short documents with ligatures, capitals and characters that the tokenizer does not know."""
    documents = [f"{text[:20]} {number} \ufb01x \u65e5\u672c" for number, text in enumerate(texts(3000, words=12))]
    file = write_jsonl(tmp_path / "short.jsonl", documents)
    given = ["topology=causal_decoder", "shape.length=16", "shape.batch_tokens=512", "data.validation_share=0.3"]
    if make:
        name, content = make()
        (tmp_path / name).write_bytes(content)
        given += ["tokenizer=file", f"tokenizer.file={tmp_path / name}"]
    cfg = config(file, *given)
    made = build_corpus.prepare(cfg)
    counted, true = whole_bits_per_byte(cfg, made)
    assert counted == pytest.approx(true, rel=1e-3)
    assert made.token_bytes[[made.eos_id, made.pad_id]].sum() == 0
    if not make:  # each piece is the text that it represents
        assert (made.token_bytes == made.token_bytes.round()).all()
    unknown = made.manifest["problems"]["noted"].get("text that the tokenizer does not know", 0)
    assert (unknown > 2000) == bool(make)


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_a_mark_that_is_read_as_a_space_is_counted(config, tmp_path, kind):
    documents = [*texts(200), *(f"a\u2581b\u2581 {number}" for number in range(50))]
    made = build_corpus.prepare(config(write_jsonl(tmp_path / "text.jsonl", documents), f"tokenizer={kind}"))
    noted = made.manifest["problems"]["noted"]
    assert noted == ({"U+2581, read as a space by the tokenizer": 100} if kind == "unigram" else {})
    text = made.tokenizer.decode(made.tokenizer.encode(["a\u2581b"])[0])
    assert text == ("a b" if kind == "unigram" else "a\u2581b")


def test_ids_of_text_are_those_that_the_train_part_has(config, file):
    made = build_corpus.prepare(config(file, "tokenizer=unigram"))
    stream = made.train.windows(np.array([0]), made.train.n_tokens)[0]
    assert made.text_ids.tolist() == sorted(set(stream.tolist()) - {made.eos_id})
    assert len(made.text_ids) < made.layout.text_size - 200  # bytes that do not occur


def test_a_tokenizer_that_does_not_fit_is_refused_before_any_reading(config, file, tmp_path, monkeypatch):
    made = build_corpus.prepare(config(file))
    monkeypatch.setattr(build_corpus, "_divide", None)
    shutil.copy(made.folder / "tokenizer.json", tmp_path)
    with pytest.raises(UserError, match="need 740 ids and tokenizer.vocab_size is 704"):
        build_corpus.prepare(
            config(file, "tokenizer=file", f"tokenizer.file={tmp_path}/tokenizer.json", "shape.vocab_size=704")
        )


@pytest.mark.parametrize(
    "name",
    [
        "train-00000.bin",
        "validation-00000.bin",
        "train-offsets.npy",
        "token_bytes.npy",
        "token_counts.npy",
        "tokenizer.json",
    ],
)
def test_a_changed_file_is_refused(config, file, name):
    cfg = config(file)
    changed = build_corpus.prepare(cfg).folder / name
    with open(changed, "ab") as opened:
        opened.write(b"x")
    with pytest.raises(UserError, match=f"{name}: changed after it was prepared"):
        build_corpus.prepare(cfg)
    changed.unlink()
    with pytest.raises(UserError, match=f"{name}: is missing"):
        build_corpus.prepare(cfg)


def test_a_flipped_bit_is_found_by_the_next_process(config, file):
    shard = build_corpus.prepare(config(file)).folder / "train-00000.bin"
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)
    shards._verified.clear()
    with pytest.raises(UserError, match="changed after it was prepared"):
        build_corpus.prepare(config(file))


def test_large_files_are_hashed_once(config, file, monkeypatch):
    monkeypatch.setattr(shards, "LARGE", 1)
    monkeypatch.setattr(file_hashes, "SETTLED", 0)
    made = build_corpus.prepare(config(file))
    hashed = []
    monkeypatch.setattr(file_hashes, "sha256", lambda path: hashed.append(os.path.basename(path)) or sha256(path))
    shards._verified.clear()
    Corpus(made.folder)
    assert not hashed
    os.utime(made.folder / "train-00000.bin", (1, 1))
    Corpus(made.folder)
    assert hashed == ["train-00000.bin"]


def test_a_manifest_that_cannot_be_read(config, file):
    made = build_corpus.prepare(config(file))
    (made.folder / "manifest.json").write_text("{")
    with pytest.raises(UserError, match="manifest.json: cannot be read"):
        build_corpus.prepare(config(file))
    (made.folder / "manifest.json").unlink()
    with pytest.raises(UserError, match="has no manifest.json"):
        build_corpus.prepare(config(file))


def test_shards_end_with_a_document(config, file, monkeypatch):
    whole = build_corpus.prepare(config(file))
    monkeypatch.setattr(build_corpus, "Writer", lambda *arguments: shards.Writer(*arguments, shard_tokens=3000))
    cut = build_corpus.prepare(config(file, "data.name=cut"))
    files = cut.manifest["train"]["shards"]
    assert len(files) > 3 and cut.train.n_tokens == whole.train.n_tokens
    streams = [np.fromfile(cut.folder / shard["file"], np.uint16) for shard in files]
    assert all(stream[-1] == cut.eos_id and len(stream) >= 3000 for stream in streams[:-1])
    expected = np.concatenate([stream[: len(stream) // 50 * 50].reshape(-1, 50) for stream in streams])
    assert cut.train.n_windows(50) == len(expected)
    some = np.array([len(expected) - 1, 0, 61, 60, 59, 5, 5])
    assert (cut.train.windows(some, 50) == expected[some]).all()


def test_large_vocabularies_take_four_bytes(config, file):
    made = build_corpus.prepare(config(file, "shape.vocab_size=70000"))
    assert made.train.windows(np.arange(2), 10).dtype == np.uint32
    assert made.sentinel(0) == 70000 - 29


def test_skipped_documents_are_counted_in_the_manifest(config, tmp_path):
    file = write_jsonl(tmp_path / "text.jsonl", texts(200))
    with open(file, "a") as opened:
        opened.write('{"text": null}\n{"text": ""}\nbroken\n')
    with pytest.raises(UserError, match="text.jsonl:201: no text"):
        build_corpus.prepare(config(file))
    assert not [name for name in os.listdir(tmp_path / "corpora") if name.startswith("local")]
    lines = []
    made = build_corpus.prepare(config(file, "data.on_error=skip"), lines.append)
    problems = made.manifest["problems"]
    assert problems["skipped"] == {"broken JSON": 1, "empty document": 1, "no text": 1}
    assert [line.split(": ")[0] for line in problems["examples"]] == [f"{file}:{line}" for line in (201, 202, 203)]
    assert made.describe()["skipped"] == 3 and "skipped: 1 broken JSON" in lines[-1]
    found = build_corpus.check(config(file))
    assert found.skipped == made.manifest["problems"]["skipped"] and len(found.examples) == 3


@pytest.mark.parametrize(
    "documents, overrides, reason",
    [
        ([], [], "empty file"),
        ([""], ["data.on_error=skip"], "no usable document; 1 were skipped, first .*: empty document"),
        (["one"], [], "none of the 1 documents fell into the validation part"),
        (["one"], ["data.validation_share=1.0"], "validation_share=1.0: must be above 0 and below 1"),
        (["one"], ["data.name=../outside"], "data.name='../outside'"),
    ],
)
def test_what_makes_no_corpus(config, tmp_path, documents, overrides, reason):
    with pytest.raises(UserError, match=reason):
        build_corpus.prepare(config(write_jsonl(tmp_path / "text.jsonl", documents), *overrides))


def test_others_wait_for_the_one_that_prepares(config, file):
    cfg = config(file)
    folder = corpus_request(cfg).folder
    folder.parent.mkdir(exist_ok=True)
    lines, made = [], []
    with open(folder.parent / f".{folder.name}.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = threading.Thread(target=lambda: made.append(build_corpus.prepare(cfg, lines.append)))
        waiting.start()
        while not lines:
            time.sleep(0.01)
        assert "another process prepares it" in lines[0] and not folder.exists()
        fcntl.flock(lock, fcntl.LOCK_UN)
    waiting.join()
    assert made[0].train.n_tokens


PREPARE = """
import os, signal, sys
from ablate.config import compose
from ablate.data import build_corpus
fault = sys.argv[1]
if fault != "none":
    place = getattr(build_corpus, fault)
    def deadly(*arguments):
        place(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(build_corpus, fault, deadly)
print(build_corpus.prepare(compose(sys.argv[2:])).sha256)
"""


@pytest.mark.timeout(120)
@pytest.mark.parametrize("fault", ["entry", "write_manifest"])
def test_a_kill_leaves_nothing_that_is_taken_for_whole(config, file, tmp_path, fault):
    overrides = ["data=local", f"data.files={file}", f"paths.data={tmp_path / 'corpora'}", "shape.vocab_size=768"]
    killed = subprocess.run([sys.executable, "-c", PREPARE, fault, *overrides], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not corpus_request(config(file)).folder.exists()
    left = [name for name in os.listdir(tmp_path / "corpora") if build_corpus.PARTIAL in name]
    assert left
    made = build_corpus.prepare(config(file))
    assert not [name for name in os.listdir(tmp_path / "corpora") if build_corpus.PARTIAL in name]
    assert made.sha256 == json.loads((made.folder / "manifest.json").read_text())["sha256"]


@pytest.mark.timeout(120)
def test_processes_at_once_make_one_corpus(config, file, tmp_path):
    overrides = ["data=local", f"data.files={file}", f"paths.data={tmp_path / 'corpora'}", "shape.vocab_size=768"]
    started = [
        subprocess.Popen([sys.executable, "-c", PREPARE, "none", *overrides], stdout=subprocess.PIPE) for _ in range(2)
    ]
    hashes = {process.communicate()[0] for process in started}
    assert len(hashes) == 1 and hashes == {f"{Corpus(corpus_request(config(file)).folder).sha256}\n".encode()}


def test_opening_a_corpus_is_quick_and_imports_no_reader(shared):
    _, overrides = shared
    program = (
        "import sys\nfrom ablate.config import compose\nfrom ablate.data.corpus import Corpus\n"
        "from ablate.data.corpus_request import corpus_request\n"
        "assert Corpus(corpus_request(compose(sys.argv[1:])).folder).train.n_tokens\n"
        "assert not {'torch', 'lightning', 'datasets', 'tokenizers', 'sentencepiece'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, *overrides], check=True)
