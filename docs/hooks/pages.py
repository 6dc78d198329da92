"""What the documentation takes from the rest of the project when it is built, so that it cannot go stale.

CONTRIBUTING.md and CHANGELOG.md become pages; the options of `conf/` replace the line `<!-- options -->` of a page, the
root configuration the line `<!-- config -->`. Links are written as they work in the repository: those to files that
have no page keep their text alone.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from ablate.config import options

ROOT = Path(__file__).parents[2]
PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md", "README.md": "index.md"}
GENERATED = ("CONTRIBUTING.md", "CHANGELOG.md")
IMAGES = ("reports/axes-c4/forest.png",)
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#\s]*)(#[^)\s]*)?\)")
GROUPS = {
    "topology": "Which stacks a model has, and who sees whom.",
    "norm": "Normalisation.",
    "residual": "How a sub-layer joins the residual stream.",
    "block": "What a layer is made of, and where its norms are.",
    "bias": "Which projections have a bias.",
    "activation": "The activation of the feed-forward.",
    "feedforward": "The position-wise sub-layer.",
    "attention": "Which tokens attend to which, and how.",
    "position": "How a model knows the order of tokens.",
    "stack": "How the layers follow each other.",
    "sharing": "Which layers share their weights.",
    "embedding": "From ids to vectors.",
    "head": "From vectors to probabilities.",
    "init": "Initial values, by the role of a parameter.",
    "objective": "What is predicted from what.",
    "data": "The text.",
    "tokenizer": "From text to ids.",
    "optimizer": "The update rule.",
    "schedule": "The learning rate by step.",
    "trainer": "Device, precision, steps, batch.",
    "logger": "Where metrics are mirrored.",
    "evaluation": "What is measured on held-out text.",
    "shape": "The base numbers, the same for every row of a sweep.",
    "preset": "A published model: options and keys of the other groups.",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and images that are outside docs/."""
    for name in GENERATED:
        text = links_to_pages((ROOT / name).read_text(encoding="utf-8"), PurePosixPath("."))
        files.append(File.generated(config, PAGES[name], content=text))
    for name in IMAGES:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """A page's text with its links, and with what is made from `conf/`."""
    if page.file.generated_by is None:
        markdown = links_to_pages(markdown, PurePosixPath("docs", page.file.src_uri).parent)
        for name in IMAGES:
            markdown = markdown.replace(f"](../{name})", f"]({name})")
    if "<!-- options -->" in markdown:
        markdown = markdown.replace("<!-- options -->", option_tables())
    root = fenced("yaml", (options.CONF / "config.yaml").read_text(encoding="utf-8"))
    return markdown.replace("<!-- config -->", root)


def links_to_pages(markdown: str, folder: PurePosixPath) -> str:
    """`markdown`, which is in `folder` of the repository, with links to files turned into links between pages."""

    def page_of(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        if not target or "://" in target or target.startswith("mailto:"):
            return match[0]
        path = _normal(folder / target)
        if not (ROOT / path).exists():
            raise PluginError(f"{folder}: the link {match[0]} leads to no file")
        if path in PAGES:
            return f"[{text}]({_up(folder)}{PAGES[path]}{anchor})"
        if path.startswith("docs/") and path.endswith(".md"):
            return f"[{text}]({_up(folder)}{path.removeprefix('docs/')}{anchor})"
        return text

    return LINK.sub(page_of, markdown)


def _normal(path: PurePosixPath) -> str:
    """A path of the repository without `..`."""
    parts: list[str] = []
    for part in path.parts:
        if part == ".." and parts:
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)


def _up(folder: PurePosixPath) -> str:
    """From a page in `folder` to the root of the pages; those made from the project's root are there already."""
    return "../" * max(len(folder.parts) - 1, 0)


def option_tables() -> str:
    """Every group with its options, and each option's file."""
    groups = options.groups()
    if unknown := sorted(groups.keys() ^ GROUPS.keys()):
        raise PluginError(f"{Path(__file__).name}: GROUPS and conf/ differ in {', '.join(unknown)}")
    return "\n\n".join(_group(group, files) for group, files in groups.items())


def _group(group: str, files: dict[str, Path]) -> str:
    chosen = _chosen(options.defaults().get(group))
    lines = [f"### `{group}`", "", GROUPS[group], "", "| option | what it is |", "|---|---|"]
    for option, path in files.items():
        mark = " (baseline)" if option in chosen else ""
        lines.append(f"| `{option}`{mark} | {_cell(options.description(path))} |")
    for option, path in files.items():
        text = fenced("yaml", path.read_text(encoding="utf-8"))
        lines += ["", f'??? note "`{group}={option}`"', "", *(f"    {line}".rstrip() for line in text.splitlines())]
    return "\n".join(lines)


def _chosen(default: Any) -> list[str]:
    """The baseline's options of a group, which has one, or several side by side."""
    return [] if default is None else [default] if isinstance(default, str) else list(default)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def fenced(language: str, text: str) -> str:
    """A block of code."""
    return f"```{language}\n{text.rstrip()}\n```"
