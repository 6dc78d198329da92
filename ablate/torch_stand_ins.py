"""What a process that only counts does without: torch's compiler, its symbolic shapes, and sympy; 1.5 s of imports.

Where torch marks a function as one not to compile, it imports the compiler when that is first called; where it computes
a shape or a dtype on the meta device, it imports the others, to ask whether a size is a number. Here nothing is
compiled and each size is one.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import operator
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any


class StandIn(types.ModuleType):
    """A module in which some names are defined; the module itself is imported where another is asked for."""

    def __init__(self, name: str, defined: Mapping[str, Any]) -> None:
        super().__init__(name)
        vars(self).update(defined)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # which `from ... import` looks for
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


@contextlib.contextmanager
def counting_only() -> Iterator[None]:
    """Put a stand-in in the place of each of `DEFINED` that is not imported yet.

    What torch has called in here stays unmarked, so this is for processes that compile nothing.
    """
    stand_ins = {name: StandIn(name, defined) for name, defined in DEFINED.items() if name not in sys.modules}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name, module in stand_ins.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


def _as_it_is(value: Any, *_: Any, **__: Any) -> Any:
    return value


def _equal(one: Any, other: Any) -> bool:
    """Equality of numbers, or of sequences of them whether lists or tuples."""
    return bool([*one] == [*other] if isinstance(one, (tuple, list)) else one == other)


DEFINED: Mapping[str, Mapping[str, Any]] = {
    "torch._dynamo": {"disable": _as_it_is},
    "torch.fx.experimental.symbolic_shapes": {
        "expect_true": _as_it_is,
        "guard_int": _as_it_is,
        "guard_or_false": _as_it_is,
        "guard_or_true": _as_it_is,
        "guard_size_oblivious": _as_it_is,
        "guarding_hint_or_throw": _as_it_is,
        "statically_known_true": _as_it_is,
        "free_unbacked_symbols": lambda sizes: frozenset(),
        "has_guarding_hint": lambda size: True,
        "is_nested_int": lambda size: False,
        "sym_and": lambda *conditions: functools.reduce(operator.and_, conditions),
        "sym_or": lambda *conditions: functools.reduce(operator.or_, conditions),
        "sym_eq": _equal,
    },
    "sympy": {"Basic": type("Basic", (), {})},  # the class of symbolic sizes; nothing is one
}
