"""A manifest is believed only as it was written."""

import json
import re
import shutil

import numpy as np
import pytest

from ablate.data import manifest as manifests
from ablate.data import shards
from ablate.data.corpus import Corpus
from ablate.data.manifest import MANIFEST, OWN_HASH
from ablate.errors import UserError


@pytest.fixture
def folder(shared, tmp_path):
    return shutil.copytree(shared[0].folder, tmp_path / "corpus")


def put(content, path, value):
    *above, last = path.split(".")
    for key in above:
        content = content[int(key) if isinstance(content, list) else key]
    if value is None:
        del content[last]
    else:
        content[last] = value


def refuse(folder, content, reason):
    (folder / MANIFEST).write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(UserError) as error:
        Corpus(folder)
    said = str(error.value)
    assert re.search(reason, said) and f"delete {folder} to prepare it again" in said and "\n" not in said, said


CHANGES = [
    ("layout.eos_id", 5),
    ("layout.text_size", 639),
    ("layout.vocab_size", 10**20),
    ("layout.pad_id", -1),
    ("name", "other"),
    ("train.tokens", 3),
    ("train.documents", 3),
    ("validation.bytes", 3),
    ("duplicates", 1),
    ("problems.skipped", {"no text": 3}),
    ("asked.source.text", "other"),
    ("unknown", 1),
    ("train.unknown", 1),
]


@pytest.mark.parametrize("path, value", CHANGES)
def test_a_changed_number_or_name_is_refused(folder, path, value):
    content = json.loads((folder / MANIFEST).read_text())
    put(content, path, value)
    refuse(folder, content, "differs from what was prepared .its own hash is another")


TYPES = [
    ("layout.eos_id", "1", "layout.eos_id must be a whole number"),
    ("layout.eos_id", 1.5, "layout.eos_id must be a whole number"),
    ("layout.eos_id", True, "layout.eos_id must be a whole number"),
    ("layout.eos_id", None, "layout.eos_id is missing"),
    ("layout", [], "layout must be a mapping"),
    ("train.shards", {}, "train.shards must be a list"),
    ("train.shards.0.tokens", [], r"train.shards\[0\].tokens must be a whole number"),
    ("train.tokens", float("nan"), "NaN is no number"),
    ("train.tokens", 1e400, "Infinity is no number"),
    ("problems.skipped", {"x": "3"}, "problems.skipped.x must be a whole number"),
    ("problems", None, "problems is missing"),
    ("asked", "x", "asked must be a mapping"),
    ("sha256", 3, "sha256 must be a string"),
    (OWN_HASH, None, "manifest_sha256 is missing"),
]


@pytest.mark.parametrize("path, value, reason", TYPES)
def test_wrong_types_are_named(folder, path, value, reason):
    content = json.loads((folder / MANIFEST).read_text())
    put(content, path, value)
    refuse(folder, content, f"differs from what was prepared .{reason}")


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", "3", "null", "[" * 100_000, '{"a":' * 100_000, "9" * 5000, '"\\ud800"', "\0"]
)
def test_what_is_no_manifest_is_refused(folder, content):
    refuse(folder, content, "manifest.json: (differs from what was prepared|cannot be read)")


def test_bytes_that_are_no_text_are_refused(folder):
    (folder / MANIFEST).write_bytes(b"\xff\xfe{}")
    with pytest.raises(UserError, match="cannot be read .*delete"):
        Corpus(folder)


def forged(folder, path, value):
    """A manifest whose hashes are right, though it is not what was prepared."""
    content = json.loads((folder / MANIFEST).read_text())
    put(content, path, value)
    content["sha256"] = manifests._corpus_hash(content)
    return {**content, OWN_HASH: manifests._own_hash(content)}


@pytest.mark.parametrize(
    "path, value, reason",
    [
        ("train.shards.0.file", "../outside", "'../outside' is not the name of a file in its folder"),
        ("train.shards.0.file", "/etc/passwd", "is not the name of a file in its folder"),
        ("tokenizer.file", "", "is not the name of a file in its folder"),
        ("tokenizer.file", "..", "is not the name of a file in its folder"),
        ("token_bytes.file", "a\0b", "is not the name of a file in its folder"),
        ("layout.eos_id", 10**6, "layout is not possible"),
        ("layout.text_size", 10**30, "layout is not possible"),
        ("layout.n_sentinels", -1, "layout is not possible"),
        ("train.tokens", 3, "does not have the tokens that the manifest counts"),
        ("train.documents", 3, "does not have the tokens that the manifest counts"),
        ("train.shards.0.tokens", 3, "does not have the tokens that the manifest counts"),
        ("layout.vocab_size", 1 << 20, "does not have the tokens that the manifest counts"),
    ],
)
def test_a_forged_manifest_is_refused(folder, path, value, reason):
    refuse(folder, forged(folder, path, value), reason)


def test_the_ids_and_files_are_those_of_the_hash_of_the_corpus(folder):
    content = json.loads((folder / MANIFEST).read_text())
    content["layout"]["eos_id"] = 5
    content[OWN_HASH] = manifests._own_hash(content)
    refuse(folder, content, "its layout and files are not those of its sha256")


@pytest.mark.parametrize("offsets", [np.arange(5), np.array(3), np.array([object()])])
def test_offsets_that_are_not_those_of_the_documents_are_refused(folder, offsets):
    np.save(folder / "train-offsets.npy", offsets, allow_pickle=True)
    hashed = shards.entry(folder / "train-offsets.npy")["sha256"]
    refuse(folder, forged(folder, "train.offsets.sha256", hashed), "train-offsets.npy: does not have the tokens")


@pytest.mark.parametrize("name", ["train-00000.bin", "tokenizer.json"])
def test_a_link_in_place_of_a_file_is_refused(folder, tmp_path, name):
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    with pytest.raises(UserError, match=f"{name}: is not a file of its own"):
        Corpus(folder)


def test_how_it_is_written_does_not_matter(folder):
    content = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(dict(reversed(content.items()))))
    assert Corpus(folder).sha256 == content["sha256"]
