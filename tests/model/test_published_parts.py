"""Parts of published models that no other test has: whole models of transformers, with every parameter random.

Each comes with settings that are wrong by one key, which the comparison must see.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
import transformers as hf

from ablate.model.norm import LayerNorm, RMSNorm
from tests.model.tiny import SHAPE, batch_for, tiny

D, H, K, FF, V, L = (SHAPE[key] for key in ("d_model", "n_heads", "head_dim", "d_ff", "vocab_size", "n_layers"))
N, LONGEST = 8, 32  # the width of a narrow table; positions
SCALE = ["attention.score_scale=${rsqrt:shape.head_dim}", "head.tied_scale=1.0"]
DECODER, ENCODER = (["topology=causal_decoder", *SCALE], ["topology=encoder", *SCALE])
UNTIED = "embedding.tie=[]"
EXACT = ["activation=gelu", "activation.function.approximate=none"]
LEARNED = ["position=learned", f"position.max_length={LONGEST}", "position.tie=[]"]
SUM_NORMED = ["embedding.norm=true", "embedding.norm_of_sum=true"]
BERT = [*ENCODER, "bias=all", "bias.logits=true", "block.placement=post", *LEARNED, *SUM_NORMED,
        "embedding.token_types=2", "head=transformed_softmax"]  # fmt: skip
SIZES = {"vocab_size": V, "num_hidden_layers": L, "num_attention_heads": H, "hidden_size": D, "intermediate_size": FF}
BERT_SIZES = {**SIZES, "max_position_embeddings": LONGEST, "hidden_dropout_prob": 0.0}
GATED = ["feedforward.gated_ratio=1", "bias=none", "position=rope"]
Names = dict[str, Any]


def put(weights: Names, name: str, ours: Any) -> None:
    """A projection or a norm, by the names that transformers uses; nothing where ours has no parameter."""
    weight, bias = (ours.scale, ours.shift) if hasattr(ours, "scale") else (ours.weight, ours.bias)
    for piece, value in (("weight", weight), ("bias", bias)):
        if value is not None:
            weights[f"{name}.{piece}"] = value


def layers(stack: Any, at: str, names: dict[str, str]) -> Names:
    """The layers of a stack; `names`: our path within a block, and theirs within a layer."""
    weights: Names = {}
    for number, block in enumerate(stack.blocks):
        for ours, theirs in names.items():
            part = block
            for step in ours.split("."):
                part = part[int(step)] if step.isdigit() else getattr(part, step)
            if part is not None:
                put(weights, f"{at.format(number)}.{theirs}", part)
    return weights


def attention(ours: str, theirs: str, query: str, key: str, value: str, output: str) -> dict[str, str]:
    mine = ("query", "key", "value", "output")
    return {f"{ours}.{one}": f"{theirs}.{other}" for one, other in zip(mine, (query, key, value, output), strict=True)}


def mlp(ours: str, **theirs: str) -> dict[str, str]:
    return {f"{ours}.{mine}": name for mine, name in theirs.items()}


S = [f"steps.{step}.sublayers.0" for step in range(3)]
BESIDE = "steps.0.sublayers.1"  # in a parallel block
LLAMA_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
LLAMA_MLP = {"gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj"}
BERT_LAYER = {
    **attention(S[0], "attention", "self.query", "self.key", "self.value", "output.dense"),
    "steps.0.norm": "attention.output.LayerNorm",
    **mlp(S[1], up="intermediate.dense", down="output.dense"),
    "steps.1.norm": "output.LayerNorm",
}


def embedded(tower: Any, at: str) -> Names:
    """A BERT's embeddings."""
    weights = {f"{at}.word_embeddings.weight": tower.embedding.table,
               f"{at}.position_embeddings.weight": tower.position.table,
               f"{at}.token_type_embeddings.weight": tower.token_types.table}  # fmt: skip
    put(weights, f"{at}.LayerNorm", tower.norm)
    return weights


def bert(model: Any) -> Names:
    tower, head = model.topology.encoder, model.head
    weights = embedded(tower, "bert.embeddings") | layers(tower.stack, "bert.encoder.layer.{}", BERT_LAYER)
    put(weights, "cls.predictions.transform.dense", head.dense)
    put(weights, "cls.predictions.transform.LayerNorm", head.norm)
    return weights | {
        "cls.predictions.bias": head.bias, "cls.predictions.decoder.bias": head.bias,
        "cls.predictions.decoder.weight": tower.embedding.table,
    }  # fmt: skip


def albert(model: Any) -> Names:
    tower, head = model.topology.encoder, model.head
    names = {
        **attention(S[0], "attention", "query", "key", "value", "dense"), "steps.0.norm": "attention.LayerNorm",
        **mlp(S[1], up="ffn", down="ffn_output"), "steps.1.norm": "full_layer_layer_norm",
    }  # fmt: skip
    assert len({id(block) for block in tower.stack.blocks}) == 1
    layer = "albert.encoder.albert_layer_groups.0.albert_layers"
    weights = layers(tower.stack, f"{layer}.{{}}", names)
    weights = {name: value for name, value in weights.items() if name.startswith(f"{layer}.0.")}
    weights |= embedded(tower, "albert.embeddings")
    put(weights, "albert.encoder.embedding_hidden_mapping_in", tower.embedding.projection)
    put(weights, "predictions.dense", head.dense)
    put(weights, "predictions.LayerNorm", head.norm)
    return weights | {
        "predictions.bias": head.bias, "predictions.decoder.bias": head.bias,
        "predictions.decoder.weight": tower.embedding.table,
    }  # fmt: skip


def electra(model: Any) -> Names:
    tower, head = model.topology.encoder, model.head
    weights = embedded(tower, "electra.embeddings") | layers(tower.stack, "electra.encoder.layer.{}", BERT_LAYER)
    put(weights, "electra.embeddings_project", tower.embedding.projection)
    put(weights, "generator_predictions.dense", head.dense)
    put(weights, "generator_predictions.LayerNorm", head.norm)
    return weights | {"generator_lm_head.weight": tower.embedding.table, "generator_lm_head.bias": head.bias}


def modernbert(model: Any) -> Names:
    tower, head = model.topology.encoder, model.head
    weights = layers(tower.stack, "model.layers.{}", {
        f"{S[0]}.output": "attn.Wo", "steps.0.norm": "attn_norm", f"{S[1]}.down": "mlp.Wo", "steps.1.norm": "mlp_norm",
    })  # fmt: skip
    for number, block in enumerate(tower.stack.blocks):
        at, (own,), (dense,) = f"model.layers.{number}", *(step.sublayers for step in block.steps)
        weights[f"{at}.attn.Wqkv.weight"] = torch.cat([own.query.weight, own.key.weight, own.value.weight])
        weights[f"{at}.mlp.Wi.weight"] = torch.cat([dense.gate.weight, dense.up.weight])
    put(weights, "model.embeddings.norm", tower.norm)
    put(weights, "model.final_norm", tower.stack.end)
    put(weights, "head.dense", head.dense)
    put(weights, "head.norm", head.norm)
    table = dict.fromkeys(("model.embeddings.tok_embeddings.weight", "decoder.weight"), tower.embedding.table)
    return weights | table | {"decoder.bias": head.bias}


def decoder(model: Any, names: dict[str, str], layer: str, table: str, end: str, head: str = "lm_head") -> Names:
    tower = model.topology.decoder
    weights = layers(tower.stack, layer, names) | {table: tower.embedding.table}
    put(weights, end, tower.stack.end)
    if model.head.projection is None:
        return weights | {f"{head}.weight": tower.embedding.table}
    put(weights, head, model.head.projection)
    return weights


def like_llama(ours: str, norms: dict[str, str]):
    names = {**attention(S[0], "self_attn", *LLAMA_ATTENTION), **mlp(ours, **LLAMA_MLP), **norms}
    return lambda model: decoder(model, names, "model.layers.{}", "model.embed_tokens.weight", "model.norm")


GEMMA_NORMS = {
    "steps.0.norm": "input_layernorm", "steps.0.norm_after": "post_attention_layernorm",
    "steps.1.norm": "pre_feedforward_layernorm", "steps.1.norm_after": "post_feedforward_layernorm",
}  # fmt: skip


def phi(model: Any) -> Names:
    names = {
        **attention(S[0], "self_attn", "q_proj", "k_proj", "v_proj", "dense"),
        **mlp(BESIDE, up="mlp.fc1", down="mlp.fc2"), "steps.0.norm": "input_layernorm",
    }  # fmt: skip
    return decoder(model, names, "model.layers.{}", "model.embed_tokens.weight", "model.final_layernorm")


def neox(model: Any) -> Names:
    names = {
        f"{S[0]}.output": "attention.dense", **mlp(BESIDE, up="mlp.dense_h_to_4h", down="mlp.dense_4h_to_h"),
        "steps.0.norm": "input_layernorm", "steps.0.other_norms.0": "post_attention_layernorm",
    }  # fmt: skip
    end = "gpt_neox.final_layer_norm"
    weights = decoder(model, names, "gpt_neox.layers.{}", "gpt_neox.embed_in.weight", end)
    for number, block in enumerate(model.topology.decoder.stack.blocks):
        own = block.steps[0].sublayers[0]
        for piece in ("weight", "bias"):
            each = [getattr(part, piece).unflatten(0, (H, K)) for part in (own.query, own.key, own.value)]
            weights[f"gpt_neox.layers.{number}.attention.query_key_value.{piece}"] = torch.stack(each, 1).flatten(0, 2)
    return weights


def falcon(model: Any) -> Names:
    names = {
        f"{S[0]}.output": "self_attention.dense", **mlp(BESIDE, up="mlp.dense_h_to_4h", down="mlp.dense_4h_to_h"),
        "steps.0.norm": "ln_attn", "steps.0.other_norms.0": "ln_mlp",
    }  # fmt: skip
    weights = decoder(model, names, "transformer.h.{}", "transformer.word_embeddings.weight", "transformer.ln_f")
    for number, block in enumerate(model.topology.decoder.stack.blocks):
        own = block.steps[0].sublayers[0]
        groups = [part.weight.unflatten(0, (2, -1, K)) for part in (own.query, own.key, own.value)]  # (2,heads,K,D)
        weights[f"transformer.h.{number}.self_attention.query_key_value.weight"] = torch.cat(groups, 1).flatten(0, 2)
    return weights


def olmo2() -> Any:
    """Without the norms of queries and keys: the places of the others."""
    model = hf.Olmo2ForCausalLM(hf.Olmo2Config(**SIZES, rms_norm_eps=1e-6, pad_token_id=1, eos_token_id=2))
    for layer in model.model.layers:
        layer.self_attn.q_norm = layer.self_attn.k_norm = torch.nn.Identity()
    return model


MARIAN_ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj")
OPT_LAYER = {
    **attention(S[0], "self_attn", *MARIAN_ATTENTION), "steps.0.norm": "self_attn_layer_norm",
    **mlp(S[1], up="fc1", down="fc2"), "steps.1.norm": "final_layer_norm",
}  # fmt: skip
BART_DECODER = {
    **attention(S[0], "self_attn", *MARIAN_ATTENTION), "steps.0.norm": "self_attn_layer_norm",
    **attention(S[1], "encoder_attn", *MARIAN_ATTENTION), "steps.1.norm": "encoder_attn_layer_norm",
    **mlp(S[2], up="fc1", down="fc2"), "steps.2.norm": "final_layer_norm",
}  # fmt: skip


def from_row_2(table: torch.Tensor) -> torch.Tensor:
    """A table of positions behind two rows that nothing reads."""
    return torch.cat([torch.full((2, D), 9.0), table])


def opt(model: Any) -> Names:
    tower, at = model.topology.decoder, "model.decoder"
    weights = layers(tower.stack, f"{at}.layers.{{}}", OPT_LAYER)
    put(weights, f"{at}.project_in", tower.embedding.projection)
    put(weights, f"{at}.project_out", model.head.narrow)
    tables = dict.fromkeys((f"{at}.embed_tokens.weight", "lm_head.weight"), tower.embedding.table)
    return weights | tables | {f"{at}.embed_positions.weight": from_row_2(tower.position.table)}


def bart(model: Any) -> Names:
    tables = [f"model.{at}.weight" for at in ("shared", "encoder.embed_tokens", "decoder.embed_tokens")]
    weights = dict.fromkeys([*tables, "lm_head.weight"], model.topology.encoder.embedding.table)
    for stack, names in (("encoder", OPT_LAYER), ("decoder", BART_DECODER)):
        tower = getattr(model.topology, stack)
        weights |= layers(tower.stack, f"model.{stack}.layers.{{}}", names)
        weights[f"model.{stack}.embed_positions.weight"] = from_row_2(tower.position.table)
        put(weights, f"model.{stack}.layernorm_embedding", tower.norm)
    return weights | {"final_logits_bias": model.head.bias[None]}


@dataclass(frozen=True)
class Published:
    """A model: our overrides, its weights by the names of transformers, theirs, and what is wrong by one key."""

    overrides: list[str]
    weights: Any
    make: Any
    wrong: list[str]


MODELS = {
    "bert": Published(
        [*BERT, *EXACT, "norm.eps=1e-12"], bert,
        lambda: hf.BertForMaskedLM(hf.BertConfig(**BERT_SIZES)),
        ["activation.function.approximate=tanh", "head.function.approximate=tanh", "head.transform_norm=false",
         "embedding.norm_of_sum=false", "embedding.token_types=0", "bias.logits=false", "head.transform_bias=false",
         "head.soft_cap=9", "block.placement=pre", "block.final_norm=true"],
    ),
    "albert": Published(
        [*BERT, "norm.eps=1e-12", "activation=gelu", "head.function.approximate=tanh", "sharing=all",
         "embedding=projected", f"embedding.d_inner={N}"], albert,
        lambda: hf.AlbertForMaskedLM(hf.AlbertConfig(
            **{**BERT_SIZES, "embedding_size": N, "hidden_act": "gelu_new", "attention_probs_dropout_prob": 0.0})),
        ["activation.function.approximate=none", "head.function.approximate=none", "embedding.bias=false",
         "embedding.norm_of_sum=false"],
    ),
    "electra generator": Published(
        [*BERT, *EXACT, "norm.eps=1e-12", "embedding=projected", f"embedding.d_inner={N}"], electra,
        lambda: hf.ElectraForMaskedLM(hf.ElectraConfig(**BERT_SIZES, embedding_size=N)),
        ["embedding.bias=false", "head.transform_norm=false", "head.function.approximate=tanh"],
    ),
    "modernbert": Published(
        [*ENCODER, *GATED, "norm.eps=1e-5", "norm.bias=false", "activation=geglu",
         "activation.function.approximate=none", "embedding.norm=true",
         "block.first_norm=false", "bias.logits=true", "head=transformed_softmax",
         "head.transform_bias=false"], modernbert,
        lambda: hf.ModernBertForMaskedLM(hf.ModernBertConfig(
            **SIZES, pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2,
            rope_parameters={kind: {"rope_type": "default", "rope_theta": 10000.0}
                             for kind in ("full_attention", "sliding_attention")})),
        ["block.first_norm=true", "activation.function.approximate=tanh", "embedding.norm=false", "norm=rmsnorm",
         "block.final_norm=false", "bias.logits=false"],
    ),
    "gemma2": Published(
        [*DECODER, *GATED, "norm=rmsnorm", "norm.offset=1.0", "norm.float32=true", "block.placement=sandwich",
         "activation=geglu", "attention.n_kv_heads=2", "embedding.scale=${sqrt:shape.d_model}", "head.soft_cap=3.0"],
        like_llama(S[1], GEMMA_NORMS),
        lambda: hf.Gemma2ForCausalLM(hf.Gemma2Config(
            **SIZES, num_key_value_heads=2, head_dim=K, query_pre_attn_scalar=K, attn_logit_softcapping=None,
            final_logit_softcapping=3.0, pad_token_id=0, attn_implementation="eager")),
        ["norm.offset=0.0", "activation.function.approximate=none", "embedding.scale=1.0", "head.soft_cap=null",
         "head.soft_cap=30.0", "block.placement=pre", "block.placement=res_post", "block.final_norm=false"],
    ),
    "cohere": Published(  # the form of PaLM
        [*DECODER, *GATED, "norm.eps=1e-5", "norm.bias=false", "block=parallel", "activation=swiglu",
         "position.interleaved=true", "attention.n_kv_heads=1", "head.logit_scale=${rsqrt:shape.d_model}"],
        like_llama(BESIDE, {"steps.0.norm": "input_layernorm"}),
        lambda: hf.CohereForCausalLM(hf.CohereConfig(
            **SIZES, num_key_value_heads=1, logit_scale=D**-0.5, layer_norm_eps=1e-5, bos_token_id=0, eos_token_id=1,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0})),
        ["head.logit_scale=1.0", "norm=rmsnorm", "block.separate_norms=true"],
    ),
    "olmo": Published(
        [*DECODER, *GATED, UNTIED, "norm.eps=1e-5", "norm.gain=false", "norm.bias=false", "activation=swiglu"],
        like_llama(S[1], {}),
        lambda: hf.OlmoForCausalLM(hf.OlmoConfig(**SIZES, pad_token_id=1)),
        ["norm=rmsnorm|norm.gain=false", "norm.eps=1e-2"],
    ),
    "olmo2": Published(
        [*DECODER, *GATED, UNTIED, "norm=rmsnorm", "block.placement=res_post", "activation=swiglu"],
        like_llama(S[1], {"steps.0.norm_after": "post_attention_layernorm",
                          "steps.1.norm_after": "post_feedforward_layernorm"}),
        olmo2,
        ["block.placement=pre", "block.placement=sandwich", "block.placement=post", "block.final_norm=false"],
    ),
    "falcon_40b": Published(
        [*DECODER, *EXACT, "norm.eps=1e-5", "bias=none", "block=parallel", "block.separate_norms=true",
         "position=rope", "attention.n_kv_heads=2"], falcon,
        lambda: hf.FalconForCausalLM(hf.FalconConfig(
            vocab_size=V, hidden_size=D, num_hidden_layers=L, num_attention_heads=H, num_kv_heads=2, ffn_hidden_size=FF,
            new_decoder_architecture=True, bias=False, bos_token_id=0, eos_token_id=1)),
        ["block.separate_norms=false", "activation.function.approximate=tanh"],
    ),
    "qwen2": Published(
        [*DECODER, *(one for one in GATED if one != "bias=none"), "bias=qkv", UNTIED, "norm=rmsnorm",
         "activation=swiglu", "attention.n_kv_heads=2"],
        like_llama(S[1], {"steps.0.norm": "input_layernorm", "steps.1.norm": "post_attention_layernorm"}),
        lambda: hf.Qwen2ForCausalLM(hf.Qwen2Config(**SIZES, num_key_value_heads=2, rms_norm_eps=1e-6)),
        ["bias=none", "bias.query=false", "activation=geglu"],
    ),
    "phi": Published(
        [*DECODER, UNTIED, "norm.eps=1e-5", "bias=all_and_head", "block=parallel", "activation=gelu",
         "position=rope", "position.fraction=0.67"], phi,
        lambda: hf.PhiForCausalLM(hf.PhiConfig(
            **SIZES, resid_pdrop=0.0,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.67})),
        ["activation.function.approximate=none", "bias.logits=false", "block.separate_norms=true"],
    ),
    "gpt_neox": Published(
        [*DECODER, UNTIED, *EXACT, "norm.eps=1e-5", "bias=all", "block=parallel", "block.separate_norms=true",
         "position=rope", "position.fraction=0.34"], neox,
        lambda: hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(
            **SIZES,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.34})),
        ["block.separate_norms=false", "activation.function.approximate=tanh"],
    ),
    "opt_350m": Published(
        [*DECODER, *LEARNED, "norm.eps=1e-5", "bias=all", "block.placement=post", "embedding=projected",
         f"embedding.d_inner={N}", "embedding.bias=false", "embedding.project_sum=false"], opt,
        lambda: hf.OPTForCausalLM(hf.OPTConfig(
            vocab_size=V, hidden_size=D, num_hidden_layers=L, num_attention_heads=H, ffn_dim=FF, word_embed_proj_dim=N,
            do_layer_norm_before=False, max_position_embeddings=LONGEST, dropout=0.0)),
        ["block.placement=pre", "block.final_norm=true"],
    ),
    "bart": Published(
        [*SCALE, *LEARNED, *EXACT, *SUM_NORMED, "norm.eps=1e-5", "bias=all", "bias.logits=true",
         "block.placement=post"], bart,
        lambda: hf.BartForConditionalGeneration(hf.BartConfig(
            vocab_size=V, d_model=D, encoder_layers=L, decoder_layers=L, encoder_attention_heads=H,
            decoder_attention_heads=H, encoder_ffn_dim=FF, decoder_ffn_dim=FF, max_position_embeddings=LONGEST,
            dropout=0.0)),
        ["embedding.norm_of_sum=false", "activation.function.approximate=tanh", "bias.logits=false",
         "embedding.norm=false|embedding.norm_of_sum=false"],
    ),
}  # fmt: skip


def randomise(model: torch.nn.Module) -> None:
    """Every parameter N(0, 0.2), gains around 1: nothing is at a value at which leaving it out would not show."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
        for part in model.modules():
            if isinstance(part, (LayerNorm, RMSNorm)) and part.scale is not None:
                part.scale.add_(1.0 - part.offset)


def batch_of(model: Any) -> dict[str, torch.Tensor]:
    batch = batch_for(model)
    if model.topology.stacks == ("encoder",):
        batch["encoder_token_types"] = batch["encoder_ids"] % 2
    return batch


@cache
def randomised(*overrides: str) -> Any:
    """The tiny model of these overrides, every parameter random."""
    model = tiny(*overrides).eval()
    randomise(model)
    return model


def ours_of(name: str) -> Any:
    return randomised(*MODELS[name].overrides)


@torch.no_grad()
@pytest.mark.parametrize("name", MODELS)
def test_equals_transformers(name):
    model, theirs = ours_of(name), MODELS[name].make().eval()
    weights = {key: values.detach().clone() for key, values in MODELS[name].weights(model).items()}
    missing, unexpected = theirs.load_state_dict(weights, strict=False)
    assert not unexpected and not missing
    batch = batch_of(model)
    ids = [batch[f"{stack}_ids"] for stack in model.topology.stacks]
    given = dict(zip(("input_ids", "decoder_input_ids"), ids, strict=False))
    if "embedding.token_types=2" in MODELS[name].overrides:
        given["token_type_ids"] = batch["encoder_token_types"]
    expected = theirs(**given).logits
    found = model.logits(batch)
    assert expected.abs().max() > 0.5
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    if "token_type_ids" in given:  # without types all are of the first
        del given["token_type_ids"], batch["encoder_token_types"]
        torch.testing.assert_close(model.logits(batch), theirs(**given).logits, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "wrong"), [(name, wrong) for name, published in MODELS.items() for wrong in published.wrong]
)
def test_a_wrong_key_is_seen(name, wrong):
    keys = {one.partition("=")[0] for one in wrong.split("|")}
    kept = [one for one in MODELS[name].overrides if one.partition("=")[0] not in keys]
    model, other = ours_of(name), tiny(*kept, *wrong.split("|")).eval()
    randomise(other)
    other.load_state_dict(model.state_dict(), strict=False)
    batch = batch_of(model)
    assert (model.logits(batch) - other.logits(batch)).abs().max() > 1e-4
