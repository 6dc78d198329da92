"""What the documentation shows works: Python runs, commands compose, sweeps are read, links lead somewhere."""

from __future__ import annotations

import re
import shlex

import pytest
import yaml

from ablate.cli import VERBS
from ablate.config import compose, options
from ablate.errors import UserError
from ablate.study import definition
from tests.docs.texts import PAGES, ROOT, TEXTS, blocks, write_text

WITH_PYTHON = [page for page in PAGES if blocks(page, "python")]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: page.stem)
def test_python_runs(page, tmp_path, monkeypatch):
    """The blocks of a page, one after the other, in a folder with a text."""
    write_text(tmp_path / "text.txt")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for number, block in enumerate(blocks(page, "python"), 1):
        exec(compile(block, f"{page.name}, block {number}", "exec"), names)


def commands() -> list[tuple[str, list[str]]]:
    """Every `ablate ...` of the shell blocks, as words."""
    found = []
    for path in TEXTS:
        for block in blocks(path, "sh"):
            for line in block.splitlines():
                if line.startswith("ablate "):
                    found.append((path.name, shlex.split(line, comments=True)))
    return found


@pytest.mark.parametrize("where, words", commands(), ids=lambda it: it if isinstance(it, str) else " ".join(it[1:]))
def test_commands_are_valid(where, words, plugin):
    verb, *rest = words[1:]
    assert verb in VERBS
    if verb == "options":
        for word in rest:
            group, _, option = word.partition("=")
            assert not option or options.file_of(group, option)
    elif verb in ("train", "cost") and not {"-m", "--reference"} & set(rest):
        compose([word for word in rest if "=" in word and not word.startswith(("sweep=", "row="))])


def sweeps() -> list[tuple[str, str]]:
    """Every sweep file that a text shows."""
    shown = [(path.name, block) for path in TEXTS for block in blocks(path, "yaml")]
    return [(name, block) for name, block in shown if "question:" in block]


@pytest.mark.parametrize("where, text", sweeps(), ids=lambda it: it if "\n" not in it else "")
def test_sweeps_are_valid(where, text, tmp_path, plugin):
    (tmp_path / "shown.yaml").write_text(text)
    sweep = definition.load("shown", tmp_path)
    assert len(sweep.rows) >= 2
    for overrides in sweep.rows.values():
        compose([*sweep.base, *overrides])


def test_yaml_is_valid():
    for path in TEXTS:
        for block in blocks(path, "yaml"):
            assert yaml.safe_load(block) is not None, path


def anchors(text: str) -> set[str]:
    """The anchors of a Markdown file's headings."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)).strip() for heading in headings)
    return {heading.lower().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("path", [*TEXTS, ROOT / "CHANGELOG.md"], ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        there = path.parent / file if file else path
        assert there.exists(), target
        assert not anchor or anchor in anchors(there.read_text()), target


def test_a_mistake_is_as_the_texts_show_it():
    for path in (ROOT / "README.md", ROOT / "docs/tutorial.md"):
        (shown,) = re.findall(r"^\$ ablate train (\S+)\nablate: (.*?), \.\.\.\)$", path.read_text(), re.MULTILINE)
        with pytest.raises(UserError) as caught:
            compose([shown[0]])
        assert str(caught.value).startswith(shown[1])
