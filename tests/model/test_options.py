"""Every option of every model group composes, builds, trains a step, uses all its parameters, and compiles whole."""

from __future__ import annotations

import shutil
from itertools import zip_longest

import pytest
import torch

from ablate.config import MODEL_SLOTS, build_model, compose
from ablate.config.options import groups
from ablate.errors import UserError
from ablate.model.norm import BatchNorm, LayerNorm
from tests.model.tiny import batch_for, overrides, tiny, train_step

TOPOLOGIES = list(groups()["topology"])
OPTIONS = [f"{group}={option}" for group in MODEL_SLOTS if group != "topology" for option in groups()[group]]
SWITCHES = [
    "block.placement=post",
    "block.placement=sandwich",
    "block.placement=res_post|block.final_norm=false",
    "block.placement=post|block.final_norm=true",
    "block.first_norm=false",
    "block=parallel|block.separate_norms=true",
    "embedding.norm=true",
    "embedding.norm=true|embedding.norm_of_sum=true|embedding.token_types=2|position=learned",
    "embedding=projected|embedding.project_sum=false|embedding.bias=false",
    "embedding=projected|embedding.norm=true|embedding.token_types=2|position=sinusoidal",
    "head.soft_cap=3.0|head.logit_scale=0.5",
    "head=transformed_softmax|embedding.tie=[]|head.transform_bias=false",
    "embedding.tie=[]",
    "embedding.tie=[encoder,decoder]",
    "position.per_layer=true",
    "norm=rmsnorm|norm.offset=1.0|norm.bias=true|norm.float32=true",
    "norm.gain=false|norm.bias=false",
    "position=rope|position.interleaved=true",
    "position=rope|position.fraction=0.67",
    "position=rope|position.channels=4",
    "position=sinusoidal|position.interleaved=true|position.endpoint=false",
    "position=learned|position.offset=2",
    "attention=sliding_window|attention.counts_itself=true",
    "attention.soft_cap=2.0",
    "attention.clip_qkv=0.5",
    "attention.qk_norm=head",
    "attention=grouped_query|attention.qk_norm=projection|norm=rmsnorm",
    "bias=all|bias.logits=true",
    "head.label_smoothing=0.1",
    "dropout=0.1",
    "attention=synthesizer_factorized|attention.by_query=true",
    "attention=lightweight_convolution|attention.n_kernels=4|attention.pointwise=false",
    "attention=lightweight_convolution|attention.within_segments=true|attention.clear_start=false",
    "attention=dynamic_convolution|attention.n_kernels=4|attention.within_segments=true",
    "attention=weighted|attention.simplex=true",
    "residual=gated|residual.tanh=true",
    "block=evolved|block.within_segments=true|block.clear_start=false",
]
# Batch statistics would show a decoder the tokens to come.
REFUSED = {("norm=batchnorm", topology) for topology in TOPOLOGIES if topology != "encoder"}
# A window is centred or behind, whatever the prefix.
REFUSED |= {(f"attention={kind}_convolution", "prefix_decoder") for kind in ("lightweight", "dynamic")}
SINGLE = [topology for topology in TOPOLOGIES if topology != "encoder_decoder"]
# There is no memory that could be shorter, or a mixture.
REFUSED |= {(f"stack={kind}", topology) for kind in ("funnel", "transparent") for topology in SINGLE}
# There is no encoder that would have it.
REFUSED |= {
    (f"attention={kind}", topology)
    for kind in ("local_encoder", "transient_global")
    for topology in ("causal_decoder", "prefix_decoder")
}
# There are no layers to share.
REFUSED |= {
    ("sharing=encoder", "causal_decoder"),
    ("sharing=encoder", "prefix_decoder"),
    ("sharing=decoder", "encoder"),
}
# What is refused beside the options in front of it in each combination below.
ALONE = {"norm=batchnorm": "encoder"} | dict.fromkeys(
    ("attention=alternating", "stack=funnel", "position=rope_linear", "position=learned_and_contextual"),
    "encoder_decoder",
)
CASES = [
    pytest.param(option, topology, id=f"{option}-{topology}")
    for topology in SINGLE
    for option in (*OPTIONS, *SWITCHES)
    if (option.partition("|")[0], topology) not in REFUSED
]


def combinations() -> list[list[str]]:
    """As many lists of one option a group as the largest group has options; every option is in one of them."""
    varied = [group for group in MODEL_SLOTS if group not in ("topology", "init")]
    columns = [[f"{group}={option}" for option in groups()[group]] for group in varied]
    rows = [[option for option in row if option and option != "norm=batchnorm"] for row in zip_longest(*columns)]
    inits = [f"init={option}" for option in groups()["init"]]
    return [[*row, inits[at % len(inits)]] for at, row in enumerate(rows)]


def fitting(row: list[str], topology: str) -> list[str]:
    """`row` in this topology, without the options that are refused beside those in front of them."""
    kept = [f"topology={topology}"]
    for option in row:
        try:
            build_model(compose(overrides(*kept, option)), device="meta")
        except UserError:
            continue
        kept.append(option)
    return kept


def silent_by_design(model, name: str) -> bool:
    """Whether a gradient may be all zeros: a softmax does not see what is added to all its keys, and a norm that
    subtracts a mean does not see a number that is added to all channels: what is not zero there is rounding."""
    if name.endswith("residual.shift"):
        return isinstance(model.get_submodule(name.removesuffix(".residual.shift")).norm, (LayerNorm, BatchNorm))
    return name.endswith("key.bias")


def check_a_step(model, batch):
    loss = train_step(model, batch)
    assert torch.isfinite(loss)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, f"{name} is not used"
        assert torch.isfinite(parameter.grad).all(), name
        assert silent_by_design(model, name) or parameter.grad.abs().max() > 0, f"{name} has no influence"


def awake(model):
    """The model with scalars that start at 0 set to a half, matrices drawn: what is behind them must be seen."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 0:
                parameter.fill_(0.5)
            elif parameter.dim() > 1 and not parameter.any():
                parameter.normal_(0.0, 0.2, generator=generator)
    return model


def check_compiled(model, batch, random=False, backend="aot_eager"):
    """One graph, with the losses and gradients of the model as it is, which serves the next step too."""
    torch.manual_seed(0)
    expected = train_step(model, batch)
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, dynamic=False, backend=backend)
    torch.manual_seed(0)
    loss, _ = compiled(batch)
    loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():  # as a step of an optimizer does
            parameter.add_(0.0)
    with torch._dynamo.config.patch(error_on_recompile=True):
        compiled({name: tensor.flip(0) if name == "targets" else tensor.clone() for name, tensor in batch.items()})
    if random:
        return
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    for (name, parameter), gradient in zip(model.named_parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("option", [*OPTIONS, *SWITCHES])
def test_trains_a_step(option):
    topology = "encoder" if option == "norm=batchnorm" else "encoder_decoder"
    model = awake(tiny(*option.split("|"), f"topology={topology}"))
    check_a_step(model, batch_for(model))


@pytest.mark.parametrize("topology", SINGLE)
@pytest.mark.parametrize("row", combinations(), ids="-".join)
def test_trains_a_step_in_combination(row, topology):
    model = awake(tiny(*fitting(row, topology)))
    check_a_step(model, batch_for(model, padded=True))


@pytest.mark.parametrize("row", combinations(), ids="-".join)
def test_compiles_whole_in_combination(row):
    model = awake(tiny(*fitting(row, "encoder_decoder")))
    check_compiled(model, batch_for(model))


@pytest.mark.parametrize(("option", "topology"), ALONE.items())
def test_compiles_whole_alone(option, topology):
    model = awake(tiny(option, f"topology={topology}"))
    check_compiled(model, batch_for(model))


def test_no_option_is_left_out_of_what_is_compiled():
    compiled = {option for row in combinations() for option in fitting(row, "encoder_decoder")}
    assert set(OPTIONS) - compiled == set(ALONE)


@pytest.mark.parametrize("attention", [option for option in groups()["attention"] if option != "weighted"])
def test_each_attention_in_an_evolved_block(attention):
    """Its cells have attention of twice as many heads beside the usual one."""
    model = awake(tiny("block=evolved", f"attention={attention}", n_layers=4))
    check_a_step(model, batch_for(model, padded=True))


@pytest.mark.slow
@pytest.mark.parametrize(("option", "topology"), CASES)
def test_trains_and_compiles_alone(option, topology):
    """Each option by itself: which one it is, where a combination above fails."""
    model = awake(tiny(*option.split("|"), f"topology={topology}"))
    for padded in (False, True):
        batch = batch_for(model, padded=padded)
        check_a_step(model, batch)
    check_compiled(model, batch_for(model), random="dropout" in option)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("option", [*OPTIONS, *SWITCHES])
def test_compiles_to_kernels(option):
    """By torch's own compiler, which takes up to a minute for each."""
    if not shutil.which("g++"):
        pytest.skip("torch.compile needs a C++ compiler")
    model = awake(tiny(*option.split("|"), f"topology={ALONE.get(option, 'encoder_decoder')}"))
    check_compiled(model, batch_for(model), random="dropout" in option, backend="inductor")


@pytest.mark.parametrize(("option", "topology"), sorted(REFUSED))
def test_refused_with_a_reason(option, topology):
    with pytest.raises(UserError, match="later|decoder|causal"):
        tiny(option, f"topology={topology}")
