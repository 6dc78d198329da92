"""Peers that are fetched: whole or not at all."""

from __future__ import annotations

import subprocess

import pytest

from benchmarks.contestants import sources


@pytest.fixture
def peer(tmp_path, monkeypatch):
    """A repository with one commit, which is to be fetched into an empty folder; returns its path."""
    repository = tmp_path / "repository"
    repository.mkdir()
    (repository / "model.py").write_text(
        "from dataclasses import dataclass\n\n\n@dataclass\nclass Config:\n    a: int = 3\n"
    )
    git = ["git", "-C", str(repository), "-c", "user.name=a", "-c", "user.email=a@b.invalid"]
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "Begin"]):
        subprocess.run([*git, *command], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    monkeypatch.setattr(sources, "FOLDER", tmp_path / "peers")
    monkeypatch.setattr(sources, "INSTALLED", {})
    monkeypatch.setattr(sources, "COMMITS", {"peer": (str(repository), commit)})
    return repository


def test_fetch_and_load(peer, capsys):
    assert not sources.has("peer") and sources.main() == 0
    assert sources.load("peer", "model.py").Config().a == 3
    assert sources.main() == 0 and "there already" in capsys.readouterr().out


def test_a_fetch_that_fails_leaves_no_peer_and_can_be_asked_again(peer, capfd):
    elsewhere = peer.rename(peer.with_name("elsewhere"))
    assert sources.main() == 1 and not sources.has("peer")
    assert "peer: " in capfd.readouterr().err
    elsewhere.rename(peer)
    assert sources.main() == 0 and sources.has("peer")
