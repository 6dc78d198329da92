"""What a step spends its time on: every operator in one class, products counted as `cost` counts them."""

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from ablate.config import compose, merge
from ablate.cost import cost
from ablate.errors import UserError
from ablate.model.norm import Norm
from ablate.run.folder import RunFolder
from ablate.training import profiling
from ablate.training.operator_classes import work_by_class
from ablate.training.work import CLASSES, COMPUTING, PUBLISHED
from tests.data.conftest import texts, write_jsonl

TINY = [
    "shape.d_model=24", "shape.n_layers=2", "shape.n_heads=3", "shape.head_dim=8", "shape.d_ff=48", "trainer=cpu",
    "shape.vocab_size=768", "shape.length=32", "shape.batch_tokens=128", "trainer.steps=100",
]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with text; the corpus is prepared there once."""
    folder = tmp_path_factory.mktemp("profiled")
    write_jsonl(folder / "text.jsonl", texts(200))
    return folder


def profiled(place, *overrides):
    cfg = compose(merge([*TINY, "data=local", f"data.files={place / 'text.jsonl'}", f"paths.data={place}"], overrides))
    return cfg, profiling.profile_steps(cfg, RunFolder(place / "scratch"))


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["norm=rmsnorm", "activation=swiglu", "optimizer=adamw"],
        ["topology=causal_decoder", "position=rope", "attention=multi_query"],
        ["feedforward=mixture_of_experts", "feedforward.pattern=[dense,experts]"],
        ["trainer.micro_batch=2"],
    ],
    ids=lambda words: " ".join(words) or "baseline",
)
def test_products_are_those_that_cost_counts(place, overrides):
    cfg, found = profiled(place, *overrides)
    seconds, watched, work = found.step_seconds, found.watched_seconds, found.work
    assert work["contraction"].operations == cost(cfg)["flops_per_step"]
    assert tuple(work) == CLASSES and seconds > 0
    assert sum(one.seconds for one in work.values()) == pytest.approx(watched, rel=1e-6)
    assert all(work[kind].operations > 0 and work[kind].seconds > 0 for kind in (*COMPUTING, "optimizer"))
    assert work["data movement"].operations == work["between operators"].operations == 0
    assert work["contraction"].operations > work["element-wise"].operations


class Doubled(Norm):
    """A norm of operators that alone would be taken for element-wise ones."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(64))

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True)) * self.scale


def watched(function):
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler, profiling.norms_recorded():
        function()
    return work_by_class(profiler.events(), 1.0, of_device=False)


def test_all_that_a_norm_does_is_normalization_forward_and_backward():
    norm, x = Doubled(), torch.randn(8, 64, requires_grad=True)
    work = watched(lambda: norm(x).backward(torch.ones(8, 64)))
    assert work["element-wise"].operations == work["contraction"].operations == 0
    elements = 8 * 64
    assert 4 * elements <= work["normalization"].operations <= 16 * elements


def test_what_surrounds_a_norm_is_not():
    norm, x = Doubled(), torch.randn(8, 64, requires_grad=True)
    weight = torch.randn(64, 64, requires_grad=True)
    inside = watched(lambda: norm(x).backward(torch.ones(8, 64)))["normalization"].operations
    x = torch.randn(8, 64, requires_grad=True)  # one without a gradient to add to
    norm.scale.grad = None
    work = watched(lambda: (norm(x.relu()) @ weight).tanh().backward(torch.ones(8, 64)))
    assert work["normalization"].operations == inside
    assert work["contraction"].operations == 3 * 2 * 8 * 64 * 64
    assert work["element-wise"].operations == 4 * 8 * 64  # relu and tanh, each forward and backward


def test_softmax_and_layer_norm_count_their_steps():
    x = torch.randn(4, 32, requires_grad=True)
    work = watched(lambda: nn.functional.layer_norm(x.softmax(-1), (32,)).backward(torch.ones(4, 32)))
    assert work["normalization"].operations == (5 + 4 + 7 + 11) * 4 * 32


def test_fused_attention_counts_its_products():
    q, k, v = (torch.randn(2, 3, 16, 8, requires_grad=True) for _ in range(3))
    attend = nn.functional.scaled_dot_product_attention
    work = watched(lambda: attend(q, k, v).backward(torch.ones(2, 3, 16, 8)))
    assert work["contraction"].operations == 3 * (2 * 2) * 2 * 3 * 16 * 16 * 8
    assert work["normalization"].operations == 0


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("trainer.compile=model", "trainer.compile=model: a compiled kernel is of no one class"),
        ("trainer.steps=10", "trainer.steps=10: a profile takes 20 steps"),
        ("trainer.devices=2", "one device is profiled"),
    ],
)
def test_what_cannot_be_profiled(place, override, reason):
    with pytest.raises(UserError, match=reason):
        profiled(place, override)


def test_the_published_shares_are_whole():
    for shares in zip(*PUBLISHED.values(), strict=True):
        assert sum(shares) == pytest.approx(1)
