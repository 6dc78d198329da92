"""Parts of torch that are imported when they are used and not before: its compiler and its symbolic sizes.

They take two thirds of the time that torch and Lightning take to import, and are needed where something is compiled.
Elsewhere they are imported only to answer questions that have one answer as long as nobody has used them:

torch._dynamo     torch's optimizers have it leave some functions alone: it leaves all alone. Lightning asks whether a
                  model was compiled: none was.
symbolic_shapes   operations on the meta device ask whether a size is known: it is a number, so it is.
sympy             they ask whether a size is an expression: none is.

After `install()` a module is in the place of each that gives these answers. Asked for anything else, or for a part,
it makes way for the real one, which from then on also gives the answers that were asked of this one, so that whoever
compiles later in the same process finds all as it is without this module.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import operator
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import FunctionType, ModuleType
from typing import Any

COMPILER, SIZES, ALGEBRA = "torch._dynamo", "torch.fx.experimental.symbolic_shapes", "sympy"


def install() -> None:
    """From now on import these parts when they are used; does nothing for those that are imported already."""
    import torch  # noqa: F401  itself first, so that it is not imported as the parent of one of them

    for name, answers in ANSWERS.items():
        if name not in sys.modules and (spec := importlib.util.find_spec(name)):
            sys.modules[name] = _Unimported(spec, answers)
    if not any(isinstance(finder, _Submodules) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Submodules())


def is_imported(name: str) -> bool:
    """Whether the real module of this name is there."""
    return not isinstance(sys.modules.get(name), _Unimported)


def _real(name: str) -> Any:
    """The real module, imported at the latest now."""
    before = sys.modules.get(name)
    if not isinstance(before, _Unimported):
        return importlib.import_module(name)
    del sys.modules[name]
    module = importlib.import_module(name)
    vars(before).update(vars(module))  # for whoever holds it
    return module


class _Unimported(ModuleType):
    """In the place of a module that is imported when more is asked of it than it has an answer to."""

    def __init__(self, spec: ModuleSpec, answers: Mapping[str, Any]) -> None:
        super().__init__(spec.name)
        self.__spec__ = spec
        if spec.submodule_search_locations is not None:
            self.__path__ = list(spec.submodule_search_locations)
        vars(self).update(answers)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what Python asks of every module
            raise AttributeError(name)
        return getattr(_real(self.__name__), name)


class _Submodules(MetaPathFinder, Loader):
    """Imports such a module as a whole before a part of it; it may have brought that part along."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Where a part of a module is that is not imported; None for any other one, which is left to Python."""
        parent = name.rpartition(".")[0]
        if parent not in ANSWERS or is_imported(parent):
            return None
        _real(parent)
        if (there := sys.modules.get(name)) is None:
            return importlib.util.find_spec(name)
        return ModuleSpec(name, self, loader_state=(there, there.__spec__))

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """The part that was brought along."""
        module: ModuleType
        module, own_spec = spec.loader_state
        vars(module)["__loader_state__"] = own_spec
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Leave the part as it is: it has been executed."""
        module.__spec__ = vars(module).pop("__loader_state__")


def _until_imported(name: str, attribute: str, answer: Callable[..., Any]) -> Callable[..., Any]:
    """`answer`, and the real function once that is there."""

    def asked(*arguments: Any, **options: Any) -> Any:
        function = getattr(sys.modules[name], attribute) if is_imported(name) else answer
        return function(*arguments, **options)

    return asked


class _Kind(type):
    """Of classes that have no instances until the real class is there, and then those of that."""

    real: tuple[str, str]  # its module and name

    def __instancecheck__(cls, instance: Any) -> bool:
        name, attribute = cls.real
        return is_imported(name) and isinstance(instance, getattr(sys.modules[name], attribute))


def _class(name: str, attribute: str) -> type:
    return _Kind(attribute, (), {"real": (name, attribute)})


def _disable(function: Any = None, recursive: bool = True, **options: Any) -> Any:
    """As `torch._dynamo.disable`: a function that the compiler leaves alone, once there is one."""
    if function is None:
        return functools.partial(_disable, recursive=recursive, **options)
    if not isinstance(function, FunctionType):
        return _real(COMPILER).disable(function, recursive, **options)
    disabled: Callable[..., Any] | None = None

    @functools.wraps(function)
    def call(*arguments: Any, **keywords: Any) -> Any:
        nonlocal disabled
        if disabled is None:
            if not is_imported(COMPILER):
                return function(*arguments, **keywords)
            disabled = _real(COMPILER).disable(function, recursive, **options)
        return disabled(*arguments, **keywords)

    return call


def _as_it_is(value: Any, *_: Any, **__: Any) -> Any:
    return value


def _equal(one: Any, other: Any) -> bool:
    """Equality of numbers, or of sequences of them whether lists or tuples."""
    return bool([*one] == [*other] if isinstance(one, (tuple, list)) else one == other)


_OF_SIZES: Mapping[str, Callable[..., Any]] = {
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
}

ANSWERS: Mapping[str, Mapping[str, Any]] = {
    COMPILER: {"disable": _disable, "OptimizedModule": _class(COMPILER, "OptimizedModule")},
    SIZES: {attribute: _until_imported(SIZES, attribute, answer) for attribute, answer in _OF_SIZES.items()},
    ALGEBRA: {"Basic": _class(ALGEBRA, "Basic")},
}
