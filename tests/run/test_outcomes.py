"""The file of a task's outcomes: whole or not there, and only of use to who asks for the same key."""

import errno
import json

import pytest

from ablate.run import files, outcomes
from ablate.run.outcomes import SCHEMA, Item, Outcomes, file_name, kept, key_of, read, write
from ablate.run.score import Score

ITEMS = (
    Item(0, 1.0, (-61.25, -64.5), {"piqa": 100.0, "piqa_margin": 0.04}),
    Item(1, 0.0, (-3.0, -2.5), {"piqa": 0.0}),
    Item("third"),
)
FOUND = Outcomes(
    "piqa", "a key", ITEMS, {"piqa": Score(50.0, "per cent", True, items=2)}, {"piqa_margin": "no wrong answer"}
)


@pytest.fixture
def path(tmp_path):
    write(tmp_path, FOUND)
    return tmp_path / file_name("piqa")


def rewritten(path, **changes):
    """Change the first line and leave the others."""
    first, _, body = path.read_text().partition("\n")
    path.write_text(json.dumps({**json.loads(first), **changes}) + "\n" + body)


def test_what_is_written_is_read(path):
    assert read(path) == FOUND == kept(path.parent, "piqa", "a key")
    assert FOUND.values("piqa") == {0: 100.0, 1: 0.0} and FOUND.values("piqa_margin") == {0: 0.04}
    assert json.loads(path.read_text().partition("\n")[0])["sha256"] == outcomes.sha256(ITEMS)


def test_no_items_are_whole_too(tmp_path):
    write(tmp_path, Outcomes("piqa", "a key", ()))
    assert kept(tmp_path, "piqa", "a key") == Outcomes("piqa", "a key", ())


def test_a_write_that_fails_leaves_the_file_before_it_and_nothing_else(path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        write(path.parent, Outcomes("piqa", "another key", ITEMS[:1]))
    assert read(path) == FOUND and [*path.parent.iterdir()] == [path]


def test_what_json_cannot_say_is_not_written(path):
    with pytest.raises(ValueError):
        write(path.parent, Outcomes("piqa", "a key", (Item(0, values={"piqa": float("nan")}),)))
    assert read(path) == FOUND and [*path.parent.iterdir()] == [path]


def test_every_shortened_file_is_refused(path):
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError):
            read(path)
        assert kept(path.parent, "piqa", "a key") is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace("-61.25", "-61.75"),
        lambda text: text + "{}\n",
        lambda text: text.replace('"right": 1.0', '"right": 0.0'),
        lambda text: text.replace('"third"', "2"),
        lambda text: "[]\n" + text.partition("\n")[2],
        lambda text: text.partition("\n")[2],
    ],
)
def test_a_changed_file_is_refused(path, damage):
    text = path.read_text()
    path.write_text(damage(text))
    assert path.read_text() != text
    with pytest.raises(ValueError):
        read(path)
    assert kept(path.parent, "piqa", "a key") is None


def test_bytes_that_are_no_text_are_refused(path):
    path.write_bytes(path.read_bytes().replace(b"third", b"\xff\xfe"))
    with pytest.raises(ValueError):
        read(path)


@pytest.mark.parametrize("schema", [SCHEMA + 1, None, str(SCHEMA)])
def test_another_schema_is_refused_by_its_name(path, schema):
    rewritten(path, schema=schema)
    with pytest.raises(ValueError, match=f"outcomes of schema {SCHEMA}"):
        read(path)
    assert kept(path.parent, "piqa", "a key") is None


@pytest.mark.parametrize("changes", [{"scores": None}, {"scores": {"piqa": {}}}, {"scores": [1]}])
def test_a_first_line_without_scores_is_refused(path, changes):
    rewritten(path, **changes)
    with pytest.raises(ValueError):
        read(path)
    assert kept(path.parent, "piqa", "a key") is None


def test_outcomes_of_another_key_or_task_are_not_kept(path):
    assert kept(path.parent, "piqa", "another key") is None
    path.rename(path.with_name(file_name("boolq")))
    assert kept(path.parent, "boolq", "a key") is None
    assert kept(path.parent, "piqa", "a key") is None  # there is no such file


def test_a_key_is_of_all_parts_in_their_order():
    parts = ["weights", {"a": 1, "b": 2}, None, 3]
    assert key_of(parts) == key_of(["weights", {"b": 2, "a": 1}, None, 3]) and len(key_of(parts)) == 64
    others = (parts[::-1], parts[:-1], ["weights", {"a": 1, "b": 2}, None, "3"], ["weights", {"a": 1}, {"b": 2}, 3])
    assert len({key_of(parts), *map(key_of, others)}) == 1 + len(others)
