"""A package of someone else brings a norm, an objective, an optimizer, a schedule and a topology, and they train."""

from __future__ import annotations

import random

import pytest

from ablate import cli
from ablate.config import build_model, check_parts, compose, fill, identity, options
from ablate.errors import UserError
from ablate.training import run as train

MODULES = {
    "norms.py": '''
import torch
from torch import nn

from ablate.model.contract import declare
from ablate.model.norm import Norm
from ablate.ranges import POSITIVE


class MeanNorm(Norm):
    """x over its mean absolute value."""

    ranges = {"eps": POSITIVE}

    def __init__(self, parts, place, *, eps, width=None):
        super().__init__()
        self.scale = declare(nn.Parameter(torch.empty(width or parts.d_model)), "scale", place=place)
        self.eps = eps

    def forward(self, x, view):
        return x / (x.abs().mean(-1, keepdim=True) + self.eps) * self.scale
''',
    "objectives.py": '''
from ablate.data.objective import Causal
from ablate.ranges import whole


class Hinted(Causal):
    """Each token from those before it, and from its remainder by `modulus`."""

    ranges = {"modulus": whole(2)}
    gives = frozenset({"decoder_ids", "hints"})

    def __init__(self, layout, stacks, documents, length, modulus):
        super().__init__(layout, stacks, documents, length)
        self.modulus = modulus

    def apply(self, windows, rng):
        batch = super().apply(windows, rng)
        return {**batch, "hints": batch["targets"] % self.modulus}
''',
    "topologies.py": '''
import torch
from torch import nn

from ablate.model.contract import Context, Place, declare
from ablate.model.topology import CausalDecoder, view_of


class HintedDecoder(CausalDecoder):
    """A decoder that is given a hint for each token, added to its hidden state."""

    reads = frozenset({"decoder_ids", "hints"})

    def __init__(self, parts, *, n_hints):
        super().__init__(parts)
        table = nn.Parameter(torch.empty(n_hints, parts.d_model))
        self.hints = declare(table, "normal", fan_in=parts.d_model, fan_out=n_hints, place=Place("decoder"))

    def forward(self, batch):
        hidden, ctx, _ = self.decoder(Context(view_of(batch, "decoder", self.mask_orders["decoder"])))
        return hidden + nn.functional.embedding(batch["hints"], self.hints), ctx.losses
''',
    "optimizers.py": '''
import torch

from ablate.ranges import RATE


class Lion(torch.optim.Optimizer):
    """The sign of a moving mean of gradients (Chen et al. 2023)."""

    ranges = {"beta": RATE}

    def __init__(self, parameters, lr=0.0, beta=0.9):
        super().__init__(parameters, {"lr": lr, "beta": beta})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    mean = self.state[parameter].setdefault("mean", torch.zeros_like(parameter))
                    mean.lerp_(parameter.grad, 1 - group["beta"])
                    parameter.sub_(mean.sign(), alpha=group["lr"])


def sgd(parameters, momentum):
    return torch.optim.SGD(parameters, lr=0.0, momentum=momentum)
''',
    "schedules.py": '''
from dataclasses import dataclass


@dataclass
class Steps:
    """`peak`, and `final` times as much from the middle on."""

    peak: float
    steps: int
    final: float

    def __call__(self, step):
        return self.peak * (self.final if 2 * step >= self.steps else 1.0)
''',
}
OPTIONS = {
    "norm/mine.yaml": "# A norm of mine\n_target_: {package}.norms.MeanNorm\neps: 1e-6\n",
    "objective/mine.yaml": "# An objective of mine\n_target_: {package}.objectives.Hinted\n"
    "length: ${shape.length}\nmodulus: 3\n",
    "topology/mine.yaml": "# @package _global_\n# A topology of mine\ndefaults:\n  - override /objective: mine\n\n"
    "topology:\n  _target_: {package}.topologies.HintedDecoder\n  n_hints: ${objective.modulus}\n",
    "optimizer/mine.yaml": "# An optimizer of mine\n_target_: {package}.optimizers.Lion\nbeta: 0.9\n",
    "optimizer/function.yaml": "# A function of mine\n_target_: {package}.optimizers.sgd\nmomentum: 0.5\n",
    "schedule/mine.yaml": "# A schedule of mine\n_target_: {package}.schedules.Steps\n"
    "peak: 1e-3\nsteps: ${trainer.steps}\nfinal: 2.0\n",
}
PLUGIN = MODULES | {f"conf/{path}": text for path, text in OPTIONS.items()}
CHOICES = ["norm=mine", "topology=mine", "optimizer=mine", "schedule=mine"]
TINY = [
    "shape.d_model=16", "shape.n_layers=1", "shape.n_heads=2", "shape.head_dim=8", "shape.d_ff=32", "shape.length=16",
    "shape.vocab_size=640", "shape.batch_tokens=64", "trainer.steps=6", "trainer=cpu",
]  # fmt: skip


@pytest.fixture
def package(write_plugin):
    return write_plugin(PLUGIN)


def test_each_is_listed(package, capsys):
    assert cli.run(["options"]) == 0
    listed = [line.split(None, 1) for line in capsys.readouterr().out.splitlines()]
    mine = [line[1] for line in listed if line and line[0] == "mine"]
    assert sorted(mine) == [
        "A norm of mine", "A schedule of mine", "A topology of mine", "An objective of mine", "An optimizer of mine",
    ]  # fmt: skip


@pytest.mark.parametrize("choice", [*CHOICES, "optimizer=function"])
def test_each_composes_builds_and_is_a_run_of_its_own(choice, package):
    cfg = compose([choice])
    build_model(cfg, device="meta")
    assert identity(cfg, "x") != identity(compose(), "x")


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("norm=mine norm.eps=0", "norm.eps=0.0: must be above 0"),
        ("objective=mine objective.modulus=1", "objective.modulus=1: must be a whole number, 2 or more"),
        ("objective=mine objective.length=0", "objective.length=0: must be a whole number, 1 or more"),
        ("optimizer=mine optimizer.beta=1", "optimizer.beta=1.0: must be at least 0 and below 1"),
    ],
)
def test_its_ranges_are_kept(override, line, package):
    with pytest.raises(UserError) as caught:
        compose(override.split())
    assert str(caught.value) == line


def test_what_fits_which_is_said_of_it_as_of_the_others(package):
    check_parts(compose(["topology=mine"]))
    with pytest.raises(UserError) as caught:
        check_parts(compose(["objective=mine"]))
    assert str(caught.value) == (
        "objective=mine does not fit topology=encoder_decoder, which reads decoder_ids and encoder_ids and is trained "
        "on prefix or span_corruption; choose topology=mine"
    )
    with pytest.raises(UserError) as caught:
        check_parts(compose(["topology=mine", "objective=causal", "topology.n_hints=3"]))
    assert str(caught.value) == (
        "objective=causal does not fit topology=mine, which reads decoder_ids and hints and is trained on mine; "
        "choose topology=causal_decoder"
    )


def test_a_schedule_of_ones_own_may_have_any_numbers(package):
    schedule = fill(compose(["schedule=mine", "schedule.final=7.5", "trainer.steps=10"]), "schedule")
    assert [schedule(step) for step in (0, 4, 5)] == [1e-3, 1e-3, 7.5e-3]


@pytest.mark.parametrize("optimizer", ["mine", "function"])
def test_they_train_together(optimizer, package, tmp_path):
    words = "the cat sat on a mat and the dog lay by its side while rain fell".split()
    choose = random.Random(0)
    (tmp_path / "text.txt").write_text("\n\n".join(" ".join(choose.choices(words, k=60)) for _ in range(200)))
    folders = [f"paths.{name}={tmp_path / name}" for name in ("runs", "data")]
    data = ["data=local", f"data.files={tmp_path / 'text.txt'}", "trainer.log_every=1"]
    overrides = [*TINY, *CHOICES, *data, *folders, f"row={optimizer}"]
    overrides = [f"optimizer={optimizer}" if one.startswith("optimizer=") else one for one in overrides]
    record = train.run(compose(overrides), overrides, "ablate train ...")
    assert record.status == "done" and record.loss.final < record.loss.early
    assert sorted(record.code) == [f"{package}.{name.removesuffix('.py')}" for name in sorted(MODULES)]


def test_the_plugins_groups_have_the_projects_options_too(package):
    assert {"mine", "causal"} <= set(options.groups()["objective"])
