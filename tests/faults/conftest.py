"""Tiny runs on a text that needs no preparing."""

import pytest

from tests.training import standin


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """`asked(*overrides)`: the overrides of a tiny run under the test's own folder."""
    standin.install(monkeypatch)
    return lambda *more: standin.overrides(tmp_path, *more)
