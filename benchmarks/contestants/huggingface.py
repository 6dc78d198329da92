"""`transformers`: Llama, GPT-2 and T5, each with the loss that its Trainer uses.

`attention` is one of its implementations ("sdpa", "eager"); None leaves the library's own choice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from .contract import Made
from .weights import State
from .work import Work


def make(work: Work, weights: State, attention: str | None = None) -> Made:
    """The family's model; the cache of keys and values, which training does not read, is off."""
    chosen = {} if attention is None else {"attn_implementation": attention}
    return {"llama": _llama, "gpt2": _gpt2, "t5": _t5}[work.family](work, weights, chosen)


def _llama(work: Work, weights: State, chosen: Mapping[str, Any]) -> Made:
    config = LlamaConfig(
        hidden_size=work.d_model,
        num_hidden_layers=work.n_layers,
        num_attention_heads=work.n_heads,
        intermediate_size=work.d_ff,
        vocab_size=work.vocab_size,
        max_position_embeddings=work.length,
        rms_norm_eps=work.epsilon,
        tie_word_embeddings=True,
        use_cache=False,
        **chosen,
    )
    model = LlamaForCausalLM(config)
    return Made(_loaded(model, {**weights, "lm_head.weight": weights["model.embed_tokens.weight"]}), _causal(model))


def _gpt2(work: Work, weights: State, chosen: Mapping[str, Any]) -> Made:
    config = GPT2Config(
        n_embd=work.d_model,
        n_layer=work.n_layers,
        n_head=work.n_heads,
        n_inner=work.d_ff,
        vocab_size=work.vocab_size,
        n_positions=work.length,
        layer_norm_epsilon=work.epsilon,
        activation_function="gelu",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        use_cache=False,
        **chosen,
    )
    model = GPT2LMHeadModel(config)
    is_matrix = lambda name: ".h." in name and name.endswith(".weight") and ".ln_" not in name  # noqa: E731
    state = {
        name: tensor.T if is_matrix(name) else tensor for name, tensor in weights.items()
    }  # its matrices: (in, out)
    return Made(_loaded(model, {**state, "lm_head.weight": state["transformer.wte.weight"]}), _causal(model))


def t5_config(work: Work, **chosen: Any) -> T5Config:
    """T5 1.1."""
    return T5Config(
        d_model=work.d_model,
        d_kv=work.head_dim,
        d_ff=work.d_ff,
        num_layers=work.n_layers,
        num_heads=work.n_heads,
        vocab_size=work.vocab_size,
        layer_norm_epsilon=work.epsilon,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        dropout_rate=0.0,
        decoder_start_token_id=0,
        pad_token_id=0,
        use_cache=False,
        **chosen,
    )


def _t5(work: Work, weights: State, chosen: Mapping[str, Any]) -> Made:
    model = T5ForConditionalGeneration(t5_config(work, **chosen))
    if model.lm_head.weight is model.shared.weight:  # some versions tie them until weights are loaded
        model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())
    copies = {f"{stack}.embed_tokens.weight": weights["shared.weight"] for stack in ("encoder", "decoder")}
    loaded = _loaded(model, {**weights, **copies})
    return Made(loaded, lambda batch: loaded(input_ids=batch["encoder_ids"], labels=batch["targets"]).loss)


def _loaded(model: nn.Module, state: State) -> nn.Module:
    model.load_state_dict(state, strict=True)
    return model.train()


def _causal(model: nn.Module) -> Callable[[Mapping[str, Tensor]], Tensor]:
    """The loss of a decoder, whose targets are shifted already."""

    def loss(batch: Mapping[str, Tensor]) -> Tensor:
        targets = batch["targets"]
        result: Tensor = model(input_ids=batch["decoder_ids"], labels=targets, shift_labels=targets).loss
        return result

    return loss
