"""T5's form, versions 1.0 and 1.1: the same logits as `transformers` with its weights in, and with ours out."""

from __future__ import annotations

import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

from ablate.config import build_model, compose
from ablate.errors import UserError
from ablate.weights import t5
from tests.model.tiny import set_all, tiny

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
    ours = build_model(compose(t5.overrides(theirs.config))).eval()
    t5.load(ours, theirs.state_dict())
    expected = logits_of(theirs)
    torch.testing.assert_close(logits_of(ours), expected, **SAME)

    again = library_model(**t5.config(ours))
    again.load_state_dict(t5.export(ours), strict=True)
    assert torch.equal(logits_of(again), expected)


def test_a_config_says_in_two_ways_whether_the_output_is_scaled():
    newer = T5Config(**GATED).to_dict()
    assert newer["tie_word_embeddings"] and not newer["scale_decoder_outputs"]
    older = {key: value for key, value in newer.items() if key != "scale_decoder_outputs"}
    older["tie_word_embeddings"] = False
    assert t5.overrides(older) == t5.overrides(newer)
    assert "embedding.tie=[encoder,decoder]" in t5.overrides(newer)
    assert "embedding.tie=[encoder,decoder,head]" in t5.overrides(T5Config())


@torch.no_grad()
def test_a_model_of_ours_in_their_form():
    options = [*FORM, "attention.score_scale=${rsqrt:shape.head_dim}", "norm.offset=1.0"]
    ours = tiny(*options).eval()
    set_all(ours, (0.15,))
    theirs = library_model(**t5.config(ours))
    theirs.load_state_dict(t5.export(ours), strict=True)
    torch.testing.assert_close(logits_of(theirs), logits_of(ours), **SAME)
    again = tiny(*options).eval()
    t5.load(again, t5.export(ours))
    torch.testing.assert_close(logits_of(again), logits_of(ours), **SAME)


def test_what_first_and_smaller_files_have():
    """Copies of the table left out, and a table of the cross-attention that no model reads."""
    theirs = made()
    state = {**theirs.state_dict()}
    for key in ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"):
        del state[key]
    state["decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"] = torch.zeros(32, 4)
    model = build_model(compose(t5.overrides(theirs.config)))
    t5.load(model, state)
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
        t5.load(build_model(compose(t5.overrides(theirs.config))), state)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "needs"),
    [
        (["topology=causal_decoder"], "topology=encoder_decoder"),
        (["norm=layernorm"], "norm=rmsnorm"),
        (["position=rope"], "position=relative_bias"),
        (["position.per_layer=true"], "position.per_layer=false"),
        (["attention=multi_query"], "keys and values for every head"),
        (["embedding.tie=[]"], "embedding.tie with encoder and decoder"),
        (["head.tied_scale=1.0"], "head.tied_scale=0.2"),
        (["bias=paper"], "bias=none"),
        (["feedforward=product_key_memory"], "feedforward=dense"),
    ],
)
def test_a_model_of_another_form(options, needs):
    with pytest.raises(UserError, match=needs):
        t5.export(tiny(*FORM, *options))
