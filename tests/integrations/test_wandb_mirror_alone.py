"""The detached mirror's own process, called in this one: what it is told, what it leaves, without W&B."""

import json
import sys
from pathlib import Path

import pytest

from ablate.integrations import wandb, wandb_mirror
from ablate.integrations.wandb_sync import KEY
from ablate.run.lock import is_held

MIRROR = {"project": "mine", "entity": None, "sync_seconds": 4}


@pytest.fixture
def started(tmp_path, monkeypatch):
    """`started(what, *more, result=)`: run the mirror; `calls` has what it did, with the folder's lock held."""
    monkeypatch.setattr(wandb_mirror, "insist", lambda pid: None)
    calls = []

    def start(what, *more, result=""):
        def work(*given):
            calls.append((*given, is_held(wandb.lock_file(tmp_path)), KEY in wandb_mirror.os.environ))
            if isinstance(result, Exception):
                raise result
            return result

        def leave(code):
            raise SystemExit(code)

        for name in ("mirror_run", "mirror_report"):
            monkeypatch.setattr(wandb_mirror, name, lambda *given, name=name: work(name, *given))
        monkeypatch.setattr(wandb_mirror.os, "_exit", leave)
        monkeypatch.setenv(KEY, "secret")
        job = {"mirror": MIRROR, "what": what, "folder": str(tmp_path), "more": more}
        monkeypatch.setattr(sys, "argv", ["mirror", json.dumps(job)])
        (tmp_path / "wandb").mkdir(exist_ok=True)
        (tmp_path / wandb.LOG).touch()
        with pytest.raises(SystemExit, match="^0$"):
            wandb_mirror.main()

    start.calls = calls
    return start


def test_a_run_or_a_report_is_mirrored_with_the_key_in_hand_and_under_a_lock(started, tmp_path, capsys):
    started("run")
    assert wandb.read_problem(tmp_path) == "" and capsys.readouterr().out == "sent\n"
    started("report", "axes", "reports/axes", "abc", result="no route")
    assert wandb.read_problem(tmp_path) == "no route"
    assert capsys.readouterr().out == f"not sent (no route); `wandb sync {tmp_path / 'wandb'}` sends it\n"
    mirror = wandb.Mirror(**MIRROR)
    assert started.calls == [
        ("mirror_run", mirror, tmp_path, "secret", True, False),
        ("mirror_report", mirror, tmp_path, "axes", Path("reports/axes"), "abc", "secret", True, False),
    ]


def test_one_that_breaks_leaves_why(started, tmp_path):
    with pytest.raises(ValueError, match="two"):
        started("run", result=ValueError("on\ntwo lines"))
    assert wandb.read_problem(tmp_path) == "nothing was written: on two lines"
