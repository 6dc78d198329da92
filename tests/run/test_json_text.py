"""JSON of strangers: what is read, and what is refused in which words, on both sides of each bound."""

from __future__ import annotations

import os

import pytest

from ablate.run import json_text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e308", 1e308),
        ("-0.5", -0.5),
        ("9" * 30, int("9" * 30)),
        ('{"a": [1, null, true]}', {"a": [1, None, True]}),
        ('{"\\u00e9": "\\ud83d\\ude00"}', {"é": "😀"}),
        ('"é"', "é"),
        ("[" * 50 + "]" * 50, None),
    ],
)
def test_what_is_read(text, value):
    assert value is None or json_text.parse(text) == value
    json_text.parse(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("NaN", "NaN is no number"),
        ("[-Infinity]", "-Infinity is no number"),
        ("1e309", "1e309 is too large a number"),
        ("-1e999", "-1e999 is too large a number"),
        ("1" * 31, "a number has 31 digits"),
        ('{"a": 1, "b": 2, "a": 3}', "'a' is there twice"),
        ('{"c": {"b": 2, "b": 2}}', "'b' is there twice"),
        ("[" * 51 + "]" * 51, "it is nested too deeply"),
        ("[" * 100000 + "]" * 100000, "it is nested too deeply"),
        ('"\\ud83d"', "a string has half of a surrogate pair"),
        ('{"é\\udc00": 1}', "a string has half of a surrogate pair"),
    ],
)
def test_what_is_refused(text, reason):
    with pytest.raises(ValueError, match=f"^{reason}$"):
        json_text.parse(text)


def test_files_of_a_limited_size(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b" " * (2**20))
    assert json_text.read_text(path, 2**20) == " " * 2**20
    path.write_bytes(b" " * (2**20 + 1))
    with pytest.raises(ValueError, match="it has more than 1 MiB"):
        json_text.read_text(path, 2**20)
    os.truncate(path, 32 * 2**20 + 1)
    with pytest.raises(ValueError, match="it has more than 32 MiB"):
        json_text.read(path)
    path.write_bytes(b'"\xff"')
    with pytest.raises(UnicodeDecodeError):
        json_text.read(path)


def test_what_is_no_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")  # which would wait for a writer
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(ValueError, match="it is no file"):
            json_text.read(path)
