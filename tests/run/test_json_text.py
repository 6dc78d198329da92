"""JSON of strangers: what is read, and what is refused in a line."""

import os

import pytest

from ablate.run import json_text
from ablate.run.json_text import parse, read, read_text

LONGEST = "9" * json_text.MOST_DIGITS


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("NaN", "NaN is no number"),
        ("[-Infinity]", "-Infinity is no number"),
        ("1e999", "1e999 is too large a number"),
        ("-1e999", "-1e999 is too large a number"),
        (LONGEST + "9", "a number has 31 digits"),
        ('{"a": {"b": 1, "b": 2}}', "'b' is there twice"),
        ('"\\ud800"', "a string has half of a surrogate pair"),
        ('[{"\\udfff": 1}]', "a string has half of a surrogate pair"),
        ("[" * 51 + "]" * 51, "it is nested too deeply"),
        ("[" * 100_000, "it is nested too deeply"),
    ],
)
def test_what_cannot_be_used_is_refused(text, problem):
    with pytest.raises(ValueError, match=problem):
        parse(text)


def test_what_is_at_the_limits_is_read():
    assert parse(LONGEST) == int(LONGEST) and parse("1e308") == 1e308
    assert parse('"\\ud83d\\ude42 µ"') == "🙂 µ"
    assert parse("[" * 50 + "]" * 50)


def test_only_whole_files_of_a_bounded_size_are_read(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"a": 1}')
    assert read(path) == {"a": 1} and read_text(path, most=8) == '{"a": 1}'
    with pytest.raises(ValueError, match="it has more than 0 MiB"):
        read_text(path, most=7)
    with open(path, "wb") as file:  # sparse
        file.truncate(json_text.MOST_BYTES + 1)
    with pytest.raises(ValueError, match="it has more than 32 MiB"):
        read(path)
    path.write_bytes(b"\xff")
    with pytest.raises(ValueError):
        read(path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        read(path)


@pytest.mark.timeout(10)
def test_a_pipe_or_a_folder_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")  # which would be waited for
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(ValueError, match="it is no file"):
            read(path)
