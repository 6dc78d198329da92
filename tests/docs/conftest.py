"""The package of all recipes, as tests use it."""

from __future__ import annotations

import sys

import pytest

from ablate.config import options
from tests.docs.texts import PACKAGE, write_package


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A folder with the package of all recipes, which is trusted."""
    write_package(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(options.PLUGINS, PACKAGE)
    forget()
    yield tmp_path
    forget()


def forget() -> None:
    """Each test has the package in a folder of its own."""
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]
    options._plugin_folders.cache_clear()
