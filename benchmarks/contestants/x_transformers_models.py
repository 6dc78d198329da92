"""`x-transformers`: a decoder in the form of Llama, and an encoder with a decoder in that of T5.

Its scores are always divided by sqrt(K) and its relative bias multiplied by sqrt(K): T5's weights are converted. The
biases of its gated feed-forward, which no key leaves out, are taken out; the other two forms have none. It has no
LayerNorm with a bias, so there is no GPT-2. `flash` chooses torch's fused attention, which it does not combine with a
relative bias.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from x_transformers import Decoder, TransformerWrapper, XTransformer
from x_transformers.x_transformers import GLU

from .contract import Made, cross_entropy
from .weights import State
from .work import Work


def make(work: Work, weights: State, flash: bool = False) -> Made:
    """The family's model."""
    return _t5(work, weights) if work.is_encoder_decoder else _llama(work, weights, flash)


def _layers(work: Work) -> dict[str, Any]:
    """The keys that both forms have."""
    return {
        "depth": work.n_layers,
        "heads": work.n_heads,
        "attn_dim_head": work.head_dim,
        "use_rmsnorm": True,
        "norm_add_unit_offset": False,
        "ff_glu": True,
        "ff_mult": work.d_ff / work.d_model,
        "ff_no_bias": True,
    }


def _llama(work: Work, weights: State, flash: bool) -> Made:
    rotary = {"rotary_pos_emb": True, "rotary_emb_dim": work.head_dim}
    model = TransformerWrapper(
        num_tokens=work.vocab_size,
        max_seq_len=work.length,
        tie_embedding=True,
        tie_embedding_scale=1.0,
        attn_layers=Decoder(dim=work.d_model, **_layers(work), **rotary, ff_swish=True, attn_flash=flash),
    )
    state = {"token_emb.emb.weight": weights["model.embed_tokens.weight"]}
    state["attn_layers.final_norm.g"] = weights["model.norm.weight"]
    for number in range(work.n_layers):
        at = f"model.layers.{number}"
        q, k, v, o = (weights[f"{at}.self_attn.{name}_proj.weight"] for name in "qkvo")
        gate, up, down = (weights[f"{at}.mlp.{name}_proj.weight"] for name in ("gate", "up", "down"))
        attention, feedforward = f"attn_layers.layers.{2 * number}", f"attn_layers.layers.{2 * number + 1}"
        state[f"{attention}.0.0.g"] = weights[f"{at}.input_layernorm.weight"]
        state |= _attention(f"{attention}.1", neighbours(q, work.n_heads), neighbours(k, work.n_heads), v, o)
        state[f"{feedforward}.0.0.g"] = weights[f"{at}.post_attention_layernorm.weight"]
        state |= _feedforward(f"{feedforward}.1", gate, up, down)
    _load(model, state)
    return Made(model.train(), lambda batch: cross_entropy(model(batch["decoder_ids"]), batch["targets"]))


def _t5(work: Work, weights: State) -> Made:
    gelu = nn.GELU(approximate="tanh")
    stack = {"num_tokens": work.vocab_size, **_layers(work), "rel_pos_bias": True, "ff_custom_activation": gelu}
    model = XTransformer(
        dim=work.d_model,
        tie_token_emb=True,
        enc_max_seq_len=work.length,
        dec_max_seq_len=work.targets,
        **{f"{side}_{key}": value for side in ("enc", "dec") for key, value in stack.items()},
    )
    encoder, decoder = model.encoder, model.decoder.net
    state: State = {}
    for side, name, attentions in (
        ("encoder", "encoder", ["SelfAttention"]),
        ("decoder", "decoder.net", ["SelfAttention", "EncDecAttention"]),
    ):
        state |= _t5_stack(work, weights, side, f"{name}.attn_layers", attentions)
        state[f"{name}.token_emb.emb.weight"] = weights["shared.weight"]
    _load(model, {**state, "decoder.net.to_logits.weight": weights["lm_head.weight"]})

    def loss(batch: Mapping[str, Tensor]) -> Tensor:
        memory = encoder(batch["encoder_ids"], return_embeddings=True)
        return cross_entropy(decoder(batch["decoder_ids"], context=memory), batch["targets"])

    return Made(model.train(), loss)


def _t5_stack(work: Work, weights: State, side: str, name: str, attentions: list[str]) -> State:
    root = work.head_dim**0.5
    table = weights[f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
    state = {f"{name}.rel_pos.relative_attention_bias.weight": table / root}
    state[f"{name}.final_norm.g"] = weights[f"{side}.final_layer_norm.weight"]
    place = 0  # sub-layers are numbered from the first layer to the last
    for number in range(work.n_layers):
        for index, attention in enumerate([*attentions, "DenseReluDense"]):
            at = f"{side}.block.{number}.layer.{index}"
            state[f"{name}.layers.{place}.0.0.g"] = weights[f"{at}.layer_norm.weight"]
            of = lambda key, at=f"{at}.{attention}": weights[f"{at}.{key}.weight"]  # noqa: E731
            if attention == "DenseReluDense":
                state |= _feedforward(f"{name}.layers.{place}.1", of("wi_0"), of("wi_1"), of("wo"))
            else:
                state |= _attention(f"{name}.layers.{place}.1", root * of("q"), of("k"), of("v"), of("o"))
            place += 1
    return state


def _attention(name: str, q: Tensor, k: Tensor, v: Tensor, o: Tensor) -> State:
    parts = {"to_q": q, "to_k": k, "to_v": v, "to_out": o}
    return {f"{name}.{key}.weight": value for key, value in parts.items()}


def _feedforward(name: str, gate: Tensor, up: Tensor, down: Tensor) -> State:
    return {f"{name}.ff.0.proj.weight": torch.cat([up, gate]), f"{name}.ff.2.weight": down}


def neighbours(matrix: Tensor, n_heads: int) -> Tensor:
    """Rows (H K, D) whose rotary pairs are halves of a head (a0 a1 .. b0 b1 ..), as neighbours (a0 b0 a1 b1 ..)."""
    return matrix.unflatten(0, (n_heads, 2, -1)).transpose(1, 2).flatten(0, 2)


def _load(model: nn.Module, state: State) -> None:
    """Copy the weights; what is left out of `state` may be buffers alone."""
    for module in model.modules():
        if isinstance(module, GLU):
            module.proj.bias = None
    missing, unexpected = model.load_state_dict(state, strict=False)
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    if unexpected or parameters.intersection(missing):
        raise ValueError(f"weights that have no place: {unexpected}; without weights: {missing}")
