"""YAML that would become too much: refused at once."""

from __future__ import annotations

import pytest

from ablate import yaml_text
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


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\nb:\n  c: [1, 2]\n  d: x\ne:\n- 1\n- 2\n",
        "a: |\n  x\n\n  y\nb: 'it\n\n  is'\nc: x\n y\n",
        'a: "x\nb: y"\n',  # one value, of which a part looks like a key
        "a: [1,\nb: 2]\n",
        "a: &x [1]\nb: *x\n",
        "a: 1\n# b\nc: 2\n",
        "a: 1\na: 2\n",
        "a: 1\n---\nb: 2\n",
        "a: 1\n...\nb: 3\n",
        "a: 1\n\tb: 3\n",
        "a: 1\n  b: 2\n",
        "%YAML 1.1\n---\na: 1\n",
        "? a\n: b\n",
        "true: 1\nTrue: 2\n",
        "- 1\n",
        "1\n",
        "",
    ],
)
def test_shared_blocks_read_what_a_whole_text_says(text):
    def found(read):
        try:
            return repr(read(text))
        except yaml_text.BadYAML as error:
            return error.line, str(error)

    blocks = yaml_text.SharedBlocks()
    assert found(blocks.parse) == found(yaml_text.parse)
    assert found(blocks.parse) == found(yaml_text.parse)  # the second time, from what it knows


def test_shared_blocks_are_parsed_once(monkeypatch):
    parsed, parse = [], yaml_text.parse
    monkeypatch.setattr(yaml_text, "parse", lambda text: parsed.append(text) or parse(text))
    blocks = yaml_text.SharedBlocks()
    texts = [f"shape:\n  d_model: 48\nseed:\n  base: {seed}\n" for seed in (0, 1, 0)]
    assert [blocks.parse(text) for text in texts] == [parse(text) for text in texts]
    assert parsed == ["shape:\n  d_model: 48\n", "seed:\n  base: 0\n", "seed:\n  base: 1\n"]
