"""T5's form, versions 1.0 and 1.1: the same logits as `transformers` with its weights in, and with ours out."""

from __future__ import annotations

import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

from ablate.config import build_model, compose
from ablate.errors import UserError
from ablate.weights.form import T5
from tests.model.tiny import set_all, tiny_config

GATED = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
CONFIGS = {
    "1.0": {},
    "1.1": GATED,
    "numbers": {"num_decoder_layers": 3, "relative_attention_num_buckets": 8, "relative_attention_max_distance": 20,
                "layer_norm_epsilon": 1e-2},
    "silu": {**GATED, "feed_forward_proj": "gated-silu"},
}  # fmt: skip
FORM = ["norm=rmsnorm", "bias=none"]
SAME = {"atol": 1e-5, "rtol": 1e-5}


def library_model(**settings):
    model = T5ForConditionalGeneration(T5Config(**settings)).eval()
    if settings.get("tie_word_embeddings") is False:  # this version ties them until weights are loaded
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())
    return model


def made(**settings):
    model = library_model(vocab_size=101, d_model=24, d_kv=8, d_ff=40, num_layers=2, num_heads=4, **settings)
    set_all(model, (0.15,))
    return model


def ids(length, seed):
    return torch.randint(0, 101, (2, length), generator=torch.Generator().manual_seed(seed))


def logits_of(model):
    """Of ours or theirs, for sequences longer than the distance up to which each has a bucket of its own."""
    encoder, decoder = ids(40, 1), ids(30, 2)
    if isinstance(model, T5ForConditionalGeneration):
        return model(input_ids=encoder, decoder_input_ids=decoder).logits
    return model.logits({"encoder_ids": encoder, "decoder_ids": decoder})


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_in_and_out(name):
    theirs = made(**CONFIGS[name])
    cfg = compose(T5.overrides(theirs.config))
    ours = build_model(cfg).eval()
    T5.load(ours, theirs.state_dict())
    expected = logits_of(theirs)
    torch.testing.assert_close(logits_of(ours), expected, **SAME)

    config, state = T5.export(cfg, ours)
    again = library_model(**config)
    again.load_state_dict(state, strict=True)
    assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in state.items())
    assert torch.equal(logits_of(again), expected)


def test_a_config_says_in_two_ways_whether_the_output_is_scaled():
    newer = T5Config(**GATED).to_dict()
    assert newer["tie_word_embeddings"] and not newer["scale_decoder_outputs"]
    older = {key: value for key, value in newer.items() if key != "scale_decoder_outputs"}
    older["tie_word_embeddings"] = False
    assert T5.overrides(older) == T5.overrides(newer)
    assert "embedding.tie=[encoder,decoder]" in T5.overrides(newer)
    assert "embedding.tie=[encoder,decoder,head]" in T5.overrides(T5Config())


@torch.no_grad()
def test_a_model_of_ours_in_their_form():
    options = [*FORM, "attention.score_scale=${rsqrt:shape.head_dim}", "norm.offset=1.0"]
    cfg = tiny_config(*options)
    ours = build_model(cfg).eval()
    set_all(ours, (0.15,))
    config, state = T5.export(cfg, ours)
    theirs = library_model(**config)
    theirs.load_state_dict(state, strict=True)
    torch.testing.assert_close(logits_of(theirs), logits_of(ours), **SAME)
    again = build_model(cfg).eval()
    T5.load(again, state)
    torch.testing.assert_close(logits_of(again), logits_of(ours), **SAME)


def test_what_first_and_smaller_files_have():
    """Copies of the table left out, and a table of the cross-attention that no model reads."""
    theirs = made()
    state = {**theirs.state_dict()}
    for key in ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"):
        del state[key]
    state["decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"] = torch.zeros(32, 4)
    model = build_model(compose(T5.overrides(theirs.config)))
    T5.load(model, state)
    assert torch.equal(model.topology.encoder.embedding.table, state["shared.weight"])


TABLE = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
FAULTS = {
    "missing": (TABLE, None, f"the weights lack {TABLE}"),
    "missing head": ("lm_head.weight", None, "the weights lack lm_head.weight"),
    "shape": (TABLE, torch.zeros(4, 32), rf"{TABLE} have the shape \(4, 32\), and the model needs \(32, 4\)"),
    "other table": ("decoder.embed_tokens.weight", torch.zeros(101, 24), "shared.weight and decoder"),
    "unexpected": ("encoder.block.2.layer.0.layer_norm.weight", torch.zeros(24), "have encoder.block.2.layer.0"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_weights_that_do_not_fit(name):
    key, value, message = FAULTS[name]
    theirs = made(**GATED)
    state = {**theirs.state_dict(), key: value}
    if value is None:
        del state[key]
    with pytest.raises(UserError, match=message) as error:
        T5.load(build_model(compose(T5.overrides(theirs.config))), state)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "needs"),
    [
        (["topology=causal_decoder"], "topology._target_=ablate.model.topology.CausalDecoder"),
        (["norm=layernorm"], "norm._target_=ablate.model.norm.LayerNorm"),
        (["position=rope"], "position._target_=ablate.model.position.Rotary"),
        (["position.per_layer=true"], r"position.per_layer=True \(there False\)$"),
        (["attention=multi_query"], "attention.n_kv_heads=1"),
        (["embedding.tie=[]"], "embedding.tie"),
        (["head.tied_scale=1.0"], "head.tied_scale=1.0"),
        (["bias=paper"], "bias.ffn_in=True"),
        (["feedforward=product_key_memory"], "feedforward=dense, not feedforward=product_key_memory"),
    ],
)
def test_a_model_of_another_form(options, needs):
    given = {option.partition("=")[0]: option for option in (*FORM, *options)}
    cfg = tiny_config(*given.values())
    with pytest.raises(UserError, match=f"^T5ForConditionalGeneration has .*{needs}"):
        T5.export(cfg, build_model(cfg))
