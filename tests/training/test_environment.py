"""What a run says it was made with."""

from __future__ import annotations

import subprocess

import pytest

import ablate
from ablate.run.record import Git
from ablate.training import environment


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The package in somebody else's repository, as in an environment inside it."""
    package = tmp_path / "venv" / "ablate"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (tmp_path / "mine.txt").write_text("")
    _git(tmp_path, "init")
    _git(tmp_path, "add", "mine.txt")
    _git(tmp_path, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-m", "mine")
    monkeypatch.setattr(ablate, "__file__", str(package / "__init__.py"))
    environment.git_state.cache_clear()
    yield tmp_path
    environment.git_state.cache_clear()


def _git(folder, *words):
    subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True)


def test_another_repository_around_the_package_is_not_its_source(installed):
    assert environment.git_state() == Git()


def test_a_repository_that_tracks_the_package_is(installed):
    _git(installed, "add", ".")
    state = environment.git_state()
    assert len(state.sha) == 40 and state.dirty is True
