"""Reading YAML that a stranger may have written: no code is run, and a small text cannot become a large tree.

A text that names a list by `&a` and repeats it by `*a`, ten times in each of nine levels, stands for a billion values.
They are counted before any is made.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

MOST_BYTES = 4 << 20
MOST_VALUES = 500_000
MOST_REPEATED = 100_000  # values that repeating (*name) may add
MOST_DEPTH = 100
MOST_CHARACTERS = 100  # of a number
SHORT = 10_000  # bytes, in which nothing can be nested so deep that libyaml, which calls itself, dies of it

_LINE = re.compile(r"^([A-Za-z_][A-Za-z0-9_]*:(?= |$))", re.MULTILINE)  # a top-level key
_ELSE = re.compile(r"^(?![A-Za-z_][A-Za-z0-9_]*:(?: |$)|[ \n]|- |-$|\Z)|[&*\r\x85\u2028\u2029]", re.MULTILINE)
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


class BadYAML(ValueError):
    """What is wrong with a text, and in which line, where that is known."""

    def __init__(self, problem: str, line: int | None = None) -> None:
        super().__init__(problem)
        self.line = line

    def at(self, path: object) -> str:
        """Where it is: the file, with the line where that is known."""
        return f"{path}, line {self.line}" if self.line else str(path)


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Plain values only; no number of thousands of digits, no key twice in a mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping; raises `ConstructorError` for a key that is there twice."""
        seen = set()
        for key, _ in node.value:
            self.check_key(key)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is there twice", key.start_mark)
            if key.tag != "tag:yaml.org,2002:merge":
                seen.add(key.value)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping

    def check_key(self, key: yaml.Node) -> None:
        """Raise `ConstructorError` where a mapping cannot have this key."""
        if not isinstance(key, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(None, None, "a key must be one word", key.start_mark)


class TextKeyLoader(Loader):
    """The same, where every key must be text."""

    def check_key(self, key: yaml.Node) -> None:
        super().check_key(key)
        if key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
            raise yaml.constructor.ConstructorError(
                None, None, f"key {key.value} is not text; put it in quotes", key.start_mark
            )


class OptionLoader(Loader):
    """YAML as OmegaConf reads it, several times as fast: 1e-6 is a number, a date is text."""


OptionLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(?:_[0-9]+)*[eE][-+]?[0-9]+$"), list("-+0123456789")
)
OptionLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in OptionLoader.yaml_implicit_resolvers.items()
}


def parse(text: str | bytes, loader: type[Loader] = Loader) -> Any:
    """What a YAML text says, in plain containers; raises `BadYAML`."""
    if len(text) > MOST_BYTES:
        raise BadYAML(f"is larger than {MOST_BYTES >> 20} MiB")
    reader = None
    try:
        if len(text) > SHORT:
            _scan(text, loader)
        reader = loader(text)
        node = reader.get_single_node()
        if node is None:
            return None
        _check(node)
        return reader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise BadYAML(problem, mark.line + 1 if mark else None) from None
    except BadYAML:
        raise
    except RecursionError:
        raise BadYAML(f"is nested in more than {MOST_DEPTH} levels") from None
    except (ValueError, TypeError, OverflowError) as error:  # a date that is none; bytes that are no text
        raise BadYAML(" ".join(str(error).split())[:100]) from None
    finally:
        if reader is not None:
            reader.dispose()


class SharedBlocks:
    """Parses texts that have most of their top-level keys in common, each key with its value once.

    For the configs of a sweep's runs, of which a report reads thousands. The values are shared: they must not be
    changed.
    """

    def __init__(self) -> None:
        self._known: dict[str, dict[Any, Any]] = {}

    def parse(self, text: str) -> Any:
        """What `parse` gives for the text; raises `BadYAML`."""
        content: dict[Any, Any] = {}
        blocks = _blocks(text)
        for block in blocks:
            if block not in self._known:
                try:
                    found = parse(block)
                except BadYAML:
                    return parse(text)  # a value that spans blocks, or something wrong: its line is that in the text
                if not isinstance(found, dict):
                    return parse(text)
                self._known[block] = found
            content |= self._known[block]
        return content if blocks and len(content) == len(blocks) else parse(text)


def _blocks(text: str) -> list[str]:
    """The text in pieces of a top-level key with its value; empty where it does not begin with such a key.

    What begins at a line's start must be a key or an item of a list: nothing else has the same meaning in a piece.
    """
    starts = [found.start() for found in _LINE.finditer(text) if found[1]]
    if not starts or starts[0] or _ELSE.search(text):
        return []
    return [text[start:end] for start, end in zip(starts, [*starts[1:], len(text)], strict=True)]


def _scan(text: str | bytes, loader: type[Loader]) -> None:
    """Raise `BadYAML` for a text of too many or too deep values, before a tree is made of it."""
    depth = values = 0
    for event in yaml.parse(text, Loader=loader):
        values += isinstance(event, yaml.NodeEvent)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MOST_DEPTH:
            raise BadYAML(f"is nested in more than {MOST_DEPTH} levels", _line(event))
        if values > MOST_VALUES:
            raise BadYAML(f"has more than {MOST_VALUES:,} values", _line(event))


def _check(root: yaml.Node) -> None:
    """Raise `BadYAML` where the values are too many, repeated ones counted each time, too deep, or too long."""
    sizes: dict[int, int] = {}  # values below each node, by its id
    depths: dict[int, int] = {}
    open_nodes: set[int] = set()
    todo = [(root, False)]
    while todo:
        node, is_done = todo.pop()
        inner = _inner(node)
        if is_done:
            open_nodes.discard(id(node))
            sizes[id(node)] = 1 + sum(sizes[id(one)] for one in inner)
            depths[id(node)] = 1 + max((depths[id(one)] for one in inner), default=0)
            if depths[id(node)] > MOST_DEPTH:
                raise BadYAML(f"is nested in more than {MOST_DEPTH} levels", _line(node))
        elif id(node) in open_nodes:
            raise BadYAML("a value contains itself (*name)", _line(node))
        elif id(node) not in sizes:
            if isinstance(node, yaml.ScalarNode):
                _check_number(node)
            open_nodes.add(id(node))
            todo.append((node, True))
            todo.extend((one, False) for one in inner)
    if sizes[id(root)] > len(sizes) + MOST_REPEATED:
        raise BadYAML(f"repeats values (*name) until they are more than {MOST_REPEATED:,}")


def _inner(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        return list(node.value)
    return [one for pair in node.value for one in pair] if isinstance(node, yaml.MappingNode) else []


def _check_number(node: yaml.ScalarNode) -> None:
    if node.tag in _NUMBERS and len(node.value) > MOST_CHARACTERS:
        raise BadYAML(f"a number has {len(node.value):,} characters", _line(node))


def _line(there: yaml.Event | yaml.Node) -> int | None:
    return there.start_mark.line + 1 if there.start_mark else None
