"""What the source of a class says of it, read as a syntax tree: a plan is checked without importing torch."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ablate.errors import nearest


@dataclass(frozen=True)
class Module:
    """A module's top level: what each of its names is defined by, and where imported names come from."""

    name: str
    defined: dict[str, ast.stmt]
    imported: dict[str, str]
    is_open: bool  # whether it may have names that cannot be read off: `import *`, `__getattr__`


@dataclass(frozen=True)
class Definition:
    """A statement that defines a class or a function, and the module that it is in."""

    node: ast.stmt
    module: Module


def absence(target: str) -> str:
    """Why nothing can be imported from `target`, with the nearest right name; empty where something may be there."""
    module_name, _, name = target.rpartition(".")
    place = place_of(module_name) if module_name else None
    if place is None:
        return f"there is no module {module_name!r}"
    module = _module(module_name)
    if module is None or module.is_open or name in module.defined or name in module.imported or place_of(target):
        return ""
    return f"{module_name} has no {name!r}{nearest(name, (*module.defined, *module.imported))}"


@cache
def attribute(target: str, name: str) -> Any:
    """The value of the class attribute `name`, inherited ones included; None where it is not a literal.

    Do not change what it returns.
    """
    for definition in ancestry(target):
        if (value := _assigned(definition.node, name)) is not None:
            try:
                return ast.literal_eval(value)
            except ValueError:
                return None
    return None


@cache
def literals(target: str, name: str) -> Mapping[str, Any]:
    """The dictionary of literals `name` of a class, with those of the classes above it; the nearest has precedence."""
    found: dict[str, Any] = {}
    for definition in ancestry(target):
        if (value := _assigned(definition.node, name)) is not None:
            found = {**ast.literal_eval(value), **found}
    return MappingProxyType(found)


def tables(target: str, name: str) -> Iterator[tuple[ast.expr, Module]]:
    """What is assigned to the class attribute `name`, in a class and in those above it, the nearest first."""
    for definition in ancestry(target):
        if (value := _assigned(definition.node, name)) is not None:
            yield value, definition.module


def ancestry(target: str) -> Iterator[Definition]:
    """A class and those that it inherits from, depth first, as far as their sources can be found."""
    definition = find(target)
    if definition is None or not isinstance(definition.node, ast.ClassDef):
        return
    yield definition
    for base in definition.node.bases:
        if path := origin(base, definition.module):
            yield from ancestry(path)


@cache
def find(target: str) -> Definition | None:
    """The definition of `target`, followed through imports; None where it cannot be read."""
    module_name, _, name = written_as(target).rpartition(".")
    module = _module(module_name) if module_name else None
    return Definition(module.defined[name], module) if module and name in module.defined else None


@cache
def written_as(target: str) -> str:
    """The name of what is at an import path in the module that defines it, as far as imports can be followed."""
    seen = set()
    while target not in seen:  # a package may import a module of its own under the module's name
        seen.add(target)
        module_name, _, name = target.rpartition(".")
        module = _module(module_name) if module_name else None
        if module and name not in module.defined and name in module.imported:
            target = module.imported[name]
    return target


def origin(expression: ast.expr, module: Module) -> str:
    """The import path of what a name, plain or dotted, refers to in `module`; empty where that is not known."""
    if isinstance(expression, ast.Attribute):
        owner = origin(expression.value, module)
        return f"{owner}.{expression.attr}" if owner else ""
    if not isinstance(expression, ast.Name):
        return ""
    if expression.id in module.defined:
        return f"{module.name}.{expression.id}"
    return module.imported.get(expression.id, "")


@cache
def place_of(name: str) -> Path | None:
    """The file of a module, or the folder of a package; imports nothing but packages above it."""
    top, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:  # `__main__`
        return None
    if spec is None:
        return None
    for root in spec.submodule_search_locations or ():
        place = Path(root, *rest)
        if place.is_dir():
            return place
        if place.with_suffix(".py").is_file():
            return place.with_suffix(".py")
    return Path(spec.origin) if not rest and spec.submodule_search_locations is None and spec.origin else None


@cache
def _module(name: str) -> Module | None:
    """A module by its source; None where there is none that can be read. Read once, as Python imports it once."""
    place = place_of(name)
    path = place / "__init__.py" if place and place.is_dir() else place
    if path is None or path.suffix != ".py":
        return None
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    defined: dict[str, ast.stmt] = {}
    imported: dict[str, str] = {}
    is_open = False
    for node in _top_level(tree.body):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            defined[node.name] = node
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            defined |= dict.fromkeys(_names(node), node)
        elif isinstance(node, ast.Import):
            imported |= {alias.asname or alias.name.partition(".")[0]: _bound(alias) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            is_open |= any(alias.name == "*" for alias in node.names)
            source = _absolute(node, package)
            imported |= {alias.asname or alias.name: f"{source}.{alias.name}" for alias in node.names}
    return Module(name, defined, imported, is_open or "__getattr__" in defined)


def _top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module, those under its `if`, `try` and `with` included."""
    for node in body:
        yield node
        if isinstance(node, (ast.If, ast.Try, ast.With)):
            yield from _top_level(node.body)
            yield from _top_level(getattr(node, "orelse", []))
            for handler in getattr(node, "handlers", []):
                yield from _top_level(handler.body)


def _names(node: ast.Assign | ast.AnnAssign) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]


def _bound(alias: ast.alias) -> str:
    """What `import a.b` binds is a; `import a.b as c` binds a.b."""
    return alias.name if alias.asname else alias.name.partition(".")[0]


def _absolute(node: ast.ImportFrom, package: str) -> str:
    """The module that is imported from, where it is written relative to `package`."""
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    return ".".join(filter(None, [*parts[: len(parts) - node.level + 1], node.module]))


@cache  # each check of a config asks a thousand times
def _assigned(node: ast.stmt, name: str) -> ast.expr | None:
    """The expression that a class body assigns to `name`."""
    for statement in getattr(node, "body", ()):
        if isinstance(statement, (ast.Assign, ast.AnnAssign)) and name in _names(statement):
            return statement.value
    return None
