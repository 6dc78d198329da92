"""What holds for every test: one thread, no hub, no dashboards."""

from __future__ import annotations

import os

# Before torch is imported: a second thread only gets in the way of tests that run side by side.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ.setdefault("WANDB_MODE", "disabled")
os.environ.pop("WANDB_API_KEY", None)

import pytest


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """`asked(*overrides)`: the overrides of a tiny run in the test's own folder, on a text that needs no preparing."""
    from tests.training import standin

    standin.install(monkeypatch)
    return lambda *more: standin.overrides(tmp_path, *more)
