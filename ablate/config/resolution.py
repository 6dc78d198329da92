"""All values of a config, its interpolations followed, on plain containers.

OmegaConf follows interpolations too, one node object a value; a plan composes a hundred rows, and making and reading
those objects takes most of the time of each. What option files use is a small part of OmegaConf's grammar: a whole
value `${a.key}`, or `${resolver:argument,a.key}` of this project's own resolvers. These are followed here; `resolve`
gives None for a config with any other, which OmegaConf then reads. Tests hold the two equal for every option and for
every row of every sweep.
"""

from __future__ import annotations

import re
from typing import Any

from ablate.config.resolvers import RESOLVERS
from ablate.errors import UserError, nearest

Tree = dict[str, Any]

_KEY = re.compile(r"\$\{([A-Za-z_]\w*(?:\.\w+)*)\}")
_CALL = re.compile(r"\$\{(\w+):([\w./, +-]*)\}")


_START = re.compile(r"(\\*)\$\{\s*([^:{}$]*)([:}$])?")
_HARMLESS = frozenset({"oc.select", "oc.deprecated", "oc.dict.keys", "oc.dict.values", *RESOLVERS})
ENVIRONMENT = "oc.env"


def objection(written: str, may_read_environment: bool) -> str:
    """Why a text with interpolations is not followed; empty where it may be, or has none.

    OmegaConf's own resolvers also read the environment and make new structure out of text, and a name of a resolver
    can be put together out of other values; a config that a stranger wrote may do none of these.
    """
    for escape, head, end in _START.findall(written):
        if escape:
            return "\\${ would be read a second time; write the text without ${"
        if end == "$":
            return "the name in ${...} must be written out"
        name = head.strip()
        if end != ":" or name in _HARMLESS:
            continue
        if name == ENVIRONMENT and may_read_environment:
            continue
        if name == ENVIRONMENT:
            return "the environment may only be read under paths, since the config is written to disk"
        return f"${{{name}:...}} is not known here{nearest(name, RESOLVERS)}"
    return ""


class _Unknown(Exception):
    """Something that only OmegaConf can read, or say what is wrong with."""


def resolve(tree: Tree) -> Tree | None:
    """The same containers with every interpolation replaced by its value; None where OmegaConf has to do it."""
    try:
        return _Resolution(tree).mapping(tree)
    except (_Unknown, RecursionError):
        return None


class _Resolution:
    """Follows the interpolations of one config; each key is resolved once."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.known: dict[str, Any] = {}
        self.pending: set[str] = set()

    def mapping(self, written: Tree) -> Tree:
        """The same keys, their values resolved."""
        return {key: self.value(item) for key, item in written.items()}

    def value(self, written: Any) -> Any:
        """What a value stands for, as it is written."""
        if isinstance(written, dict):
            return self.mapping(written)
        if isinstance(written, list):
            return [self.value(item) for item in written]
        if not isinstance(written, str):
            return written
        if written == "???":
            raise _Unknown
        return self._interpolated(written) if "${" in written or "\\" in written else written

    def at(self, path: str) -> Any:
        """The value at a dotted key; None where it is missing, as `OmegaConf.select` has it."""
        if path in self.known:
            return self.known[path]
        if path in self.pending:
            raise _Unknown  # it refers to itself
        self.pending.add(path)
        node: Any = self.tree
        for part in path.split("."):
            if isinstance(node, str) and "${" in node:
                node = self._interpolated(node)
            if not isinstance(node, dict):
                raise _Unknown
            if part not in node:
                node = None
                break
            node = node[part]
        self.known[path] = value = self.value(node)
        self.pending.discard(path)
        return value

    def _interpolated(self, written: str) -> Any:
        if match := _KEY.fullmatch(written):
            if not self._exists(match[1]):
                raise _Unknown
            return self.at(match[1])
        match = _CALL.fullmatch(written)
        if match is None or match[1] not in RESOLVERS:
            raise _Unknown
        arguments = [argument.strip() for argument in match[2].split(",")] if match[2].strip() else []
        try:
            return RESOLVERS[match[1]](*map(_literal, arguments), at=self.at)
        except (UserError, TypeError):
            raise _Unknown from None

    def _exists(self, path: str) -> bool:
        node: Any = self.tree
        for part in path.split("."):
            if isinstance(node, str):
                return True  # an interpolation; what it leads to is seen when it is followed
            if not isinstance(node, dict) or part not in node:
                return False
            node = node[part]
        return True


def _literal(text: str) -> Any:
    """An argument as OmegaConf's grammar types it: a whole number, a number, else the text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
