"""A file is known by its content, which is read once."""

import json
import os
import threading
import time
from pathlib import Path

import pytest

from ablate.data import file_hashes
from ablate.data.corpus_request import corpus_request
from ablate.data.file_hashes import MEMORY, FileHashes
from ablate.errors import UserError
from ablate.run.files import sha256
from tests.data.conftest import texts, write_jsonl


@pytest.fixture
def hashed(monkeypatch):
    """The names of the files whose content is read, of which the times are believed at once."""
    names = []
    monkeypatch.setattr(file_hashes, "SETTLED", 0)
    monkeypatch.setattr(file_hashes, "sha256", lambda path: names.append(os.path.basename(path)) or sha256(path))
    return names


def hash_of(memory, *files):
    with FileHashes(memory) as hashes:
        return hashes([str(file) for file in files])


def test_files_are_read_once(tmp_path, hashed):
    files = [write_jsonl(tmp_path / f"{name}.jsonl", [name]) for name in "abc"]
    first = hash_of(tmp_path / "memory", *files)
    assert first == [sha256(file) for file in files] and sorted(hashed) == ["a.jsonl", "b.jsonl", "c.jsonl"]
    assert hash_of(tmp_path / "memory", *reversed(files)) == first[::-1] and len(hashed) == 3
    (tmp_path / "link").symlink_to(files[0])
    assert hash_of(tmp_path / "memory", tmp_path / "link") == first[:1] and len(hashed) == 3


@pytest.mark.parametrize("how", ["written", "replaced", "touched"])
def test_a_file_that_changed_is_read_again_though_its_size_and_time_are_the_same(tmp_path, hashed, how):
    file = tmp_path / "a.txt"
    file.write_text("one")
    old = file.stat()
    hash_of(tmp_path / "memory", file)
    time.sleep(0.02)  # longer than the clock of a file system stands still
    if how == "replaced":
        (tmp_path / "new").write_text("two")
        (tmp_path / "new").replace(file)
    elif how == "written":
        file.write_text("two")
    os.utime(file, ns=(old.st_atime_ns, old.st_mtime_ns + (how == "touched")))
    assert hash_of(tmp_path / "memory", file) == [sha256(file)] and len(hashed) == 2


def test_a_file_that_was_just_written_is_not_remembered(tmp_path, hashed, monkeypatch):
    monkeypatch.setattr(file_hashes, "SETTLED", 60)
    file = write_jsonl(tmp_path / "a.jsonl", ["one"])
    assert hash_of(tmp_path / "memory", file) == hash_of(tmp_path / "memory", file) and len(hashed) == 2


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"\xff", b'{"PATH": 3}', b'{"PATH": []}', b'{"PATH": ["x"]}'])
def test_a_damaged_memory_does_no_harm(tmp_path, hashed, damage):
    file = write_jsonl(tmp_path / "a.jsonl", ["one"])
    (tmp_path / "memory").write_bytes(damage.replace(b"PATH", str(file).encode()))
    assert hash_of(tmp_path / "memory", file) == [sha256(file)]
    assert hash_of(tmp_path / "memory", file) == [sha256(file)] and len(hashed) == 1


def test_a_memory_that_cannot_be_written_does_no_harm(tmp_path, hashed):
    file = write_jsonl(tmp_path / "a.jsonl", ["one"])
    for memory in (Path("/proc/none"), tmp_path / "a.jsonl" / "x"):
        assert hash_of(memory, file) == [sha256(file)]


def test_what_others_remember_stays(tmp_path, hashed):
    files = [write_jsonl(tmp_path / f"{number}.jsonl", [str(number)]) for number in range(20)]
    threads = [threading.Thread(target=hash_of, args=(tmp_path / "memory", file)) for file in files[:10]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    json.loads((tmp_path / "memory").read_text())
    with FileHashes(tmp_path / "memory") as one:
        one([str(files[10])])
        hash_of(tmp_path / "memory", files[11])
    count = len(hashed)
    hash_of(tmp_path / "memory", *files[10:12])
    assert len(hashed) == count


def test_a_file_that_cannot_be_read_is_one_line(tmp_path):
    for file in (tmp_path / "none", tmp_path):
        with pytest.raises(UserError, match=f"^{file}: [^\n]*$"):
            hash_of(tmp_path / "memory", file)
        with pytest.raises(UserError, match=f"^{file}: [^\n]*$"):
            file_hashes.hash_files([str(file)])


def test_two_files_of_one_name_size_and_time_are_two_texts(config, tmp_path):
    """As a reproducible archive unpacks them."""
    files = []
    for text in ("one", "two"):
        files.append(write_jsonl(tmp_path / text / "a.jsonl", [text, *texts(20)]))
        os.utime(files[-1], (1, 1))
    one, two = (corpus_request(config(file)).folder for file in files)
    assert one != two
    write_jsonl(tmp_path / "elsewhere" / "a.jsonl", ["one", *texts(20)])
    assert corpus_request(config(tmp_path / "elsewhere" / "a.jsonl")).folder == one


def test_the_order_of_files_counts(config, tmp_path):
    files = [write_jsonl(tmp_path / f"{name}.jsonl", [name]) for name in "ab"]
    assert corpus_request(config(files)).folder != corpus_request(config(files[::-1])).folder


def test_a_prepared_corpus_is_found_without_reading_its_text(config, tmp_path, hashed):
    file = write_jsonl(tmp_path / "text.jsonl", texts(100))
    folder = corpus_request(config(file)).folder
    assert hashed == ["text.jsonl"] and (folder.parent / MEMORY).exists()
    assert corpus_request(config(file, "data.validation_share=0.3")).folder != folder
    assert corpus_request(config(file)).folder == folder and hashed == ["text.jsonl"]
    hub = ["data=hub", "data.path=json", f"data.files={file}"]
    assert corpus_request(config([], *hub)).fingerprint["source"]["on_disk"] == [["text.jsonl", sha256(file)]]
    assert hashed == ["text.jsonl"]


def test_long_hashing_is_told(tmp_path, hashed, monkeypatch):
    monkeypatch.setattr(file_hashes, "EVERY", 0)
    lines = []
    files = [str(write_jsonl(tmp_path / f"{name}.jsonl", [name])) for name in "ab"]
    with FileHashes(tmp_path / "memory", lines.append) as hashes:
        hashes(files)
    assert lines == ["hashed 1 of 2 files", "hashed 2 of 2 files"]


def test_a_source_that_reads_no_files_need_not_take_their_hashes(config, monkeypatch):
    from ablate.data import corpus_request as module

    class Source:
        def fingerprint(self):
            return {"source": "made up"}

    fill = module.fill
    monkeypatch.setattr(module, "fill", lambda cfg, path: Source() if path == "data.source" else fill(cfg, path))
    assert corpus_request(config([])).fingerprint["source"] == {"source": "made up"}
