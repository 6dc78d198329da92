"""The order of the packages: imports run downward only, and nothing imports in a circle.

The syntax tree is read, so imports inside functions and for type checkers count as well.
"""

import ast
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "ablate"

# From the bottom up: a package, or a module that stands alone, imports only what is named before it.
ORDER = (
    "terminal",
    "errors",
    "duration",
    "text",
    "ratio",
    "naming",
    "yaml_text",
    "packaged",
    "ranges",
    "orphans",
    "termination",
    "process_tree",
    "background",
    "machine",
    "garbage",
    "allocator",
    "lazy_torch",
    "statistics",
    "model",
    "config",
    "weights",
    "run",
    "study",
    "data",
    "tasks",
    "evaluation",
    "cost",
    "footprint",
    "integrations",
    "agent",
    "training",
    "fine_tuning",
    "worker",
    "report.text",
    "report.analysis",
    "report.render",
    "report.build",
    "report.profile",
    "transfer",
    "sweep",
    "cli",
    "api",
    "__main__",
)


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name below `ablate`; the package itself is ""."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(modules: dict[str, Path]) -> dict[str, set[str]]:
    """What each module imports of the package."""
    graph = defaultdict(set)
    for name, path in modules.items():
        graph[name] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: a relative import"
                targets = [f"{node.module}.{alias.name}" for alias in node.names] if node.module else []
            elif isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            else:
                continue
            for target in targets:
                if target.partition(".")[0] == "ablate":
                    graph[name].add(_module(target.partition(".")[2], modules))
    return graph


def _module(target: str, modules: dict[str, Path]) -> str:
    while target not in modules:
        target = target.rpartition(".")[0]
    return target


def rank(module: str) -> int | None:
    """Where the package of a module stands in the order; None for one that holds nothing but a docstring."""
    for number, package in enumerate(ORDER):
        if module == package or module.startswith(f"{package}."):
            return number
    return None


FOUND = modules()
GRAPH = imports(FOUND)


def test_every_module_has_a_place_in_the_order():
    assert [name for name in FOUND if rank(name) is None and name not in ("", "report")] == []
    assert all(any(name == part or name.startswith(f"{part}.") for name in FOUND) for part in ORDER)


def test_imports_run_downward():
    upward = [
        f"{name} imports {target}"
        for name, targets in GRAPH.items()
        for target in targets
        if name and target and rank(name) < rank(target)
    ]
    assert upward == []


def test_nothing_imports_in_a_circle():
    # the package itself, which a module may ask for its version, offers names of modules above
    graph = {
        name: {target for target in targets if target and target != name} for name, targets in GRAPH.items() if name
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_contributing_names_the_order():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    listed = [line.removeprefix("- `").partition("`")[0] for line in text.splitlines() if line.startswith("- `ablate/")]
    assert listed == [f"ablate/{part.replace('.', '/')}" for part in ORDER]
