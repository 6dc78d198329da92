"""What the pages of the documentation take from the project, and how links between them are written."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

from ablate.config import options
from tests.docs.texts import PAGES, ROOT

pytest.importorskip("mkdocs")
pytest.importorskip("material")
pytest.importorskip("mkdocstrings")


@pytest.fixture(scope="module")
def pages():
    spec = importlib.util.spec_from_file_location("pages", ROOT / "docs" / "hooks" / "pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_option_is_listed_with_its_settings(pages):
    text = pages.option_tables()
    for group, files in options.groups().items():
        assert f"### `{group}`" in text
        for option, path in files.items():
            assert f"| `{option}`" in text and f'"`{group}={option}`"' in text
            assert all(line.strip() in text for line in path.read_text().splitlines())


def test_a_group_without_a_description_stops_the_build(pages, monkeypatch):
    monkeypatch.delitem(pages.GROUPS, "norm")
    with pytest.raises(pages.PluginError, match="norm"):
        pages.option_tables()


@pytest.mark.parametrize(
    "folder, link, written",
    [
        ("docs", "[c](../CONTRIBUTING.md#a-norm)", "[c](contributing.md#a-norm)"),
        ("docs/reference", "[c](../../CHANGELOG.md)", "[c](../changelog.md)"),
        ("docs", "[t](tutorial.md)", "[t](tutorial.md)"),
        ("docs", "[m](reference/model.md)", "[m](reference/model.md)"),
        (".", "[a](docs/api.md)", "[a](api.md)"),
        (".", "[the sweep](sweeps/axes.yaml)", "the sweep"),
        ("docs", "[p](https://arxiv.org/abs/2102.11972)", "[p](https://arxiv.org/abs/2102.11972)"),
        ("docs", "[here](#identity)", "[here](#identity)"),
    ],
)
def test_links_between_files_become_links_between_pages(pages, folder, link, written):
    assert pages.links_to_pages(link, pages.PurePosixPath(folder)) == written


def test_a_link_to_nothing_stops_the_build(pages):
    with pytest.raises(pages.PluginError, match="nothing.md"):
        pages.links_to_pages("[n](nothing.md)", pages.PurePosixPath("docs"))


def test_builds_without_a_warning(tmp_path):
    """As `make docs` does, with no network: pages for all files, nothing fetched by a reader's browser."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}  # of the theme's future, not of these pages
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr and "ERROR" not in done.stderr
    for page in PAGES:
        assert (tmp_path / "site" / page.relative_to(ROOT / "docs").with_suffix(".html")).is_file()
    html = "".join(page.read_text() for page in (tmp_path / "site").rglob("*.html"))
    assert 'src="http' not in html and 'rel="stylesheet" href="http' not in html
