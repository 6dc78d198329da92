"""`litgpt`: its GPT in the form of Llama, with its cross-entropy, which is taken over all tokens at once."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from litgpt.config import Config
from litgpt.model import GPT
from litgpt.utils import chunked_cross_entropy
from torch import Tensor

from .contract import Made
from .weights import State
from .work import Work

NAMES = {
    "input_layernorm": "norm_1",
    "self_attn.o_proj": "attn.proj",
    "post_attention_layernorm": "norm_2",
    "mlp.gate_proj": "mlp.fc_1",
    "mlp.up_proj": "mlp.fc_2",
    "mlp.down_proj": "mlp.proj",
}


def make(work: Work, weights: State) -> Made:
    """The Llama-like model, its embedding and its output matrix tied."""
    model = GPT(
        Config(
            block_size=work.length,
            n_layer=work.n_layers,
            n_embd=work.d_model,
            n_head=work.n_heads,
            intermediate_size=work.d_ff,
            padded_vocab_size=work.vocab_size,
            rotary_percentage=1.0,
            parallel_residual=False,
            bias=False,
            norm_class_name="RMSNorm",
            norm_eps=work.epsilon,
            mlp_class_name="LLaMAMLP",
        )
    )
    model.lm_head.weight = model.transformer.wte.weight
    model.load_state_dict(_state(work, weights), strict=True)

    def loss(batch: Mapping[str, Tensor]) -> Tensor:
        return chunked_cross_entropy(model(batch["decoder_ids"]), batch["targets"], chunk_size=0)

    return Made(model.train(), loss)


def _state(work: Work, weights: State) -> State:
    """The weights by litgpt's names; queries, keys and values are one matrix."""
    table = weights["model.embed_tokens.weight"]
    state = {"transformer.wte.weight": table, "lm_head.weight": table}
    state["transformer.ln_f.weight"] = weights["model.norm.weight"]
    for number in range(work.n_layers):
        theirs, ours = f"transformer.h.{number}", f"model.layers.{number}"
        for key, name in NAMES.items():
            state[f"{theirs}.{name}.weight"] = weights[f"{ours}.{key}.weight"]
        state[f"{theirs}.attn.qkv.weight"] = torch.cat([weights[f"{ours}.self_attn.{n}_proj.weight"] for n in "qkv"])
    return state
