"""Whether each value is possible by itself and beside the others, as the class says that has the key.

Which class that is follows from the `_target_` nearest above a key; keys above all of them belong to the sections of
config/root.py. What a class declares is read from its source, so that nothing is imported to judge a plan.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from ablate import ranges
from ablate.config import evaluations, points, sources
from ablate.config.batch import share_by
from ablate.config.renamed import RENAMED
from ablate.config.root import SECTIONS
from ablate.config.slots import TARGET
from ablate.errors import UserError
from ablate.naming import check_study_name
from ablate.ranges import Range, Relation

OFFER = "ablate.ranges."
ANY = Range("", lambda _: True, most=2**63 - 1)  # of a key without a range: what torch can count


def problems(flat: Mapping[str, Any]) -> list[str]:
    """A line for each value that is impossible by itself; if there is none, for each that does not fit the others."""
    owners = _owners(flat)
    errors = [*_names(flat), *_ranges(flat, owners), *_points(flat), *_old_entries(flat)]
    return errors or [*_relations(flat, owners), *_batch(flat)]


def _owners(flat: Mapping[str, Any]) -> dict[str, str]:
    """The class of each mapping that names one, by the path of the mapping."""
    return {key.rpartition(".")[0]: target for key, target in flat.items() if key.rpartition(".")[2] == TARGET}


def _ranges(flat: Mapping[str, Any], owners: Mapping[str, str]) -> Iterator[str]:
    tables = _tables(owners, "ranges")
    for key, value in flat.items():
        one, _ = _declared(key, tables)
        if isinstance(value, (dict, list)):
            continue
        if problem := (one or ANY).problem(value):
            yield f"{key}={value}: {problem}"


def _points(flat: Mapping[str, Any]) -> Iterator[str]:
    """A line for each evaluation whose points of training are none."""
    return points.problems(flat, evaluations.GROUP, evaluations.PART_OF_TRAINING)


def _relations(flat: Mapping[str, Any], owners: Mapping[str, str]) -> Iterator[str]:
    tables = _tables(owners, "relations")
    for key, value in flat.items():
        one, path = _declared(key, tables)
        if one:
            other = one.other if "." in one.other or not path else f"{path}.{one.other}"
            if problem := one.problem(key, value, other, flat.get(other)):
                yield problem


def _tables(owners: Mapping[str, str], name: str) -> dict[str, Mapping[str, Any]]:
    """What the classes of a config declare under `name`, by the paths of their mappings."""
    return _of_sections(name) | {path: declared(target, name) for path, target in owners.items()}


@cache
def _of_sections(name: str) -> dict[str, Mapping[str, Any]]:
    return {path: ranges.declared(section, name) for path, section in SECTIONS.items()}


def _declared(key: str, tables: Mapping[str, Mapping[str, Any]]) -> tuple[Any, str]:
    """What the class says of a key that has it, and the path of that class; the keys below count as its own."""
    path = key
    while path:
        path = path.rpartition(".")[0]
        if path in tables:
            return tables[path].get(key[len(path) + 1 :] if path else key), path
    return None, ""


@cache
def declared(target: str, name: str) -> dict[str, Range | Relation]:
    """The `ranges` or `relations` of a class, by its source, with those of the classes above it.

    Raises `UserError` where they are not what `ablate.ranges` offers.
    """
    found: dict[str, Range | Relation] = {}
    for table, module in sources.tables(target, name):
        try:
            found = _read(table, module) | found
        except (ValueError, TypeError, AttributeError):
            raise UserError(
                f"{target}: {name} must be a dictionary of what ablate.ranges offers, such as {{'eps': POSITIVE}}"
            ) from None
    return found


def _read(table: ast.expr, module: sources.Module) -> dict[str, Any]:
    if not isinstance(table, ast.Dict) or None in table.keys:
        raise ValueError
    return {
        ast.literal_eval(key): _offered(value, module)
        for key, value in zip(table.keys, table.values, strict=True)
        if key is not None
    }


def _offered(expression: ast.expr, module: sources.Module) -> Any:
    """The value of an expression: a name of `ablate.ranges`, or a call of one with literals."""
    if isinstance(expression, ast.Call):
        return _offered(expression.func, module)(*map(ast.literal_eval, expression.args))
    path = sources.origin(expression, module)
    if not path.startswith(OFFER):
        raise ValueError
    return getattr(ranges, path.removeprefix(OFFER))


def _names(flat: Mapping[str, Any]) -> Iterator[str]:
    sweep, row = str(flat.get("sweep")), str(flat.get("row"))
    try:
        check_study_name(sweep)
    except UserError as error:
        yield str(error)
    if not row.isprintable():
        yield f"row={row!r}: a label is one line of printable text"


def _old_entries(flat: Mapping[str, Any]) -> Iterator[str]:
    """A line for each key of a group of parameters that has another name now."""
    for number, entry in enumerate(flat.get("parameter_groups") or ()):
        for key in entry if isinstance(entry, dict) else ():
            if new := RENAMED.get(f"own_rates.{key}"):
                yield f"parameter_groups[{number}].{key} is now called {new.rpartition('.')[2]}"


def _batch(flat: Mapping[str, Any]) -> Iterator[str]:
    """Whether the global batch can be made of whole sequences, shared by all devices and micro-batches."""
    if flat.get("trainer.global_batch_tokens") is None or flat.get("objective.length") is None:
        return
    try:
        share_by(flat.get)
    except UserError as error:
        yield str(error)
