"""Llama's form: the same logits as `transformers` with its weights in, and with ours out."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from ablate.config import build_model, compose
from ablate.errors import UserError
from ablate.weights.form import LLAMA
from tests.model.tiny import set_all, tiny_config

CONFIGS = {
    "grouped": {"num_key_value_heads": 2},
    "tied": {"tie_word_embeddings": True},
    "multi_query": {"num_key_value_heads": 1, "tie_word_embeddings": True},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "numbers": {"head_dim": 10, "rms_norm_eps": 1e-2, "rope_parameters": {"rope_type": "default", "rope_theta": 300.0}},
    "gelu": {"hidden_act": "gelu"},
    "gelu_tanh": {"hidden_act": "gelu_pytorch_tanh"},
}
FORM = [
    "topology=causal_decoder", "norm=rmsnorm", "activation=swiglu", "bias=none", "position=rope", "head.tied_scale=1.0",
]  # fmt: skip
SAME = {"atol": 1e-5, "rtol": 1e-5}


def in_form(*options):
    """The config of a tiny model of Llama's form, but for `options`."""
    given = {option.partition("=")[0]: option for option in (*FORM, *options)}
    return tiny_config(*given.values())


def written(config):
    """A config of the library from what `config.json` would hold."""
    return LlamaConfig(**config)


def made(**settings):
    """A model of transformers with random weights everywhere, and 101 ids: no multiple of anything."""
    config = LlamaConfig(
        vocab_size=101, hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=4, **settings
    )
    model = LlamaForCausalLM(config).eval()
    set_all(model, (0.15,))
    return model


def ids(size=101):
    return torch.randint(0, size, (2, 20), generator=torch.Generator().manual_seed(3))


def ours_of(theirs):
    cfg = compose(LLAMA.overrides(theirs.config))
    model = build_model(cfg).eval()
    LLAMA.load(model, theirs.state_dict())
    return cfg, model


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_in_and_out(name):
    theirs = made(**CONFIGS[name])
    cfg, ours = ours_of(theirs)
    logits = theirs(input_ids=ids()).logits
    torch.testing.assert_close(ours.logits({"decoder_ids": ids()}), logits, **SAME)

    config, state = LLAMA.export(cfg, ours)
    again = LlamaForCausalLM(written(config)).eval()
    again.load_state_dict(state, strict=True)
    assert state.keys() == theirs.state_dict().keys()
    assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in state.items())
    assert torch.equal(again(input_ids=ids()).logits, logits)


@pytest.mark.parametrize(
    "options",
    [
        ["attention.score_scale=1.0"],
        ["attention.score_scale=${rsqrt:shape.head_dim}", "position.interleaved=true", "attention=grouped_query"],
        ["norm.offset=1.0", "embedding.tie=[]", "position.interleaved=true", "bias=all", "attention.score_scale=0.7"],
    ],
    ids=" ".join,
)
@torch.no_grad()
def test_a_model_of_ours_in_their_form(options):
    """Scores scaled otherwise, rotary pairs that are neighbours, an offset of the norm: converted, and back."""
    cfg = in_form(*options)
    ours = build_model(cfg).eval()
    set_all(ours, (0.15,))
    config, state = LLAMA.export(cfg, ours)
    theirs = LlamaForCausalLM(written(config)).eval()
    theirs.load_state_dict(state, strict=True)
    expected = ours.logits({"decoder_ids": ids()})
    torch.testing.assert_close(theirs(input_ids=ids()).logits, expected, **SAME)

    again = build_model(cfg).eval()
    LLAMA.load(again, state)
    torch.testing.assert_close(again.logits({"decoder_ids": ids()}), expected, **SAME)


def test_what_older_and_smaller_files_have():
    """A config.json without head_dim and with rope_theta at its top, weights with inv_freq, a tied lm_head left out."""
    theirs = made(tie_word_embeddings=True)
    config = theirs.config.to_dict()
    config.pop("head_dim")
    config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
    assert LLAMA.overrides(config) == LLAMA.overrides(theirs.config)
    state = {**theirs.state_dict(), "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(3)}
    del state["lm_head.weight"]
    model = build_model(compose(LLAMA.overrides(config)))
    LLAMA.load(model, state)
    assert torch.equal(model.topology.decoder.embedding.table, state["model.embed_tokens.weight"])


def without(state, key):
    return {name: value for name, value in state.items() if name != key}


UP, HEAD = "model.layers.1.mlp.up_proj.weight", "lm_head.weight"
FAULTS = {
    "missing": (lambda s: without(s, UP), f"the weights lack {UP}"),
    "missing head": (lambda s: without(s, HEAD), f"the weights lack {HEAD}"),
    "unexpected": (
        lambda s: {**s, "model.layers.1.mlp.upp_proj.weight": s[UP]},
        f"have model.layers.1.mlp.upp_proj.weight, for which the model has no place; did you mean '{UP}'",
    ),
    "shape": (lambda s: {**s, UP: s[UP].T}, rf"{UP} have the shape \(24, 40\), and the model needs \(40, 24\)"),
    "vocabulary": (lambda s: {**s, HEAD: s[HEAD][:64]}, rf"{HEAD} have the shape \(64, 24\), .* \(101, 24\)"),
    "integers": (lambda s: {**s, UP: s[UP].long()}, f"{UP} must be a tensor of real numbers, not torch.int64"),
    "no tensor": (lambda s: {**s, UP: None}, f"{UP} must be a tensor of real numbers, not NoneType"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_weights_that_do_not_fit(name):
    """One line that names the key, and nothing is changed."""
    spoil, message = FAULTS[name]
    theirs = made()
    model = build_model(compose(LLAMA.overrides(theirs.config)))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(UserError, match=message) as error:
        LLAMA.load(model, spoil(theirs.state_dict()))
    assert "\n" not in str(error.value)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_head_of_its_own_for_a_tied_model():
    theirs = made()
    model = build_model(compose(LLAMA.overrides(made(tie_word_embeddings=True).config)))
    with pytest.raises(UserError, match="model.embed_tokens.weight and lm_head.weight differ"):
        LLAMA.load(model, theirs.state_dict())


@pytest.mark.parametrize(
    ("options", "needs"),
    [
        (["topology=prefix_decoder"], "topology._target_=ablate.model.topology.PrefixDecoder"),
        (["norm=layernorm"], "norm._target_=ablate.model.norm.LayerNorm"),
        (["position=alibi"], "position=rope"),
        (["position=learned"], "position=rope"),
        (["block=parallel"], "block._target_=ablate.model.block.ParallelBlock"),
        (["block.placement=sandwich"], r"no such model: block.placement=sandwich \(there pre\)$"),
        (["residual=rezero"], "residual._target_=ablate.model.residual.ReZero"),
        (["attention=sliding_window"], "attention._target_=ablate.model.sparse.SlidingWindow"),
        (["activation=relu"], "no such activation; it must be a gated relu, silu, gelu"),
        (["activation=glu"], "no such activation; it must be a gated relu, silu, gelu"),
        (["embedding=factorized"], "embedding._target_=ablate.model.embedding.Factorized"),
        (["embedding.scale=2.0"], r"embedding.scale=2.0 \(there 1.0\)$"),
        (["head.tied_scale=0.5"], r"head.tied_scale=0.5 \(there 1.0\)$"),
        (["head=mixture_of_softmaxes"], "head._target_=ablate.model.mixture"),
        (["stack=universal"], "stack.decoder._target_=ablate.model.universal"),
        (["sharing=all"], "sharing"),
        (["bias.query=true"], "one attention_bias for bias.query, bias.key, bias.value, bias.output, which differ"),
        (["bias.logits=true"], r"bias.logits=True \(there False\)$"),
        (["attention.soft_cap=5"], "attention.soft_cap=5"),
        (["attention.clip_qkv=5"], "attention.clip_qkv=5"),
        (["attention.qk_norm=head"], "attention.qk_norm=head"),
        (["norm.gain=false"], "norm.gain=False"),
        (["head.soft_cap=5"], "head.soft_cap=5"),
        (["position=rope_llama3"], "position._target_=ablate.model.rotary_scaling.Llama3"),
        (["position=rope_and_none"], "position=rope"),
    ],
)
def test_a_model_of_another_form(options, needs):
    cfg = in_form(*options)
    with pytest.raises(UserError, match=f"^LlamaForCausalLM has .*{needs}") as error:
        LLAMA.export(cfg, build_model(cfg))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model_type": "mistral"}, "model_type=mistral"),
        ({"hidden_act": "gelu_fast"}, "hidden_act=gelu_fast: must be one of"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0}}, "rope_type=llama3"),
        ({"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_type=linear"),
        ({"vocab_size": None}, "the config lacks vocab_size"),
    ],
)
def test_a_config_of_another_form(settings, message):
    with pytest.raises(UserError, match=message):
        LLAMA.overrides({**made().config.to_dict(), **settings})
