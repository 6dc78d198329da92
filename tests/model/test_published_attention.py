"""Whole models of transformers whose attention or positions no simpler test has, with every parameter random."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as hf

from tests.model import test_published_parts as parts
from tests.model.test_published_parts import (
    BART_DECODER,
    BERT_LAYER,
    BERT_SIZES,
    DECODER,
    ENCODER,
    EXACT,
    GEMMA_NORMS,
    LONGEST,
    MARIAN_ATTENTION,
    OPT_LAYER,
    SCALE,
    SIZES,
    D,
    H,
    K,
    L,
    Names,
    Published,
    S,
    V,
    attention,
    decoder,
    embedded,
    layers,
    like_llama,
    mlp,
    put,
    randomise,
    randomised,
)
from tests.model.tiny import TARGETS, batch_for, tiny

WINDOW, BASES = 4, ["position=rope_by_layer", "position.global.base=160000.0"]
LEARNED = ["position=learned", f"position.max_length={LONGEST}", "position.tie=[]", "position.offset=2"]
BOTH = ("local", "global")
QK_NORMS = {f"{S[0]}.query_norm": "self_attn.q_norm", f"{S[0]}.key_norm": "self_attn.k_norm"}


def alternating(*keys: str, counts_itself: bool = True) -> list[str]:
    """Windows in every second layer; `keys` of both attentions."""
    window = [f"attention.local.window={WINDOW}", f"attention.local.counts_itself={str(counts_itself).lower()}"]
    return ["attention=alternating", *window, *(f"attention.{one}.{key}" for one in BOTH for key in keys)]


def elsewhere(name: str) -> list[str]:
    """The settings of a model of the other file, without those of attention and position."""
    given = parts.MODELS[name].overrides
    return [one for one in given if not one.startswith(("attention", "position"))]


def roberta(model: Any) -> Names:
    tower, head = model.topology.encoder, model.head
    weights = embedded(tower, "roberta.embeddings") | layers(tower.stack, "roberta.encoder.layer.{}", BERT_LAYER)
    put(weights, "lm_head.dense", head.dense)
    put(weights, "lm_head.layer_norm", head.norm)
    tied = dict.fromkeys(("lm_head.bias", "lm_head.decoder.bias"), head.bias)
    return weights | tied | {"lm_head.decoder.weight": tower.embedding.table}


def gpt_neo(model: Any) -> Names:
    names = {
        **attention(S[0], "attn.attention", *MARIAN_ATTENTION), "steps.0.norm": "ln_1",
        **mlp(S[1], up="mlp.c_fc", down="mlp.c_proj"), "steps.1.norm": "ln_2",
    }  # fmt: skip
    weights = decoder(model, names, "transformer.h.{}", "transformer.wte.weight", "transformer.ln_f")
    return weights | {"transformer.wpe.weight": model.topology.decoder.position.table}


def opt(model: Any) -> Names:
    table = "model.decoder.embed_tokens.weight"
    weights = decoder(model, OPT_LAYER, "model.decoder.layers.{}", table, "model.decoder.final_layer_norm")
    return weights | {"model.decoder.embed_positions.weight": model.topology.decoder.position.table}


def bart(model: Any) -> Names:
    """Of Marian as well, which has neither tables of positions to load nor norms of embeddings."""
    tables = [f"model.{at}.weight" for at in ("shared", "encoder.embed_tokens", "decoder.embed_tokens")]
    weights = dict.fromkeys([*tables, "lm_head.weight"], model.topology.encoder.embedding.table)
    for stack, names in (("encoder", OPT_LAYER), ("decoder", BART_DECODER)):
        tower = getattr(model.topology, stack)
        weights |= layers(tower.stack, f"model.{stack}.layers.{{}}", names)
        if hasattr(tower.position, "table"):
            weights[f"model.{stack}.embed_positions.weight"] = tower.position.table
            put(weights, f"model.{stack}.layernorm_embedding", tower.norm)
    return weights | {"final_logits_bias": model.head.bias[None]}


def xlnet(model: Any) -> Names:
    tower = model.topology.encoder
    weights = layers(tower.stack, "transformer.layer.{}", {
        "steps.0.norm": "rel_attn.layer_norm", "steps.1.norm": "ff.layer_norm",
        **mlp(S[1], up="ff.layer_1", down="ff.layer_2"),
    })  # fmt: skip
    for number, block in enumerate(tower.stack.blocks):
        at, own = f"transformer.layer.{number}.rel_attn", block.steps[0].sublayers[0]
        each = {"q": own.query, "k": own.key, "v": own.value, "r": own.position.projection}
        weights |= {f"{at}.{name}": part.weight.T.unflatten(1, (H, K)) for name, part in each.items()}
        weights[f"{at}.o"] = own.output.weight.unflatten(1, (H, K))
        weights |= {f"{at}.r_w_bias": own.position.content_bias, f"{at}.r_r_bias": own.position.distance_bias}
        weights |= {f"{at}.r_s_bias": torch.ones(H, K), f"{at}.seg_embed": torch.ones(2, H, K)}  # of token types
    table = dict.fromkeys(("transformer.word_embedding.weight", "lm_loss.weight"), tower.embedding.table)
    return weights | table | {"transformer.mask_emb": torch.ones(1, 1, D), "lm_loss.bias": model.head.bias}


ZEROS = [[[[0] * 3] * (TARGETS - 2)] * H] * L  # transformers' random blocks in evaluation, blocks of one token
LAYER_TYPES = {
    "alternating": ["sliding_attention", "full_attention"],
    "from full": ["full_attention", "sliding_attention"],
}
MODELS = {
    "gemma2": Published(
        [*elsewhere("gemma2"), "position=rope", *alternating("n_kv_heads=2", "score_scale=0.5", "soft_cap=1.5")],
        like_llama(S[1], GEMMA_NORMS),
        lambda: hf.Gemma2ForCausalLM(hf.Gemma2Config(
            **SIZES, num_key_value_heads=2, head_dim=K, query_pre_attn_scalar=4, attn_logit_softcapping=1.5,
            final_logit_softcapping=3.0, pad_token_id=0, attn_implementation="eager", sliding_window=WINDOW,
            layer_types=LAYER_TYPES["alternating"])),
        ["attention.local.soft_cap=null", "attention.global.soft_cap=2.0", "attention.local.window=3",
         "attention.local.counts_itself=false", "attention.pattern=[global,local]",
         "attention.global.score_scale=0.4"],
    ),
    "gemma3": Published(
        [*(one for one in elsewhere("gemma2") if not one.startswith("head.soft_cap")),
         *alternating("n_kv_heads=2", "score_scale=0.5", "qk_norm=head"), *BASES, "position.global.factor=8.0"],
        like_llama(S[1], {**GEMMA_NORMS, **QK_NORMS}),
        lambda: hf.Gemma3ForCausalLM(hf.Gemma3TextConfig(
            **SIZES, num_key_value_heads=2, head_dim=K, query_pre_attn_scalar=4, pad_token_id=0, sliding_window=WINDOW,
            layer_types=LAYER_TYPES["alternating"], attn_implementation="eager", rope_parameters={
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
                "full_attention": {"rope_type": "linear", "rope_theta": 160000.0, "factor": 8.0}})),
        ["position.global.factor=1.0", "position.pattern=[global,local]", "attention.local.qk_norm=none",
         "attention.local.qk_norm_kind={_target_:ablate.model.norm.RMSNorm,eps:1e-6}", "position.local.base=1e5"],
    ),
    "modernbert": Published(
        [*elsewhere("modernbert"), *alternating("score_scale=${rsqrt:shape.head_dim}", counts_itself=False),
         "attention.pattern=[global,local]", *BASES, "position.pattern=[global,local]"],
        parts.modernbert,
        lambda: hf.ModernBertForMaskedLM(hf.ModernBertConfig(
            **SIZES, pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2,
            local_attention=2 * WINDOW, layer_types=LAYER_TYPES["from full"], rope_parameters={
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
                "full_attention": {"rope_type": "default", "rope_theta": 160000.0}})),
        ["attention.local.window=3", "attention.local.window=5", "attention.local.counts_itself=true",
         "position.global.base=10000.0", "attention.pattern=[local,global]"],
    ),
    "olmo2": Published(
        [*parts.MODELS["olmo2"].overrides, "attention.qk_norm=projection"],
        like_llama(S[1], {"steps.0.norm_after": "post_attention_layernorm", **QK_NORMS,
                          "steps.1.norm_after": "post_feedforward_layernorm"}),
        lambda: hf.Olmo2ForCausalLM(hf.Olmo2Config(**SIZES, rms_norm_eps=1e-6, pad_token_id=1, eos_token_id=2)),
        ["attention.qk_norm=none", "attention.qk_norm=head"],
    ),
    "gpt_neo": Published(
        [DECODER[0], "head.tied_scale=1.0", *alternating("score_scale=1.0"), "attention.pattern=[global,local]",
         "norm.eps=1e-5", "activation=gelu", "bias.output=true", "position=learned", f"position.max_length={LONGEST}"],
        gpt_neo,
        lambda: hf.GPTNeoForCausalLM(hf.GPTNeoConfig(
            vocab_size=V, hidden_size=D, num_layers=L, num_heads=H, intermediate_size=SIZES["intermediate_size"],
            attention_types=[[["global", "local"], 1]], window_size=WINDOW, max_position_embeddings=LONGEST)),
        ["attention.global.score_scale=0.4", "attention.local.window=5", "attention.local.counts_itself=false",
         "attention.pattern=[local,global]", "bias.output=false"],
    ),
    "opt": Published(
        [*DECODER, *LEARNED, "norm.eps=1e-5", "bias=all"], opt,
        lambda: hf.OPTForCausalLM(hf.OPTConfig(
            vocab_size=V, hidden_size=D, num_hidden_layers=L, num_attention_heads=H, ffn_dim=SIZES["intermediate_size"],
            word_embed_proj_dim=D, max_position_embeddings=LONGEST, dropout=0.0)),
        ["position.offset=1", "position.offset=0"],
    ),
    "bart": Published(
        [*elsewhere("bart"), *SCALE[:1], *LEARNED], bart,
        parts.MODELS["bart"].make,
        ["position.offset=1"],
    ),
    "roberta": Published(
        [*(one for one in elsewhere("bert") if not one.startswith("embedding.token_types")), *SCALE[:1], *LEARNED,
         "embedding.token_types=1"], roberta,
        lambda: hf.RobertaForMaskedLM(hf.RobertaConfig(
            **{**BERT_SIZES, "max_position_embeddings": LONGEST + 2}, type_vocab_size=1, layer_norm_eps=1e-12,
            pad_token_id=1)),
        ["position.offset=1"],
    ),
    "transformer (2017)": Published(
        [*SCALE, "norm.eps=1e-5", "bias=all", "bias.logits=true", "block.placement=post", "position=sinusoidal",
         "position.endpoint=false", "embedding.scale=${sqrt:shape.d_model}"], bart,
        lambda: hf.MarianMTModel(hf.MarianConfig(
            vocab_size=V, d_model=D, encoder_layers=L, decoder_layers=L, encoder_attention_heads=H,
            decoder_attention_heads=H, encoder_ffn_dim=SIZES["intermediate_size"], pad_token_id=0,
            decoder_ffn_dim=SIZES["intermediate_size"], max_position_embeddings=LONGEST, dropout=0.0,
            activation_function="relu", scale_embedding=True, decoder_start_token_id=0)),
        ["position.endpoint=true", "position.interleaved=true", "position.max_timescale=1000.0", "embedding.scale=1.0"],
    ),
    "xlnet": Published(
        [*ENCODER, *EXACT, "norm.eps=1e-12", "block.placement=post", "position=transformer_xl", "bias.logits=true"],
        xlnet,
        lambda: hf.XLNetLMHeadModel(hf.XLNetConfig(
            vocab_size=V, d_model=D, n_layer=L, n_head=H, d_inner=SIZES["intermediate_size"], dropout=0.0)),
        ["position.max_timescale=1000.0", "activation.function.approximate=tanh", "block.placement=pre"],
    ),
    "big_bird": Published(
        [*elsewhere("bert"), *SCALE[:1], *(one for one in LEARNED if "offset" not in one), "attention=big_bird",
         "attention.block_size=1", f"attention.random_table={ZEROS}".replace(" ", "")], parts.bert,
        lambda: hf.BigBirdForMaskedLM(hf.BigBirdConfig(
            **BERT_SIZES, hidden_act="gelu", block_size=1, num_random_blocks=3, use_bias=True)),
        ["attention.full_up_to=12", "attention.window_blocks=2", "attention.global_blocks=[0]",
         "attention.random_table=null"],
    ),
}  # fmt: skip


NOT_LOADED = {"transformer (2017)": "embed_positions.weight", "big_bird": ("pooler.weight", "pooler.bias")}


def ours_of(name: str) -> Any:
    return randomised(*MODELS[name].overrides)


def logits_of(theirs: Any, model: Any) -> torch.Tensor:
    batch = batch_for(model)
    ids = [batch[f"{stack}_ids"] for stack in model.topology.stacks]
    found: torch.Tensor = theirs(**dict(zip(("input_ids", "decoder_input_ids"), ids, strict=False))).logits
    return found


@torch.no_grad()
@pytest.mark.parametrize("name", MODELS)
def test_equals_transformers(name):
    model, theirs = ours_of(name), MODELS[name].make().eval()
    weights = {key: values.detach().clone() for key, values in MODELS[name].weights(model).items()}
    missing, unexpected = theirs.load_state_dict(weights, strict=False)
    assert not unexpected and not [key for key in missing if not key.endswith(NOT_LOADED.get(name, ()))]
    expected = logits_of(theirs, model)
    assert expected.abs().max() > 0.5
    torch.testing.assert_close(model.logits(batch_for(model)), expected, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "wrong"), [(name, wrong) for name, published in MODELS.items() for wrong in published.wrong]
)
def test_a_wrong_key_is_seen(name, wrong):
    key = wrong.partition("=")[0]
    model = ours_of(name)
    other = tiny(*(one for one in MODELS[name].overrides if one.partition("=")[0] != key), wrong).eval()
    randomise(other)
    shapes = {name: value.shape for name, value in other.state_dict().items()}
    same = {name: value for name, value in model.state_dict().items() if shapes.get(name) == value.shape}
    other.load_state_dict(same, strict=False)
    assert (model.logits(batch_for(model)) - other.logits(batch_for(model))).abs().max() > 1e-4
