"""The docstrings of Python source files, cleaned. A program of its own, so that several can run at once.

python -P docstrings.py < files.json > units.json
"""

from __future__ import annotations

import ast
import gc
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

RULE = re.compile(r"^[^\w\s]{3,}$")  # underlines of titles, borders of tables
CODE = (">>>", "...", "In [", "$ ")
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
STOP_WORDS = frozenset("the of a to is and in for be this that if are with or it as by an on not from".split())


def units_of(file: str) -> list[list[str]]:
    """The units of one Python file, lists of paragraphs: the module with its functions, each class with its methods."""
    try:
        tree = ast.parse(Path(file).read_bytes())
    except (SyntaxError, ValueError, OSError, RecursionError, MemoryError):
        return []  # some packages ship examples of broken code
    module: list[str] = []
    units = [module]

    def visit(node: Documented, unit: list[str]) -> None:
        documentation = ast.get_docstring(node)
        if documentation:
            unit.extend(_paragraphs(documentation))
        for child in node.body:
            if isinstance(child, ast.ClassDef):
                units.append([])
                visit(child, units[-1])
            elif isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                visit(child, unit)

    visit(tree, module)
    return [unit for unit in units if unit]


def _paragraphs(documentation: str) -> Iterator[str]:
    """Paragraphs of English: no examples of code, no tables, no lone titles, no indentation."""
    for block in re.split(r"\n\s*\n", documentation):
        lines = [line.strip() for line in block.splitlines()]
        if any(line.startswith(CODE) for line in lines):
            continue
        text = "\n".join(line for line in lines if line and not RULE.match(line))
        letters = sum(map(str.isalpha, text)) + text.count(" ") + text.count("\n")
        if (
            text.isascii()
            and text.count(" ") >= 2
            and letters >= 0.75 * len(text)
            and (len(text) < 60 or _is_english(text))
        ):
            yield text


def _is_english(text: str) -> bool:
    words = text.lower().split()
    return sum(word in STOP_WORDS for word in words) >= 0.12 * len(words)


if __name__ == "__main__":
    gc.disable()  # syntax trees have no cycles worth collecting; this halves the time
    json.dump([units_of(file) for file in json.load(sys.stdin)], sys.stdout)
