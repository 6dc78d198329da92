"""JSON objects as frozen dataclasses: their types are checked, and what is read is written back as it was."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from typing import Any, Self, Union, get_args, get_origin, get_type_hints

WORDS = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}
KEPT = ("unknown", "order")  # fields that are not keys
OPTIONAL = {"optional": True}  # metadata of a field that is written only where it has a value


class DamagedJSON(ValueError):
    """A key of a JSON object is missing, or its value is of another type; says which."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class JSONObject:
    """Base of the dataclasses whose fields are the keys of a JSON object.

    Types of fields may be int, float (which takes whole numbers too), str, bool, tuple[T, ...], Mapping[str, T], a
    dataclass with `from_json` and `to_json`, each also with `| None`, and Any.

    unknown: keys that this version does not have, with their values: a newer one may have written them.
    order: the keys as they were read; None for an object that is made here. Does not count for equality.
    """

    unknown: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    order: tuple[str, ...] | None = dataclasses.field(default=None, compare=False, repr=False)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The object that `content` describes; raises `DamagedJSON`."""
        fields = _fields(cls)
        for name, (_, field) in fields.items():
            if name not in content and _is_required(field):
                raise DamagedJSON(f"{name} is missing")
        unknown = {key: value for key, value in content.items() if key not in fields}
        return cls(**cls._decoded(content), unknown=unknown, order=tuple(content))

    @classmethod
    def _decoded(cls, content: Mapping[str, Any]) -> dict[str, Any]:
        fields = _fields(cls)
        return {key: _decode(fields[key][0], value, key) for key, value in content.items() if key in fields}

    def with_json(self, changes: Mapping[str, Any]) -> Self:
        """The object with other values for some of its fields, given as JSON or as they are; raises `DamagedJSON`."""
        for key in changes:
            if key not in _fields(type(self)):
                raise DamagedJSON(f"{key} is unknown")
        return dataclasses.replace(self, **self._decoded(changes))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON: the keys that were read, in their order, then those that have got a value since."""
        values = {name: _encode(getattr(self, name)) for name in _fields(type(self))}
        new = [name for name, (_, field) in _fields(type(self)).items() if self._is_written(name, field)]
        keys = [key for key in self.order or () if key in self.unknown or not self._is_left_out(key)]
        content = {**values, **self.unknown}
        return {key: content[key] for key in dict.fromkeys([*keys, *new, *self.unknown])}

    def _is_written(self, name: str, field: dataclasses.Field[Any]) -> bool:
        """Whether a key is written that was not read."""
        return not self._is_left_out(name) if self.order is None else getattr(self, name) != _default(field)

    def _is_left_out(self, name: str) -> bool:
        """Whether a field is optional and has no value."""
        field = _fields(type(self))[name][1]
        return bool(field.metadata.get("optional")) and getattr(self, name) == _default(field)


_FIELDS: dict[type, dict[str, tuple[Any, dataclasses.Field[Any]]]] = {}  # by class


def _fields(cls: type[JSONObject]) -> dict[str, tuple[Any, dataclasses.Field[Any]]]:
    """The fields that are keys, with their types."""
    if cls not in _FIELDS:
        hints, fields = get_type_hints(cls), dataclasses.fields(cls)
        _FIELDS[cls] = {field.name: (hints[field.name], field) for field in fields if field.name not in KEPT}
    return _FIELDS[cls]


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _decode(kind: Any, value: Any, key: str) -> Any:
    """`value`, the JSON of `key`, as the type `kind`; raises `DamagedJSON`."""
    if get_origin(kind) in (Union, types.UnionType):
        (kind,) = (part for part in get_args(kind) if part is not types.NoneType)
        return None if value is None else _decode(kind, value, key)
    if kind is Any:
        return value
    if kind in WORDS:
        accepted = (int, float) if kind is float else kind
        if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
            raise DamagedJSON(f"{key} must be {WORDS[kind]}, and is {value!r:.60}")
        return value
    if get_origin(kind) is tuple:
        if not isinstance(value, (list, tuple)):
            raise DamagedJSON(f"{key} must be a list")
        return tuple(_decode(get_args(kind)[0], item, f"{key}[{index}]") for index, item in enumerate(value))
    if isinstance(kind, type) and isinstance(value, kind):
        return value
    if not isinstance(value, Mapping):
        raise DamagedJSON(f"{key} must be a mapping")
    if get_origin(kind) is None:
        return _decode_object(kind, value, key)
    return {name: _decode(get_args(kind)[1], item, f"{key}.{name}") for name, item in value.items()}


def _decode_object(kind: Any, content: Mapping[str, Any], key: str) -> Any:
    try:
        return kind.from_json(content)
    except DamagedJSON as error:
        raise DamagedJSON(f"{key}.{error}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedJSON(f"{key} cannot be read ({error})") from None


def _encode(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _encode(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encode(item) for item in value]
    return value.to_json() if hasattr(value, "to_json") else value
