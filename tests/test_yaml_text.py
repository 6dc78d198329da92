"""YAML that would become too much: refused at once."""

from __future__ import annotations

import pytest

from ablate.yaml_text import BadYAML, Loader, OptionLoader, TextKeyLoader, parse
from tests import cpu_seconds


def bomb(first: str, repeat: str, levels: int = 30) -> str:
    """A text of some hundred bytes that stands for 10 to the power `levels` values."""
    lines = [f"a0: &a0 {first}"]
    lines += [f"a{level}: &a{level} " + repeat.format(",".join([f"*a{level - 1}"] * 10)) for level in range(1, levels)]
    return "\n".join(lines)


HARMFUL = {
    "laughs": (bomb("[x]", "[{}]"), "repeats values"),
    "merged laughs": (bomb("{x: 1}", "{{<<: [{}]}}"), "repeats values"),
    "deep": ("[" * 100_000, "nested in more than 100 levels"),
    "deep blocks": ("- " * 100_000, "nested in more than 100 levels"),
    "deep and short": ("[" * 1_000 + "]" * 1_000, "nested in more than 100 levels"),
    "itself": ("a: &a [*a]", "contains itself"),
    "digits": (f"a: {'9' * 5_000}", "a number has 5,000 characters"),
    "hexadecimal": (f"a: 0x{'f' * 5_000}", "a number has 5,002 characters"),
    "long": ("a: " + "x" * (5 << 20), "larger than 4 MiB"),
    "many": (f"[{'1,' * 1_000_000}]", "more than 500,000 values"),
    "code": ("!!python/object/apply:os.system [x]", "could not determine a constructor"),
    "no number": ("a: !!int x", "invalid literal"),
    "twice": ("a: 1\na: 2", "'a' is there twice"),
    "no word": ("[1]: 2", "a key must be one word"),
    "no text": (b"\xff\xfe\xff", "incomplete"),
}


@pytest.mark.parametrize("loader", [Loader, TextKeyLoader, OptionLoader])
@pytest.mark.parametrize("kind", HARMFUL)
def test_what_would_become_too_much_is_refused_at_once(kind, loader):
    text, problem = HARMFUL[kind]
    with cpu_seconds.at_most(2), pytest.raises(BadYAML, match=problem) as caught:
        parse(text, loader)
    assert len(str(caught.value).splitlines()) == 1


def test_what_a_person_may_want_is_read():
    assert parse("a: &a [1, 2]\nb: *a\nc: {<<: {x: 1}, y: 2}") == {"a": [1, 2], "b": [1, 2], "c": {"x": 1, "y": 2}}
    rows = "".join(f"  row {number}: [norm=rmsnorm, shape.d_model=64]\n" for number in range(20_000))
    assert len(parse(f"rows:\n{rows}")["rows"]) == 20_000
    assert parse("") is None and parse("a: 1e-6", OptionLoader) == {"a": 1e-6}
    with pytest.raises(BadYAML, match="key 1 is not text"):
        parse("1: a", TextKeyLoader)
