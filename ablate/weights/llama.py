"""Weights in the form of Llama in `transformers` (`LlamaForCausalLM`), in and out (Touvron et al. 2023).

    model = build_model(compose(llama.overrides(config)))     config: a LlamaConfig, or what config.json holds
    llama.load(model, state_dict)
    state_dict = llama.export(model)

A model of ours may differ from that form in how it is written down: rotary pairs that are neighbours instead of halves,
a scale of the scores other than 1/sqrt(K), an offset in the norm. Its weights are converted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor

from ablate.errors import UserError
from ablate.model.attention import Attention
from ablate.model.build import Model
from ablate.model.contract import CAUSAL, SELF_ATTENTION
from ablate.model.position import Rotary
from ablate.model.topology import CausalDecoder
from ablate.weights import activations, blocks, names
from ablate.weights.names import Convert, Names, require

FORM = "Llama's form"
IGNORED = (r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq",)  # in older files: it follows from the config


def overrides(config: Any) -> list[str]:
    """The overrides that make the model which `config` describes, a LlamaConfig or what config.json holds.

    Raises UserError for another kind of model, and for what this library has no option for (scaled rotary positions).
    """
    given = names.as_mapping(config, FORM, "llama")
    heads = names.number(given, "num_attention_heads")
    width = names.number(given, "hidden_size")
    attention_bias, mlp_bias = (str(bool(given.get(key))).lower() for key in ("attention_bias", "mlp_bias"))
    return [
        "topology=causal_decoder",
        "norm=rmsnorm",
        f"norm.eps={given.get('rms_norm_eps', 1e-6)!r}",
        *activations.overrides(given.get("hidden_act", "silu"), gated=True, key="hidden_act"),
        "feedforward.gated_ratio=1",
        "bias=none",
        *(f"bias.{kind}={attention_bias}" for kind in ("query", "key", "value", "output")),
        *(f"bias.{kind}={mlp_bias}" for kind in ("gate", "ffn_in", "ffn_out")),
        "position=rope",
        f"position.base={_rotary_base(given)!r}",
        f"attention.n_kv_heads={given.get('num_key_value_heads') or heads}",
        "attention.score_scale=${rsqrt:shape.head_dim}",
        "head.tied_scale=1.0",
        f"embedding.tie=[{'encoder,decoder,head' if given.get('tie_word_embeddings') else 'encoder,decoder'}]",
        f"shape.d_model={width}",
        f"shape.n_layers={names.number(given, 'num_hidden_layers')}",
        f"shape.n_heads={heads}",
        f"shape.head_dim={given.get('head_dim') or width // heads}",
        f"shape.d_ff={names.number(given, 'intermediate_size')}",
        f"shape.vocab_size={names.number(given, 'vocab_size')}",
    ]


def load(model: Model, state_dict: Mapping[str, Tensor]) -> None:
    """Copy the weights of a `LlamaForCausalLM` into `model`; nothing is changed where one does not fit.

    Raises UserError, in one line: for a model that does not have Llama's form, and naming the key for weights that are
    missing, not expected or of another shape.
    """
    names.load(weights(model), state_dict, IGNORED)


def export(model: Model) -> dict[str, Tensor]:
    """The state dict of the `LlamaForCausalLM` that equals `model`: copies. UserError where there is none."""
    return names.exported(weights(model))


def config(model: Model) -> dict[str, Any]:
    """The arguments of the `LlamaConfig` of the model that `export` gives, but for what weights do not show.

    That is its longest sequence, and the ids of its special tokens. UserError where there is none.
    """
    found = weights(model)
    decoder, head = _decoder(model), cast(Any, model.head)
    layer = blocks.layers_of(decoder, [SELF_ATTENTION], FORM)[0]
    (norm, attention), dense = layer.attentions[0], layer.feedforward
    return {
        "model_type": "llama",
        "vocab_size": found["model.embed_tokens.weight"].parameter.shape[0],
        "hidden_size": found["model.embed_tokens.weight"].parameter.shape[1],
        "intermediate_size": dense.up.weight.shape[0],
        "num_hidden_layers": len(decoder.stack.blocks),
        "num_attention_heads": attention.n_heads,
        "num_key_value_heads": attention.n_kv_heads,
        "head_dim": attention.head_dim,
        "hidden_act": activations.name_of(dense.activation),
        "rms_norm_eps": norm.eps,
        "rope_parameters": {"rope_type": "default", "rope_theta": cast(Rotary, attention.position).base},
        "attention_bias": attention.query.bias is not None,
        "mlp_bias": dense.up.bias is not None,
        "tie_word_embeddings": head.projection is None,
    }


def weights(model: Model) -> Names:
    """Each tensor of a `LlamaForCausalLM` by its name, and the parameter of `model` that it is."""
    decoder = _decoder(model)
    found: Names = {}
    layers = blocks.layers_of(decoder, [SELF_ATTENTION], FORM)
    for number, layer in enumerate(layers):
        at = f"model.layers.{number}"
        (norm, attention), dense = layer.attentions[0], layer.feedforward
        require(attention.position is layers[0].attentions[0][1].position, FORM, "one position for all layers")
        require(dense.gate is not None, FORM, "a gated activation, such as activation=swiglu")
        found |= blocks.norm(norm, f"{at}.input_layernorm")
        found |= _attention(attention, f"{at}.self_attn")
        found |= blocks.norm(layer.norm, f"{at}.post_attention_layernorm")
        for name in ("gate", "up", "down"):
            found |= blocks.linear(getattr(dense, name), f"{at}.mlp.{name}_proj")
        _check_biases([attention.query, attention.key, attention.value, attention.output], "attention")
        _check_biases([dense.gate, dense.up, dense.down], "the feed-forward")
    found |= blocks.norm(decoder.stack.end, "model.norm")
    table = decoder.embedding.table
    found |= blocks.table_and_head(model.head, table, ["model.embed_tokens.weight"], "lm_head.weight", FORM, 1.0)
    names.check_complete(model, found, FORM)
    return found


def _attention(attention: Attention, at: str) -> Names:
    """The four projections; queries and keys with each head's rotary pairs as two halves."""
    position = attention.position
    require(type(position) is Rotary and position.width == attention.head_dim, FORM, "position=rope, fraction 1")
    interleaved = isinstance(position, Rotary) and position.interleaved
    scale = blocks.scaled(attention.score_scale * math.sqrt(attention.head_dim))
    return {
        **blocks.linear(attention.query, f"{at}.q_proj", *_turned(interleaved, attention.n_heads, *scale)),
        **blocks.linear(attention.key, f"{at}.k_proj", *_turned(interleaved, attention.n_kv_heads)),
        **blocks.linear(attention.value, f"{at}.v_proj"),
        **blocks.linear(attention.output, f"{at}.o_proj"),
    }


def _check_biases(projections: list[Any], of: str) -> None:
    biased = {part.bias is not None for part in projections}
    require(len(biased) == 1, FORM, f"biases in all projections of {of} or in none")


def _turned(
    interleaved: bool, n_heads: int, out: Convert = names.same, into: Convert = names.same
) -> tuple[Convert, Convert]:
    """The conversions of queries or keys; `out` and `into` are what else there is to do."""
    if not interleaved:
        return out, into
    return lambda x: blocks.halves(out(x), n_heads), lambda x: into(blocks.neighbours(x, n_heads))


def _decoder(model: Model) -> Any:
    topology = model.topology
    is_causal = isinstance(topology, CausalDecoder) and topology.mask_orders["decoder"] == CAUSAL
    require(is_causal, FORM, "topology=causal_decoder")
    return topology.decoder


def _rotary_base(given: Mapping[str, Any]) -> float:
    """The base of the rotary positions; UserError where they are scaled or partial."""
    rotary = given.get("rope_parameters") or given.get("rope_scaling") or {}
    kind = rotary.get("rope_type", rotary.get("type", "default"))
    if kind != "default":
        raise UserError(f"rope_type={kind}: no option of position=rope scales the positions; only default is known")
    fraction = rotary.get("partial_rotary_factor", given.get("partial_rotary_factor", 1.0))
    if fraction != 1.0:
        raise UserError(f"partial_rotary_factor={fraction}: {FORM} turns all channels")
    return float(rotary.get("rope_theta", given.get("rope_theta", 10000.0)))
