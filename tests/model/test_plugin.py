"""A variant by a stranger: one module and one YAML in a package of their own, named in ABLATE_PLUGINS."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ablate.config import compose, library
from ablate.errors import UserError
from tests.model.tiny import batch_for, overrides, tiny, train_step

ROOT = Path(library.__file__).parents[2]
PACKAGE = "strangers_variants"
MODULE = '''
import torch
from torch import nn

from ablate.model.contract import declare
from ablate.model.norm import Norm


class TanhNorm(Norm):
    """tanh(a x) times a scale for each channel (Zhu et al. 2025, Dynamic Tanh)."""

    def __init__(self, parts, place, *, start, width=None):
        super().__init__()
        width = width or parts.d_model
        self.slope = declare(nn.Parameter(torch.empty(())), "constant", value=start, place=place)
        self.scale = declare(nn.Parameter(torch.empty(width)), "scale", place=place)

    def forward(self, x, view):
        return torch.tanh(self.slope * x) * self.scale


def mish(h):
    return h * torch.tanh(nn.functional.softplus(h))
'''
NORM = f"""# tanh in place of a norm (Zhu et al. 2025)
_target_: {PACKAGE}.tanh_norm.TanhNorm
_partial_: true
start: 0.5
"""
ACTIVATION = f"""# x tanh(softplus(x)) (Misra 2019)
_target_: ablate.model.activation.Plain
_partial_: true
function:
  _target_: {PACKAGE}.tanh_norm.mish
  _partial_: true
"""


def write(folder: Path) -> Path:
    """The stranger's package; the folder it lies in."""
    files = {"tanh_norm.py": MODULE, "conf/norm/tanh_norm.yaml": NORM, "conf/activation/mish.yaml": ACTIVATION}
    for name, text in files.items():
        path = folder / PACKAGE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(write(tmp_path))
    monkeypatch.setenv(library.PLUGINS, ",".join((*library.plugins(), PACKAGE)))
    yield
    sys.modules.pop(PACKAGE, None)
    sys.modules.pop(f"{PACKAGE}.tanh_norm", None)


def ablate(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """The command, started in `folder`, with the stranger's package within reach."""
    plugins = ",".join((*library.plugins(), PACKAGE))
    path = os.pathsep.join(filter(None, (str(folder), str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path, library.PLUGINS: plugins, **environment}
    command = [sys.executable, "-m", "ablate", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=110)


def test_builds_and_trains(plugin):
    model = tiny("norm=tanh_norm", "activation=mish", "norm.start=0.25")
    assert type(model.topology.encoder.stack.end).__name__ == "TanhNorm"
    assert model.topology.encoder.stack.end.slope.item() == 0.25
    assert torch.isfinite(train_step(model, batch_for(model)))
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_mixes_with_the_options_that_are_there(plugin):
    model = tiny("norm=tanh_norm", "residual=deepnorm", "topology=encoder")
    assert type(model.topology.encoder.stack.blocks[0].steps[0].norm).__name__ == "TanhNorm"


def test_is_checked_like_the_others(plugin):
    with pytest.raises(UserError, match="did you mean 'tanh_norm'"):
        compose(overrides("norm=tanhnorm"))
    with pytest.raises(UserError, match="start"):
        compose(overrides("norm=tanh_norm", "norm.strat=1"))


def test_is_refused_unless_it_is_named(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(write(tmp_path))
    with pytest.raises(UserError, match="norm=tanh_norm"):
        compose(overrides("norm=tanh_norm"))
    with pytest.raises(UserError, match=library.PLUGINS):
        compose(overrides(f"norm._target_={PACKAGE}.tanh_norm.TanhNorm"))


def test_is_listed_by_the_command(tmp_path):
    done = ablate(write(tmp_path), "options")
    assert done.returncode == 0, done.stderr
    assert "tanh_norm" in done.stdout and "tanh in place of a norm" in done.stdout
