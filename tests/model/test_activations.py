"""Activations and the feed-forward around them, against torch, transformers and x-transformers."""

from __future__ import annotations

import pytest
import torch
import x_transformers.x_transformers as xt
from torch import nn
from torch.nn import functional
from transformers import LlamaConfig, T5Config
from transformers.activations import ACT2FN
from transformers.models.llama.modeling_llama import LlamaMLP
from transformers.models.t5.modeling_t5 import T5DenseActDense, T5DenseGatedActDense

from ablate.errors import UserError
from ablate.model.feedforward import Dense
from tests.model.tiny import tiny

D, FF = 24, 48
PLAIN = {  # the field's name in transformers, and torch's function
    "relu": ("relu", functional.relu),
    "gelu": ("gelu_new", lambda x: functional.gelu(x, approximate="tanh")),
    "swish": ("silu", functional.silu),
    "elu": (None, functional.elu),
    "selu": (None, functional.selu),
    "sigmoid": ("sigmoid", torch.sigmoid),
    "softplus": (None, functional.softplus),
    "squared_relu": ("relu2", lambda x: functional.relu(x) ** 2),
}
GATED = {
    "glu": ("sigmoid", nn.Sigmoid()),
    "geglu": ("gelu_new", nn.GELU(approximate="tanh")),
    "reglu": ("relu", nn.ReLU()),
    "swiglu": ("silu", nn.SiLU()),
    "liglu": ("linear", nn.Identity()),
}


def feedforward(*overrides: str) -> Dense:
    return tiny("topology=encoder", *overrides).topology.encoder.stack.blocks[0].steps[1].sublayers[0]


def random(*shape: int) -> torch.Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", PLAIN)
def test_plain_against_torch_and_transformers(name):
    x = random(1000)
    found = feedforward(f"activation={name}").activation(x)
    theirs, function = PLAIN[name]
    torch.testing.assert_close(found, function(x))
    if theirs:
        torch.testing.assert_close(found, ACT2FN[theirs](x))


@pytest.mark.parametrize("name", ["gelu", "geglu"])
@pytest.mark.parametrize("form", ["tanh", "none"])
def test_gelu_says_which(name, form):
    activation = feedforward(f"activation={name}", f"activation.function.approximate={form}").activation
    torch.testing.assert_close(activation.function(random(100)), functional.gelu(random(100), approximate=form))


def test_gelu_of_another_form_is_refused():
    with pytest.raises(UserError, match="approximate=erf"):
        feedforward("activation=gelu", "activation.function.approximate=erf")(random(1, 1, D), None)


def test_glu_against_torch():
    gate, up = random(2, 3, 8), random(3, 8)
    expected = functional.glu(torch.cat((up.expand_as(gate), gate), -1))
    torch.testing.assert_close(feedforward("activation=glu").activation(gate, up), expected)


@pytest.mark.parametrize("name", ["relu", "gelu", "swish"])
def test_dense_against_t5(name):
    ours = feedforward(f"activation={name}", "bias=none").eval()
    config = T5Config(d_model=D, d_ff=FF, dense_act_fn=PLAIN[name][0])
    theirs = T5DenseActDense(config).eval()
    theirs.load_state_dict({"wi.weight": ours.up.weight, "wo.weight": ours.down.weight})
    torch.testing.assert_close(ours(random(2, 5, D), None), theirs(random(2, 5, D)))


@pytest.mark.parametrize("name", GATED)
def test_gated_against_t5(name):
    ours = feedforward(f"activation={name}", "bias=none").eval()
    config = T5Config(d_model=D, d_ff=2 * FF // 3, feed_forward_proj="gated-gelu")
    config.dense_act_fn = GATED[name][0]
    theirs = T5DenseGatedActDense(config).eval()
    theirs.load_state_dict(
        {"wi_0.weight": ours.gate.weight, "wi_1.weight": ours.up.weight, "wo.weight": ours.down.weight}
    )
    torch.testing.assert_close(ours(random(2, 5, D), None), theirs(random(2, 5, D)))


@pytest.mark.parametrize("bias", ["none", "all"])
def test_swiglu_against_llama(bias):
    ours = feedforward("activation=swiglu", f"bias={bias}").eval()
    theirs = LlamaMLP(
        LlamaConfig(hidden_size=D, num_attention_heads=4, intermediate_size=2 * FF // 3, mlp_bias=bias == "all")
    )
    theirs.load_state_dict({key.replace(".", "_proj."): values for key, values in ours.state_dict().items()})
    torch.testing.assert_close(ours(random(2, 5, D), None), theirs(random(2, 5, D)))


@pytest.mark.parametrize("name", GATED)
def test_gated_against_x_transformers(name):
    """With biases; x-transformers keeps the linear half first."""
    ours = feedforward(f"activation={name}").eval()
    with torch.no_grad():
        for linear in (ours.gate, ours.up, ours.down):
            linear.bias.copy_(random(*linear.bias.shape))
    theirs = xt.FeedForward(D, mult=4 / 3, glu=True, custom_activation=GATED[name][1]).eval()
    theirs.load_state_dict({
        "ff.0.proj.weight": torch.cat((ours.up.weight, ours.gate.weight)),
        "ff.0.proj.bias": torch.cat((ours.up.bias, ours.gate.bias)),
        "ff.2.weight": ours.down.weight,
        "ff.2.bias": ours.down.bias,
    })  # fmt: skip
    torch.testing.assert_close(ours(random(2, 5, D), None), theirs(random(2, 5, D)))


@pytest.mark.parametrize("name", GATED)
def test_gated_has_two_thirds_of_the_width_and_as_many_weights(name):
    ours, plain = feedforward(f"activation={name}"), feedforward()
    assert ours.gate.weight.shape == ours.up.weight.shape == (2 * FF // 3, D)
    weights = lambda module: sum(p.numel() for p in module.parameters() if p.dim() == 2)  # noqa: E731
    assert weights(ours) == weights(plain) == 2 * D * FF


def test_gated_width_is_refused_where_it_is_not_whole():
    with pytest.raises(UserError, match="2/3 of d_ff .feedforward.gated_ratio. = 50 is 33.3333"):
        tiny("activation=swiglu", "feedforward.d_ff=50")
    assert feedforward("activation=swiglu", "feedforward.gated_ratio=1").up.weight.shape == (FF, D)


@pytest.mark.parametrize(
    ("bias", "expected"), [("none", set()), ("paper", {"gate", "up", "down"}), ("all", {"gate", "up", "down"})]
)
def test_biases(bias, expected):
    ours = feedforward("activation=geglu", f"bias={bias}")
    assert {name for name in ("gate", "up", "down") if getattr(ours, name).bias is not None} == expected


def test_biases_by_kind():
    model = tiny("topology=encoder", "bias.query=true", "bias.output=true", "bias.ffn_in=false")
    block = model.topology.encoder.stack.blocks[0]
    named = {name for name, _ in block.named_parameters() if name.endswith(".bias")}
    assert named == {
        f"steps.{step}.sublayers.0.{kind}.bias" for step, kind in ((0, "query"), (0, "output"), (1, "down"))
    }
