"""What a terminal would obey is shown to it as text."""

from __future__ import annotations

import unicodedata

import pytest

from ablate.errors import print_error
from ablate.terminal import printable, say

HARMFUL = {
    "\x1b[2J": "\\x1b[2J",
    "\x1b]0;title\x07": "\\x1b]0;title\\x07",
    "\x9b31m": "\\x9b31m",
    "over\rwritten": "over\\rwritten",
    "back\b\b": "back\\x08\\x08",
    "\u202egnp.exe": "\\u202egnp.exe",
    "\u2066x\u2069": "\\u2066x\\u2069",
    "\ud800": "\\ud800",
    "\U000e0041": "\\U000e0041",
    "a\u2028b": "a\\u2028b",
}


@pytest.mark.parametrize("text", HARMFUL)
def test_what_a_terminal_obeys_is_written_out(text, capsys):
    assert printable(f"a{text}b") == f"a{HARMFUL[text]}b"
    say(text)
    print_error(text)
    told = capsys.readouterr()
    assert told.out == f"{HARMFUL[text]}\n" and all(char == "\n" or char.isprintable() for char in told.err)


def test_text_stays_as_it_is():
    for text in ("a\tb\nc", "ReLU² → 注意力 🧑‍🔬 ﷼ é", "naïve — “x”"):
        assert printable(text) == text


def test_no_control_character_is_left():
    every = "".join(map(chr, range(0x110000)))
    left = {unicodedata.category(char) for char in printable(every)} & {"Cc", "Cs", "Zl", "Zp"}
    assert left == {"Cc"} and {char for char in printable(every) if unicodedata.category(char) == "Cc"} == {"\t", "\n"}
    bidirectional = {"RLO", "LRO", "RLE", "LRE", "PDF", "RLI", "LRI", "FSI", "PDI"}
    assert not {unicodedata.bidirectional(char) for char in printable(every)} & bidirectional
