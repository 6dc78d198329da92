"""Preparing a corpus goes on where it was interrupted, loses and doubles no document, and ends with the same bytes."""

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from ablate.data import build_corpus, encoder, shards
from ablate.data.corpus_request import corpus_request
from ablate.data.shards import Writer
from ablate.data.spool import Spool
from ablate.data.tokenizer_backends import HuggingFace, SentencePiece
from ablate.data.unfinished import Journal, Unfinished
from ablate.termination import Terminated
from tests.data.conftest import texts, write_jsonl

pytestmark = pytest.mark.timeout(120)
BLOCK, SHARD = 3000, 1500  # bytes of text, tokens

PREPARE = f"""
import os, signal, sys, time
from ablate.config import compose
from ablate.data import build_corpus, encoder, shards
encoder.BLOCK = {BLOCK}
writer = build_corpus.Writer
build_corpus.Writer = lambda *arguments: writer(*arguments, shard_tokens={SHARD})
name, after = sys.argv[1], int(sys.argv[2])
place = {{"add": shards.Writer, "finish": build_corpus.Unfinished}}.get(name, build_corpus)
if name == "slow":
    encode = encoder.Encoder._encode
    encoder.Encoder._encode = lambda *arguments: time.sleep(0.05) or encode(*arguments)
else:
    function, calls = getattr(place, name), []
    def deadly(*arguments):
        function(*arguments)
        calls.append(arguments)
        if len(calls) == after:
            os.kill(os.getpid(), signal.SIGKILL)
    setattr(place, name, deadly)
build_corpus.prepare(compose(sys.argv[3:]), lambda line: print(line, flush=True))
"""


@pytest.fixture
def small(monkeypatch):
    """Blocks and shards of a few documents."""
    monkeypatch.setattr(encoder, "BLOCK", BLOCK)
    monkeypatch.setattr(build_corpus, "Writer", lambda *arguments: Writer(*arguments, shard_tokens=SHARD))


@pytest.fixture
def asked(tmp_path):
    """Overrides of a corpus in a folder of its own, with faults and oddities that the manifest counts."""
    documents = texts(60)
    documents[7] += " \u2581 marked"
    file = write_jsonl(tmp_path / "text.jsonl", [*documents, *documents[:5]])
    with open(file, "a") as opened:
        opened.write('{"text": null}\n\n{"text": ""}\n')

    def make(place, tokenizer="unigram"):
        return ["data=local", f"data.files={file}", f"paths.data={tmp_path / place}", "shape.vocab_size=700",
                f"tokenizer={tokenizer}", "data.on_error=skip", "data.validation_share=0.2"]  # fmt: skip

    return make


def content(corpus):
    """Every file of a corpus by its name."""
    return {path.name: path.read_bytes() for path in corpus.folder.iterdir()}


def prepared(overrides, progress=lambda line: None):
    from ablate.config import compose

    return build_corpus.prepare(compose(overrides), progress)


@pytest.mark.parametrize("cores", ["1", "3"])
@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_the_tokens_are_those_of_each_document_by_itself(asked, small, monkeypatch, kind, cores):
    monkeypatch.setenv("RAYON_NUM_THREADS", cores)
    made = prepared(asked("here", kind))
    assert len(made.manifest["train"]["shards"]) > 3
    stream = np.concatenate([np.fromfile(file, np.uint16) for file in shards.shard_files(made.folder, "train")])
    ends = np.flatnonzero(stream == made.eos_id)
    distinct = [text if number != 7 else f"{text} \u2581 marked" for number, text in enumerate(texts(60))]
    by_text = {made.tokenizer.encode([text])[0].astype(np.uint16).tobytes(): text for text in distinct}
    found = [by_text[stream[a + 1 : b].tobytes()] for a, b in zip([-1, *ends[:-1]], ends, strict=True)]
    assert (
        found == [text for text in distinct if text in set(found)] and len(found) == made.manifest["train"]["documents"]
    )
    kept = np.bincount(stream, minlength=made.vocab_size)
    kept[made.eos_id] = 0
    assert (np.load(made.folder / "token_counts.npy") == kept).all()


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_an_interruption_anywhere_changes_no_byte(asked, small, monkeypatch, kind):
    """At each call of what puts something on the disk, before and after it, one interruption after the other."""
    expected = content(prepared(asked("whole", kind)))
    calls = {"seen": 0, "at": 0}

    def interrupted(place, name):
        function = getattr(place, name)

        def call(*arguments, **named):
            for work in (lambda: None, lambda: function(*arguments, **named)):
                result = work()
                calls["seen"] += 1
                if calls["seen"] == calls["at"]:
                    raise Terminated
            return result

        monkeypatch.setattr(place, name, call)

    for place, name in (
        (Spool, "finish"), (Unfinished, "finish"), (Writer, "add"), (Writer, "_close_shard"), (Journal, "add"),
        (Journal, "keep"), (Writer, "keep"), (build_corpus, "_to_disk"), (build_corpus, "write_manifest"),
        (Unfinished, "remove"),
    ):  # fmt: skip
        interrupted(place, name)
    interruptions = 0
    while True:
        calls.update(seen=0, at=interruptions * 3 + 1)  # ever deeper, so that there is progress
        try:
            made = prepared(asked("interrupted", kind))
            break
        except Terminated:
            interruptions += 1
    assert interruptions > 8 and content(made) == expected
    assert [path.name for path in made.folder.parent.iterdir() if build_corpus.PARTIAL in path.name] == []


@pytest.mark.parametrize(("name", "after"), [("finish", 1), ("add", 5)])
def test_a_kill_loses_what_was_not_finished_alone(asked, small, monkeypatch, name, after):
    expected = content(prepared(asked("whole")))
    command = [sys.executable, "-c", PREPARE, name, str(after), *asked("killed")]
    killed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    encoded, encode = [], SentencePiece.encode
    monkeypatch.setattr(
        SentencePiece, "encode", lambda self, texts, threads=None: encoded.extend(texts) or encode(self, texts, threads)
    )
    read, documents = [], build_corpus._divide
    monkeypatch.setattr(build_corpus, "_divide", lambda *arguments: read.append(1) or documents(*arguments))
    lines = []
    made = prepared(asked("killed"), lines.append)
    assert content(made) == expected and not read
    assert any("goes on from where it was interrupted" in line for line in lines)
    if name == "add":  # four blocks of six documents, and the fifth was written without being noted
        assert len(encoded) == 60 - 4 * 6 and any(": 24 of " in line for line in lines)


SLOW = f"""
import sys, time
from ablate import cli
from ablate.data import encoder
from ablate.data.unfinished import Journal
encoder.BLOCK = {BLOCK}
add = Journal.add
def slow(*arguments):
    add(*arguments)
    print("block", flush=True)
    time.sleep(0.3)
Journal.add = slow
sys.exit(cli.run(["data", "prepare", *sys.argv[1:]]))
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_encoding_and_the_next_goes_on(asked, small, tmp_path, number, code):
    expected = content(prepared(asked("whole")))
    command = [sys.executable, "-c", SLOW, *asked("stopped")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert "block\n" in iter(process.stdout.readline, "")
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code and len(errors.splitlines()) == 1
    left = [path.name for path in (tmp_path / "stopped").iterdir() if path.is_dir()]
    assert len(left) == 1 and left[0].startswith(".") and left[0].endswith(build_corpus.PARTIAL)
    lines = []
    assert content(prepared(asked("stopped"), lines.append)) == expected
    assert any("were encoded before" in line for line in lines)


def interrupt_in_block(monkeypatch, number):
    """Interrupt the preparing when so many blocks are noted."""
    add, seen = Journal.add, []

    def interrupted(*arguments):
        add(*arguments)
        seen.append(1)
        if len(seen) == number:
            raise KeyboardInterrupt

    monkeypatch.setattr(Journal, "add", interrupted)


def cut_shard(folder):
    with open(shards.shard_files(folder, "train")[-1], "r+b") as opened:
        opened.truncate(100)


def change_shard(folder):
    with open(shards.shard_files(folder, "train")[0], "r+b") as opened:
        opened.write(b"\0\0\0\0")


def longer_shard(folder):
    with open(shards.shard_files(folder, "train")[0], "ab") as opened:
        opened.write(b"\5\0" * 10)


def remove_shard(folder):
    shards.shard_files(folder, "train")[1].unlink()


def torn_line(folder):
    with open(folder / "unfinished" / "train.blocks.jsonl", "r+b") as opened:
        opened.truncate(os.path.getsize(opened.name) - 20)


def no_journal(folder):
    (folder / "unfinished" / "train.blocks.jsonl").unlink()


def cut_spool(folder):
    with open(folder / "unfinished" / "train.txt", "r+b") as opened:
        opened.truncate(5000)


def other_tokenizer(folder):
    (folder / "tokenizer.model").write_bytes(b"no model")


def torn_stages(folder):
    (folder / "unfinished" / "stages.json").write_text('{"made_by"')


def other_version(folder):
    file = folder / "unfinished" / "stages.json"
    file.write_text(file.read_text().replace('"numpy": "', '"numpy": "1'))


FROM_THE_START = (cut_spool, torn_stages, other_version)
DAMAGES = (
    cut_shard, change_shard, longer_shard, remove_shard, torn_line, no_journal, cut_spool, other_tokenizer, torn_stages,
    other_version,
)  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_what_a_power_cut_has_spoiled_is_made_again(asked, small, monkeypatch, damage):
    expected = content(prepared(asked("whole")))
    with monkeypatch.context() as patched:
        interrupt_in_block(patched, 6)
        with pytest.raises(KeyboardInterrupt):
            prepared(asked("spoiled"))
    folder = next(path for path in (build_corpus_folder(asked("spoiled")).parent).iterdir() if "partial" in path.name)
    assert len(shards.shard_files(folder, "train")) > 2
    damage(folder)
    lines = []
    assert content(prepared(asked("spoiled"), lines.append)) == expected
    assert any("reading documents" in line for line in lines) == (damage in FROM_THE_START)


def build_corpus_folder(overrides):
    from ablate.config import compose

    return corpus_request(compose(overrides)).folder


def test_a_mistake_in_the_text_leaves_nothing(asked, tmp_path):
    overrides = [word for word in asked("here") if "on_error" not in word]
    with pytest.raises(build_corpus.UserError, match="no text"):
        prepared(overrides)
    assert [path.name for path in (tmp_path / "here").iterdir() if "partial" in path.name] == []


def test_numpy_gives_the_ids_of_the_lists(asked):
    """SentencePiece's two ways to return ids, and one thread against three."""
    made = prepared(asked("here"))
    processor = made.tokenizer._processor
    some = [*texts(20), "", "\u65e5\u672c \U0001f600", "  two  spaces \u2581 \n\n"]
    lists = processor.encode(some)
    for threads in (None, 1, 3):
        assert [ids.tolist() for ids in made.tokenizer.encode(some, threads)] == lists
    assert isinstance(made.tokenizer, SentencePiece) and not isinstance(made.tokenizer, HuggingFace)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_kills_at_random_moments_change_no_byte(asked, small):
    """Killed from outside after ever longer times, until one start comes to its end."""
    expected = content(prepared(asked("whole")))
    drawn = random.Random(0)
    kills, limit = 0, 0.2
    while True:
        process = subprocess.Popen(
            [sys.executable, "-c", PREPARE, "slow", "0", *asked("killed")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        process.stdout.readline()  # it has begun
        ends = time.monotonic() + drawn.uniform(0, limit)
        while time.monotonic() < ends and process.poll() is None:
            time.sleep(0.001)
        process.kill()
        _, errors = process.communicate()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, errors
        kills, limit = kills + 1, limit * 1.1
    assert kills >= 3 and content(prepared(asked("killed"))) == expected
