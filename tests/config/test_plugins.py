"""A variant of one's own: one module and one YAML file in any package, named in ABLATE_PLUGINS."""

from __future__ import annotations

import itertools
import subprocess
import sys

import pytest

from ablate import cli
from ablate.config import build_model, code_changes, compose, identity, options, own_code
from ablate.config.composing import by_hydra, compose_groups
from ablate.cost import cost
from ablate.errors import UserError

NUMBERS = itertools.count()

MODULE = '''
import torch
from torch import nn

from ablate.model.contract import declare
from ablate.model.norm import Norm


class MeanNorm(Norm):
    """Divides by the mean absolute value."""

    def __init__(self, parts, place, *, eps, width=None):
        super().__init__()
        self.scale = declare(nn.Parameter(torch.empty(width or parts.d_model)), "scale", place=place)
        self.eps = eps

    def forward(self, x, view):
        return x / (x.abs().mean(-1, keepdim=True) + self.eps) * self.scale
'''
OPTION = "# Divides by the mean absolute value\n_target_: {package}.means.MeanNorm\neps: 1e-6\n"


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A package with a norm of its own; its name is new in each test, because Python keeps what it imported."""
    name = f"plugin_{next(NUMBERS)}"
    (tmp_path / name / "conf" / "norm").mkdir(parents=True)
    (tmp_path / name / "__init__.py").write_text("")
    (tmp_path / name / "means.py").write_text(MODULE)
    (tmp_path / name / "conf" / "norm" / "mean.yaml").write_text(OPTION.format(package=name))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv(options.PLUGINS, name)
    return name


def test_one_module_and_one_file_are_a_variant(plugin, capsys):
    cfg = compose(["norm=mean", "norm.eps=1e-5"])
    assert cfg.norm.eps == 1e-5
    assert compose_groups({"norm": "mean"}) == by_hydra({"norm": "mean"})
    assert identity(cfg, "x") != identity(compose(), "x")
    model = build_model(cfg)
    assert type(model.topology.encoder.stack).__module__.startswith("ablate.")
    assert sum(type(module).__name__ == "MeanNorm" for module in model.modules()) == 6 * 2 + 6 * 3 + 2
    assert cost(cfg)["parameters"]["total"] == cost(compose(["norm=rmsnorm"]))["parameters"]["total"]
    assert cli.run(["options", "norm"]) == 0
    assert "    mean               Divides by the mean absolute value" in capsys.readouterr().out


def test_another_formula_is_another_run(plugin, tmp_path):
    """And not the old result once more; what else lies in the package does not count."""
    cfg = compose(["norm=mean"])
    before, known = identity(cfg, "x"), own_code(cfg)
    assert list(known) == [f"{plugin}.means"] and own_code(compose()) == {}
    (tmp_path / plugin / "others.py").write_text("SIZE = 3\n")
    assert identity(cfg, "x") == before and code_changes(known, cfg) == []
    (tmp_path / plugin / "means.py").write_text(MODULE.replace("abs()", "square()"))
    assert identity(cfg, "x") != before
    assert code_changes(known, cfg) == [f"the code of {plugin}.means has changed"]
    assert code_changes(None, cfg) == []  # a record that does not tell


def test_of_a_package_every_file_counts(plugin, tmp_path):
    (tmp_path / plugin / "__init__.py").write_text("from .means import MeanNorm\n")
    cfg = compose(["norm=mean", f"norm._target_={plugin}.MeanNorm"])
    before = identity(cfg, "x")
    (tmp_path / plugin / "means.py").write_text(MODULE.replace("abs()", "square()"))
    assert identity(cfg, "x") != before


def test_it_trains(plugin):
    import torch

    model = build_model(compose(["norm=mean"]))
    ids = torch.randint(3, 100, (2, 16))
    loss, _ = model({"encoder_ids": ids, "decoder_ids": ids[:, :8], "targets": ids[:, :8]})
    loss.backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())


def test_hydras_own_commands_know_it(plugin, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "ablate", "train", "norm=mean", "--cfg", "job"],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": f"{tmp_path}:.", options.PLUGINS: plugin, "PATH": ""},
    )
    assert f"_target_: {plugin}.means.MeanNorm" in done.stdout, done.stderr


def test_without_its_name_it_is_unknown(plugin, monkeypatch):
    monkeypatch.delenv(options.PLUGINS)
    with pytest.raises(UserError, match="norm=mean: unknown option"):
        compose(["norm=mean"])
    with pytest.raises(UserError, match=f"is outside ablate; name its package in {options.PLUGINS}"):
        compose([f"norm._target_={plugin}.means.MeanNorm"])


def test_what_it_does_not_have_is_told(plugin):
    with pytest.raises(UserError, match=f"there is no module '{plugin}.meens'"):
        compose([f"norm._target_={plugin}.meens.MeanNorm"])


def test_a_package_that_is_not_there(monkeypatch):
    monkeypatch.setenv(options.PLUGINS, "no_such_package")
    with pytest.raises(UserError, match="'no_such_package', and no such package can be imported"):
        compose()


@pytest.mark.parametrize("text", ["a: [1\nb: 2\n", "a: !!python/object/apply:os.system [exit 1]\n"])
def test_an_option_file_that_is_no_plain_yaml(text, plugin, tmp_path, capsys):
    (tmp_path / plugin / "conf" / "norm" / "broken.yaml").write_text(text)
    assert cli.run(["train", "norm=broken"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "broken.yaml, line" in line and "no valid YAML" in line
