"""Parameters with a rate of their own."""

import pytest
import torch
from torch import nn

from ablate.config import build_model, compose, identity, resolved
from ablate.errors import UserError
from ablate.model.parameter_groups import groups, set_rate
from ablate.training.adafactor import Adafactor


def model():
    return nn.ModuleDict({"near": nn.Linear(3, 2), "far": nn.Linear(2, 2)})


def names_of(net, group):
    own = {id(parameter) for parameter in group["params"]}
    return {name for name, parameter in net.named_parameters() if id(parameter) in own}


def test_without_entries_all_follow_the_schedule():
    net = model()
    (only,) = groups(net, [], 10)
    assert only["params"] == list(net.parameters())
    set_rate([only], 0.5, 9)
    assert only["lr"] == 0.5


def test_the_first_entry_that_matches_counts():
    net = model()
    common, near, biases = groups(net, [{"parameters": "near.*", "lr_multiplier": 0.1}, {"parameters": "*bias"}], 10)
    assert names_of(net, common) == {"far.weight"}
    assert names_of(net, near) == {"near.weight", "near.bias"}
    assert names_of(net, biases) == {"far.bias"}


def test_a_multiple_of_the_rate_up_to_a_part_of_the_steps():
    common, own = groups(model(), [{"parameters": "near.*", "lr_multiplier": 0.1, "until_fraction": 0.75}], 8)
    rates = []
    for step in range(8):
        set_rate([common, own], 2.0, step)
        rates.append((common["lr"], own["lr"]))
    assert rates == [(2.0, pytest.approx(0.2))] * 6 + [(2.0, 0.0)] * 2


def test_what_is_frozen_does_not_move():
    net = model()
    own = groups(net, [{"parameters": "near.*", "until_fraction": 0.5}], 2)
    optimizer = Adafactor(own)
    seen = []
    for step in range(2):
        net["far"](net["near"](torch.ones(1, 3))).square().sum().backward()
        set_rate(optimizer.param_groups, 0.1, step)
        before = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
        optimizer.step()
        seen.append({name for name, parameter in net.named_parameters() if not torch.equal(before[name], parameter)})
    assert seen == [{"near.weight", "near.bias", "far.weight", "far.bias"}, {"far.weight", "far.bias"}]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"parameters": "*.weigth"}, "no parameter has such a name; did you mean 'weight'"),
        (
            {"parameters": "near.*", "multiplier": 2},
            "parameter_groups[0].multiplier: no such key; did you mean 'lr_multiplier'",
        ),
        ({"parameters": "near.*", "until_fraction": 2}, "parameter_groups[0].until_fraction=2: must be from 0 to 1"),
        ({"parameters": "near.*", "lr_multiplier": -1}, "parameter_groups[0].lr_multiplier=-1: must be 0 or more"),
        ({"lr_multiplier": 1}, "must look like"),
        ("near.*", "must look like"),
    ],
)
def test_what_is_wrong_is_named(entry, message):
    with pytest.raises(UserError) as error:
        groups(model(), [entry], 10)
    assert message in str(error.value)


def test_in_the_config():
    """Branches of the Weighted Transformer with the end of the paper's text; an empty list is the same run as none."""
    entries = ", ".join(f'{{parameters: "*.{name}", until_fraction: 0.962}}' for name in ("kappa", "alpha"))
    branches = f"parameter_groups=[{entries}]"
    cfg = compose(["attention=weighted", "attention.simplex=true", branches])
    made = groups(build_model(cfg), resolved(cfg)["parameter_groups"], 100)
    assert [len(group["params"]) for group in made[1:]] == [18, 18]
    with pytest.raises(UserError, match="no parameter"):
        build_model(compose([branches]), device="meta")
    plain = compose([])
    without = {key: value for key, value in resolved(plain).items() if key != "parameter_groups"}
    assert identity(resolved(plain), "") == identity(without, "") != identity(cfg, "")
