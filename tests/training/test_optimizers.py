"""Adafactor and Adam against the numbers of the library that the paper ran."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ablate.model.parameter_groups import groups, set_rate
from ablate.training.adafactor import Adafactor, factored_axes
from ablate.training.adam import Adam
from ablate.training.adamw import AdamW

GOLDEN = Path(__file__).parents[1] / "golden"
SHAPES = {
    "matrix": (200, 160),
    "small": (20, 16),
    "tall": (300, 100),
    "vector": (40,),
    "scalar_zero": (),
    "scalar": (),
    "tensor3": (2, 130, 140),
}


@pytest.fixture(scope="module")
def starts():
    golden = np.load(GOLDEN / "adafactor.npz")
    return {name: golden[f"{name}/init"] for name in SHAPES}


def gradients():
    """Ten steps of gradients, as the golden files were made."""
    random = np.random.RandomState(5)
    for step in range(10):
        size = 5 if step == 3 else 0.5
        yield [
            torch.from_numpy(np.asarray(np.round(random.randn(*shape) * size * 16) / 16, dtype=np.float32))
            for shape in SHAPES.values()
        ]


def trajectory(optimizer, parameters, rate):
    """The parameters after each of ten steps."""
    for step, found in enumerate(gradients()):
        for parameter, gradient in zip(parameters.values(), found, strict=True):
            parameter.grad = gradient
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        optimizer.step()
        yield step, {name: parameter.detach().numpy() for name, parameter in parameters.items()}


def check(golden, step, states):
    for name, state in states.items():
        if f"{name}/per_step" in golden:
            np.testing.assert_allclose(state, golden[f"{name}/per_step"][step], rtol=2e-6, atol=2e-7, err_msg=name)
        else:
            corner = state[tuple(slice(0, 6) for _ in state.shape)]
            np.testing.assert_allclose(corner, golden[f"{name}/corner_per_step"][step], rtol=2e-6, atol=5e-7)
            rms = np.sqrt(np.mean(np.square(state, dtype=np.float64)))
            np.testing.assert_allclose(rms, golden[f"{name}/rms_per_step"][step], rtol=1e-6)


@pytest.mark.parametrize("stacked", [False, True])
def test_adafactor_is_the_papers(starts, stacked):
    golden = np.load(GOLDEN / "adafactor.npz")
    parameters = {name: torch.nn.Parameter(torch.tensor(start)) for name, start in starts.items()}
    if stacked:  # with others of the same shape, which must not mix
        parameters |= {f"other {name}": torch.nn.Parameter(torch.tensor(starts[name]) * 2) for name in starts}
    optimizer = Adafactor(list(parameters.values()))
    for step, found in enumerate(gradients()):
        for name, gradient in zip(SHAPES, found, strict=True):
            parameters[name].grad = gradient
            if stacked:
                parameters[f"other {name}"].grad = gradient.flip(0) * 3 if gradient.ndim else gradient * 3
        optimizer.param_groups[0]["lr"] = 1 / max(step, 10000) ** 0.5
        optimizer.step()
        check(golden, step, {name: parameters[name].detach().numpy() for name in SHAPES})
    np.testing.assert_allclose(parameters["matrix"].detach().numpy(), golden["matrix/step10"], rtol=2e-6, atol=5e-7)
    state = {name: optimizer.state[parameters[name]] for name in SHAPES}
    np.testing.assert_allclose(state["matrix"]["column"].numpy(), golden["slot/matrix_slot_vr"], rtol=1e-5)
    np.testing.assert_allclose(state["matrix"]["row"].numpy(), golden["slot/matrix_slot_vc"], rtol=1e-5)
    np.testing.assert_allclose(state["tensor3"]["row"].numpy(), golden["slot/tensor3_slot_vr"], rtol=1e-5)
    np.testing.assert_allclose(state["tensor3"]["column"].numpy(), golden["slot/tensor3_slot_vc"], rtol=1e-5)
    for name in ("small", "vector", "scalar", "scalar_zero"):
        np.testing.assert_allclose(state[name]["square"].numpy(), golden[f"slot/{name}_slot_v"], rtol=1e-5)


def test_adam_is_the_papers(starts):
    golden = np.load(GOLDEN / "adam.npz")
    parameters = {name: torch.nn.Parameter(torch.tensor(start)) for name, start in starts.items()}
    optimizer = Adam(list(parameters.values()))
    for step, states in trajectory(optimizer, parameters, lambda step: 5e-4):
        check(golden, step, states)
    for name in ("small", "vector", "scalar", "scalar_zero"):
        state = optimizer.state[parameters[name]]
        np.testing.assert_allclose(state["mean"].numpy(), golden[f"slot/{name}/adam_m"], rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(state["square"].numpy(), golden[f"slot/{name}/adam_v"], rtol=1e-5)


def test_only_large_matrices_are_factored():
    assert factored_axes(torch.Size([300, 100]), 128) is None
    assert factored_axes(torch.Size([1000]), 128) is None
    assert factored_axes(torch.Size([]), 128) is None
    assert factored_axes(torch.Size([128, 128]), 128) == (0, 1)
    assert factored_axes(torch.Size([200, 2, 130]), 128) == (0, 2)


def test_a_zero_parameter_moves_by_the_smallest_step():
    parameter = torch.nn.Parameter(torch.zeros(()))
    optimizer = Adafactor([parameter], lr=0.01)
    parameter.grad = torch.tensor(7.0)
    optimizer.step()
    assert parameter.item() == pytest.approx(-1e-5)


@pytest.mark.parametrize("make", [Adafactor, Adam, AdamW], ids=lambda make: make.__name__)
def test_optimizers_go_on_from_their_state(starts, make):
    steps = list(gradients())

    def advance(optimizer, parameters, chosen):
        for found in chosen:
            for parameter, gradient in zip(parameters, found, strict=True):
                parameter.grad = gradient
            for group in optimizer.param_groups:
                group["lr"] = 0.01
            optimizer.step()

    whole = [torch.nn.Parameter(torch.tensor(start)) for start in starts.values()]
    advance(make(whole), whole, steps)
    first = [torch.nn.Parameter(torch.tensor(start)) for start in starts.values()]
    optimizer = make(first)
    advance(optimizer, first, steps[:4])
    second = [torch.nn.Parameter(parameter.detach().clone()) for parameter in first]
    resumed = make(second)
    resumed.load_state_dict(optimizer.state_dict())
    advance(resumed, second, steps[4:])
    assert all(torch.equal(one, other) for one, other in zip(whole, second, strict=True))


@pytest.mark.parametrize("decayed", [True, False])
def test_adamw_is_torchs(starts, decayed):
    """With every number given; the vectors and scalars as torch's without decay."""
    names = [name for name in starts if (len(SHAPES[name]) >= 2) == decayed]
    numbers = {"lr": 0.03, "weight_decay": 0.2}
    ours, theirs = ([torch.nn.Parameter(torch.tensor(starts[name])) for name in names] for _ in range(2))
    optimizers = [
        AdamW(ours, **numbers, beta1=0.8, beta2=0.97, epsilon=1e-3),
        torch.optim.AdamW(theirs, **numbers | ({} if decayed else {"weight_decay": 0}), betas=(0.8, 0.97), eps=1e-3),
    ]
    for found in gradients():
        found = [gradient for name, gradient in zip(SHAPES, found, strict=True) if name in names]
        for parameters, optimizer in zip((ours, theirs), optimizers, strict=True):
            for parameter, gradient in zip(parameters, found, strict=True):
                parameter.grad = gradient.clone()
            optimizer.step()
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


def test_adamw_decays_matrices_only():
    parameters = [
        torch.nn.Parameter(torch.ones(2, 2)),
        torch.nn.Parameter(torch.ones(2)),
        torch.nn.Parameter(torch.ones(())),
    ]
    groups = AdamW(parameters, weight_decay=0.3).param_groups
    assert [(group["weight_decay"], len(group["params"])) for group in groups] == [(0.3, 1), (0.0, 2)]


@pytest.mark.parametrize("make", [Adafactor, Adam, AdamW], ids=lambda make: make.__name__)
def test_groups_keep_rates_of_their_own(make):
    """As training hands them over: parameters of a rate of their own in a group of their own."""
    net = torch.nn.ModuleDict({"near": torch.nn.Linear(3, 2), "far": torch.nn.Linear(2, 2)})
    optimizer = make(groups(net, [{"parameters": "near.*", "until_fraction": 0.5}], 2))
    net["far"](net["near"](torch.ones(1, 3))).square().sum().backward()
    before = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    set_rate(optimizer.param_groups, 0.1, 1)
    optimizer.step()
    moved = {name for name, parameter in net.named_parameters() if not torch.equal(before[name], parameter)}
    assert moved == {"far.weight", "far.bias"}
