"""What a terminal would obey is shown to it as text."""

from __future__ import annotations

import unicodedata

import pytest

from ablate.errors import print_error
from ablate.sweep.scheduler import last_line
from ablate.terminal import printable, say, without_sequences

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


@pytest.mark.parametrize(
    "written, plain",
    [
        ("\x1b[31m\x1b[1mRuntimeError\x1b[0m: no", "RuntimeError: no"),
        ("a\x1b]0;title\x07b\x1b]8;;http://x\x1b\\c", "abc"),
        ("50%\x1b[K\x1b[2A\x1b[?25l\x1b(B\x1b7 done", "50% done"),
        ("cut off \x1b[3", "cut off \x1b[3"),
    ],
)
def test_a_librarys_colours_are_left_out(written, plain):
    assert without_sequences(written) == plain


def test_the_last_line_of_a_log_is_what_it_says_without_its_colours(tmp_path):
    log = tmp_path / "log.txt"
    log.write_text("begun\nstep 1\rstep 2\n\x1b[1;31mRuntimeError\x1b[0m: no \x1b[2Jroom\x1b[0m\n\x1b[0m\x1b[K\n")
    assert last_line(log) == "RuntimeError: no room"
    log.write_text("50%\x1b[3\n")
    assert printable(last_line(log)) == "50%\\x1b[3"
