"""A variant by a stranger, as the README has it: one module and one YAML in a package of their own."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ablate.config import compose, options
from ablate.errors import UserError
from tests.model.tiny import SHAPE, batch_for, overrides, tiny, train_step

ROOT = Path(options.__file__).parents[2]
PACKAGE = "my_variants"
ACTIVATION = f"""# x tanh(softplus(x)) (Misra 2019)
_target_: ablate.model.activation.Plain
function:
  _target_: {PACKAGE}.activations.mish
"""
MISH = """from torch.nn import functional


def mish(h):
    return functional.mish(h)
"""


def write(folder: Path) -> Path:
    """The files that the README shows, and an activation; the folder that they lie in."""
    blocks = re.findall(r"`(my_variants/\S+)`[^`]*```\w+\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    files = dict(blocks)
    assert sorted(files) == [f"{PACKAGE}/conf/norm/mean_absolute.yaml", f"{PACKAGE}/norms.py"]
    files |= {f"{PACKAGE}/activations.py": MISH, f"{PACKAGE}/conf/activation/mish.yaml": ACTIVATION}
    for name, text in files.items():
        path = folder / name
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


def ablate(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """The command, started in `folder` as an installed one: Python itself does not look there for modules."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1", options.PLUGINS: PACKAGE}
    command = [sys.executable, "-m", "ablate", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=110)


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


def test_is_listed_by_the_command(tmp_path):
    done = ablate(write(tmp_path), "options")
    assert done.returncode == 0, done.stderr
    assert re.search(r"mean_absolute +x / mean\|x\| \* g: mine", done.stdout)


@pytest.mark.timeout(120)
def test_trains_by_the_command(tmp_path):
    write(tmp_path)
    words = "the cat sat on a mat and the dog lay by its side while rain fell".split()
    choose = random.Random(0)
    text = "\n\n".join(" ".join(choose.choices(words, k=60)) for _ in range(200))
    (tmp_path / "text.txt").write_text(text)
    shape = [f"shape.{key}={value}" for key, value in {**SHAPE, "vocab_size": 640, "batch_tokens": 64}.items()]
    asked = [
        "norm=mean_absolute",
        "data=local",
        "data.files=text.txt",
        "evaluation.tokens=64",
        "trainer.steps=2",
        *shape,
    ]
    done = ablate(tmp_path, "train", *asked)
    assert done.returncode == 0, done.stderr
    (record,) = tmp_path.glob("runs/adhoc/*/seed-0/record.json")
    assert '"done"' in record.read_text()
