"""The texts of the documentation, and the blocks of code in them."""

from __future__ import annotations

import random
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = "my_variants"
PAGES = sorted((ROOT / "docs").rglob("*.md"))
TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "examples/my_variants/README.md", *PAGES]


def blocks(path: Path, language: str) -> list[str]:
    """The fenced blocks of one language in a Markdown file."""
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def recipes() -> dict[str, str]:
    """The files that the recipes of CONTRIBUTING.md show, by name."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^In `([\w./]+)`[^`]*?:\n\n```\w+\n(.*?)^```", text, re.DOTALL | re.MULTILINE))


def write_package(folder: Path) -> None:
    """The package of all recipes, in `folder`."""
    for name, text in {f"{PACKAGE}/__init__.py": "", **recipes()}.items():
        if name.startswith(PACKAGE):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")


def write_text(path: Path, words: int = 2000, paragraphs: int = 300) -> None:
    """A text with as many words as a vocabulary of 2,048 pieces needs."""
    choose = random.Random(0)
    known = ["".join(choose.choices("abcdefghijklmnopqrstuvwxyz", k=choose.randint(2, 9))) for _ in range(words)]
    path.write_text("\n\n".join(" ".join(choose.choices(known, k=60)) for _ in range(paragraphs)), encoding="utf-8")
