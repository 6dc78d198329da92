"""Weights in the form of T5 in `transformers` (`T5ForConditionalGeneration`), in and out (Raffel et al. 2020).

    model = build_model(compose(t5.overrides(config)))     config: a T5Config, or what config.json holds
    t5.load(model, state_dict)
    state_dict = t5.export(model)

Version 1.0: ReLU, the output layer shares the table and its hidden states are multiplied by D^-0.5. Version 1.1: gated
GELU, the output layer has a matrix of its own and no scale. In both the scores are not scaled, and the relative bias of
a stack is that of its first layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor

from ablate.errors import UserError
from ablate.model.build import Model
from ablate.model.contract import CROSS_ATTENTION, SELF_ATTENTION, rsqrt
from ablate.model.position import RelativeBias
from ablate.model.topology import EncoderDecoder, Tower
from ablate.weights import activations, blocks, names
from ablate.weights.names import Names, Weight, require

FORM = "T5's form"
EMBEDDINGS = ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
# A table that the first released files have, and that the model does not use.
IGNORED = (r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",)
ATTENTIONS = {"SelfAttention": SELF_ATTENTION, "EncDecAttention": CROSS_ATTENTION}


def overrides(config: Any) -> list[str]:
    """The overrides that make the model which `config` describes, a T5Config or what config.json holds.

    Raises UserError for another kind of model, and for an activation that is not known.
    """
    given = names.as_mapping(config, FORM, "t5")
    layers = names.number(given, "num_layers")
    shares = given.get("scale_decoder_outputs")  # newer versions have this key for what an older one called tied
    shares = given.get("tie_word_embeddings", True) if shares is None else shares
    *gate, name = given.get("feed_forward_proj", "relu").split("-")
    if gate not in ([], ["gated"]):
        raise UserError(f"feed_forward_proj={given['feed_forward_proj']}: must be an activation, or gated-ACTIVATION")
    if gate and name == "gelu":
        name = "gelu_new"  # as transformers reads it, for the sake of files of version 1.1
    return [
        "topology=encoder_decoder",
        "norm=rmsnorm",
        f"norm.eps={given.get('layer_norm_epsilon', 1e-6)!r}",
        *activations.overrides(name, gated=bool(gate), key="feed_forward_proj"),
        "feedforward.gated_ratio=1",
        "bias=none",
        "position=relative_bias",
        f"position.n_buckets={given.get('relative_attention_num_buckets', 32)}",
        f"position.max_distance={given.get('relative_attention_max_distance', 128)}",
        "attention.score_scale=1.0",
        "head.tied_scale=${rsqrt:shape.d_model}",
        f"embedding.tie=[{'encoder,decoder,head' if shares else 'encoder,decoder'}]",
        f"shape.d_model={names.number(given, 'd_model')}",
        f"shape.n_layers={layers}",
        f"stack.decoder.n_layers={given.get('num_decoder_layers') or layers}",
        f"shape.n_heads={names.number(given, 'num_heads')}",
        f"shape.head_dim={names.number(given, 'd_kv')}",
        f"shape.d_ff={names.number(given, 'd_ff')}",
        f"shape.vocab_size={names.number(given, 'vocab_size')}",
    ]


def load(model: Model, state_dict: Mapping[str, Tensor]) -> None:
    """Copy the weights of a `T5ForConditionalGeneration` into `model`; nothing is changed where one does not fit.

    Raises UserError, in one line: for a model that does not have T5's form, and naming the key for weights that are
    missing, not expected or of another shape.
    """
    names.load(weights(model), state_dict, IGNORED)


def export(model: Model) -> dict[str, Tensor]:
    """The state dict of the `T5ForConditionalGeneration` that equals `model`: copies. UserError where there is none."""
    return names.exported(weights(model))


def config(model: Model) -> dict[str, Any]:
    """The arguments of the `T5Config` of the model that `export` gives, but for the ids of its special tokens.

    UserError where there is none.
    """
    weights(model)
    topology, head = cast(Any, model.topology), cast(Any, model.head)
    encoder, decoder = (blocks.layers_of(tower, kinds, FORM) for tower, kinds in _towers(topology))
    (norm, attention), dense = encoder[0].attentions[0], encoder[0].feedforward
    position = cast(RelativeBias, attention.position)
    name = activations.name_of(dense.activation)
    if dense.gate is not None and name == "gelu":
        raise UserError("a gated exact GELU has no name in T5's form; activation.function.approximate=tanh has")
    return {
        "model_type": "t5",
        "vocab_size": topology.encoder.embedding.table.shape[0],
        "d_model": topology.encoder.embedding.table.shape[1],
        "d_kv": attention.head_dim,
        "d_ff": dense.up.weight.shape[0],
        "num_layers": len(encoder),
        "num_decoder_layers": len(decoder),
        "num_heads": attention.n_heads,
        "relative_attention_num_buckets": position.table.shape[1],
        "relative_attention_max_distance": position.max_distance,
        "layer_norm_epsilon": norm.eps,
        "feed_forward_proj": name if dense.gate is None else f"gated-{name.removesuffix('_pytorch_tanh')}",
        "tie_word_embeddings": head.projection is None,
    }


def weights(model: Model) -> Names:
    """Each tensor of a `T5ForConditionalGeneration` by its name, and the parameter of `model` that it is."""
    topology: Any = model.topology
    require(isinstance(topology, EncoderDecoder), FORM, "topology=encoder_decoder")
    require(topology.decoder.embedding is topology.encoder.embedding, FORM, "embedding.tie with encoder and decoder")
    found: Names = {}
    for tower, kinds in _towers(topology):
        found |= _stack(tower, kinds, "encoder" if tower is topology.encoder else "decoder")
    table = topology.encoder.embedding.table
    found |= blocks.table_and_head(model.head, table, EMBEDDINGS, "lm_head.weight", FORM, rsqrt(table.shape[1]))
    require(not any(key.endswith(".bias") for key in found), FORM, "bias=none")
    names.check_complete(model, found, FORM)
    return found


def _stack(tower: Tower, kinds: list[str], stack: str) -> Names:
    found: Names = {}
    layers = blocks.layers_of(tower, kinds, FORM)
    position = layers[0].attentions[0][1].position
    for number, layer in enumerate(layers):
        at = f"{stack}.block.{number}.layer"
        for index, ((norm, attention), name) in enumerate(zip(layer.attentions, ATTENTIONS, strict=False)):
            require(attention.n_kv_heads == attention.n_heads, FORM, "keys and values for every head (attention=full)")
            found |= blocks.norm(norm, f"{at}.{index}.layer_norm")
            for ours, theirs in (("query", "q"), ("key", "k"), ("value", "v"), ("output", "o")):
                convert = blocks.scaled(attention.score_scale if ours == "query" else 1.0)
                found |= blocks.linear(getattr(attention, ours), f"{at}.{index}.{name}.{theirs}", *convert)
        require(layer.attentions[0][1].position is position, FORM, "position.per_layer=false")
        found |= _feedforward(layer, f"{at}.{len(kinds)}")
    require(isinstance(position, RelativeBias), FORM, "position=relative_bias")
    transposed = lambda x: x.T  # (H,buckets) here, (buckets,H) there  # noqa: E731
    key = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    found[key] = Weight(cast(RelativeBias, position).table, transposed, transposed)
    return found | blocks.norm(cast(Any, tower.stack).end, f"{stack}.final_layer_norm")


def _feedforward(layer: blocks.Layer, at: str) -> Names:
    dense = layer.feedforward
    first = {"wi": dense.up} if dense.gate is None else {"wi_0": dense.gate, "wi_1": dense.up}
    found = blocks.norm(layer.norm, f"{at}.layer_norm")
    for name, part in {**first, "wo": dense.down}.items():
        found |= blocks.linear(part, f"{at}.DenseReluDense.{name}")
    return found


def _towers(topology: Any) -> list[tuple[Tower, list[str]]]:
    """Each stack, and the attentions of its blocks."""
    return [(topology.encoder, [SELF_ATTENTION]), (topology.decoder, [SELF_ATTENTION, CROSS_ATTENTION])]
