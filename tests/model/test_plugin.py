"""Variants in a package of one's own, one module and one YAML each: the example, and an activation beside it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import torch

from ablate.config import compose, options
from ablate.errors import UserError
from tests.model.tiny import SHAPE, batch_for, overrides, tiny, train_step

EXAMPLE = Path(__file__).parents[2] / "examples" / "my_variants"
PACKAGE = "my_variants"
ACTIVATION = f"""# x tanh(softplus(x)) (Misra 2019)
_target_: ablate.model.activation.Plain
_partial_: true
function:
  _target_: {PACKAGE}.activations.mish
  _partial_: true
"""
MISH = """from torch.nn import functional


def mish(h):
    return functional.mish(h)
"""


def write(folder: Path) -> Path:
    """The example's package, and an activation; the folder that they are in."""
    shutil.copytree(EXAMPLE / PACKAGE, folder / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in {"activations.py": MISH, "conf/activation/mish.yaml": ACTIVATION}.items():
        path = folder / PACKAGE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(write(tmp_path))
    monkeypatch.setenv(options.PLUGINS, PACKAGE)
    forget()
    yield
    forget()


def forget() -> None:
    """Each test has the package in a folder of its own."""
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]
    options._plugin_folders.cache_clear()


def test_builds_and_trains(plugin):
    model = tiny("norm=mean_absolute", "activation=mish", "norm.eps=1e-3")
    assert type(model.topology.encoder.stack.end).__name__ == "MeanAbsoluteNorm"
    assert model.topology.encoder.stack.end.eps == 1e-3
    assert torch.equal(model.topology.encoder.stack.end.scale.detach(), torch.ones(SHAPE["d_model"]))
    assert torch.isfinite(train_step(model, batch_for(model)))
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_mixes_with_the_options_that_are_there(plugin):
    model = tiny("norm=mean_absolute", "residual=deepnorm", "topology=encoder")
    assert type(model.topology.encoder.stack.blocks[0].steps[0].norm).__name__ == "MeanAbsoluteNorm"


def test_is_checked_like_the_others(plugin):
    with pytest.raises(UserError, match="did you mean 'mean_absolute'"):
        compose(overrides("norm=meanabsolute"))
    with pytest.raises(UserError, match="spread"):
        compose(overrides("norm=mean_absolute", "norm.spread=1"))


def test_is_refused_unless_it_is_named(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(write(tmp_path))
    with pytest.raises(UserError, match="norm=mean_absolute"):
        compose(overrides("norm=mean_absolute"))
    with pytest.raises(UserError, match=options.PLUGINS):
        compose(overrides(f"norm._target_={PACKAGE}.norms.MeanAbsoluteNorm"))
