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
    common, near, biases = groups(net, [{"parameters": "near.*", "times": 0.1}, {"parameters": "*bias"}], 10)
    assert names_of(net, common) == {"far.weight"}
    assert names_of(net, near) == {"near.weight", "near.bias"}
    assert names_of(net, biases) == {"far.bias"}


def test_a_multiple_of_the_rate_up_to_a_part_of_the_steps():
    common, own = groups(model(), [{"parameters": "near.*", "times": 0.1, "until": 0.75}], 8)
    rates = []
    for step in range(8):
        set_rate([common, own], 2.0, step)
        rates.append((common["lr"], own["lr"]))
    assert rates == [(2.0, pytest.approx(0.2))] * 6 + [(2.0, 0.0)] * 2


def test_what_is_frozen_does_not_move():
    net = model()
    own = groups(net, [{"parameters": "near.*", "until": 0.5}], 2)
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
        ({"parameters": "near.*", "time": 2}, "own_rates[0].time: no such key; did you mean 'times'"),
        ({"parameters": "near.*", "until": 2}, "own_rates[0].until=2: must be a number, from 0 to 1"),
        ({"parameters": "near.*", "times": -1}, "own_rates[0].times=-1: must be a number, 0 or more"),
        ({"times": 1}, "must look like"),
        ("near.*", "must look like"),
    ],
)
def test_what_is_wrong_is_named(entry, message):
    with pytest.raises(UserError) as error:
        groups(model(), [entry], 10)
    assert message in str(error.value)


def test_in_the_config():
    """Branches of the Weighted Transformer with the end of the paper's text; an empty list is the same run as none."""
    branches = 'own_rates=[{parameters: "*.kappa", until: 0.962}, {parameters: "*.alpha", until: 0.962}]'
    cfg = compose(["attention=weighted", "attention.simplex=true", branches])
    assert [len(group["params"]) for group in groups(build_model(cfg), resolved(cfg)["own_rates"], 100)][1:] == [18, 18]
    with pytest.raises(UserError, match="no parameter"):
        build_model(compose([branches]), device="meta")
    plain = compose([])
    without = {key: value for key, value in resolved(plain).items() if key != "own_rates"}
    assert identity(resolved(plain), "") == identity(without, "") != identity(cfg, "")
