"""Whole models of transformers, from a list of overrides: the same weights in, the same logits and gradients out."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTJConfig,
    GPTJForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    LongT5Config,
    LongT5ForConditionalGeneration,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    SmolLM3Config,
    SmolLM3ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from tests.model.tiny import SHAPE, batch_for, set_all, tiny

D, H, K, FF, V, L = (SHAPE[key] for key in ("d_model", "n_heads", "head_dim", "d_ff", "vocab_size", "n_layers"))
DECODER = ["topology=causal_decoder", "attention.score_scale=${rsqrt:shape.head_dim}", "head.tied_scale=1.0"]
UNTIED = "embedding.tie=[]"
PIECES = ("query", "key", "value")


def by_head(ours, piece: str) -> torch.Tensor:
    """(heads, 3, K, ...): queries, keys and values as GPT-NeoX and Bloom store them in one matrix, head by head."""
    each = [getattr(getattr(ours, name), piece) for name in PIECES]
    return torch.stack([tensor.unflatten(0, (H, K)) for tensor in each], 1).flatten(0, 2)


def norm(weights: dict, ours, name: str) -> None:
    weights[f"{name}.weight"] = ours.scale
    if getattr(ours, "shift", None) is not None:
        weights[f"{name}.bias"] = ours.shift


def linear(weights: dict, ours, name: str, transposed: bool = False) -> None:
    weights[f"{name}.weight"] = ours.weight.T if transposed else ours.weight
    if ours.bias is not None:
        weights[f"{name}.bias"] = ours.bias


def llama(model) -> dict:
    weights = {}
    for layer, block in enumerate(model.topology.decoder.stack.blocks):
        (attention,), (feedforward,) = (step.sublayers for step in block.steps)
        at = f"model.layers.{layer}"
        for mine, theirs in (("query", "q"), ("key", "k"), ("value", "v"), ("output", "o")):
            linear(weights, getattr(attention, mine), f"{at}.self_attn.{theirs}_proj")
        if attention.query_norm is not None:
            norm(weights, attention.query_norm, f"{at}.self_attn.q_norm")
            norm(weights, attention.key_norm, f"{at}.self_attn.k_norm")
        for name in ("gate", "up", "down"):
            linear(weights, getattr(feedforward, name), f"{at}.mlp.{name}_proj")
        norm(weights, block.steps[0].norm, f"{at}.input_layernorm")
        norm(weights, block.steps[1].norm, f"{at}.post_attention_layernorm")
    weights["model.embed_tokens.weight"] = model.topology.decoder.embedding.table
    norm(weights, model.topology.decoder.stack.end, "model.norm")
    linear(weights, model.head.projection, "lm_head")
    return weights


def gptj(model) -> dict:
    weights = {}
    for layer, block in enumerate(model.topology.decoder.stack.blocks):
        (step,) = block.steps
        attention, feedforward = step.sublayers
        at = f"transformer.h.{layer}"
        for mine, theirs in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj"), ("output", "out_proj")):
            linear(weights, getattr(attention, mine), f"{at}.attn.{theirs}")
        linear(weights, feedforward.up, f"{at}.mlp.fc_in")
        linear(weights, feedforward.down, f"{at}.mlp.fc_out")
        norm(weights, step.norm, f"{at}.ln_1")
    weights["transformer.wte.weight"] = model.topology.decoder.embedding.table
    norm(weights, model.topology.decoder.stack.end, "transformer.ln_f")
    linear(weights, model.head.projection, "lm_head")
    return weights


def neox(model) -> dict:
    weights = {}
    for layer, block in enumerate(model.topology.decoder.stack.blocks):
        (attention,), (feedforward,) = (step.sublayers for step in block.steps)
        at = f"gpt_neox.layers.{layer}"
        weights[f"{at}.attention.query_key_value.weight"] = by_head(attention, "weight")
        weights[f"{at}.attention.query_key_value.bias"] = by_head(attention, "bias")
        linear(weights, attention.output, f"{at}.attention.dense")
        linear(weights, feedforward.up, f"{at}.mlp.dense_h_to_4h")
        linear(weights, feedforward.down, f"{at}.mlp.dense_4h_to_h")
        norm(weights, block.steps[0].norm, f"{at}.input_layernorm")
        norm(weights, block.steps[1].norm, f"{at}.post_attention_layernorm")
    weights["gpt_neox.embed_in.weight"] = model.topology.decoder.embedding.table
    norm(weights, model.topology.decoder.stack.end, "gpt_neox.final_layer_norm")
    linear(weights, model.head.projection, "lm_head")
    return weights


def bloom(model) -> dict:
    weights = {}
    for layer, block in enumerate(model.topology.decoder.stack.blocks):
        (attention,), (feedforward,) = (step.sublayers for step in block.steps)
        at = f"transformer.h.{layer}"
        weights[f"{at}.self_attention.query_key_value.weight"] = by_head(attention, "weight")
        weights[f"{at}.self_attention.query_key_value.bias"] = by_head(attention, "bias")
        linear(weights, attention.output, f"{at}.self_attention.dense")
        linear(weights, feedforward.up, f"{at}.mlp.dense_h_to_4h")
        linear(weights, feedforward.down, f"{at}.mlp.dense_4h_to_h")
        norm(weights, block.steps[0].norm, f"{at}.input_layernorm")
        norm(weights, block.steps[1].norm, f"{at}.post_attention_layernorm")
    tower = model.topology.decoder
    norm(weights, tower.norm, "transformer.word_embeddings_layernorm")
    norm(weights, tower.stack.end, "transformer.ln_f")
    weights["transformer.word_embeddings.weight"] = weights["lm_head.weight"] = tower.embedding.table
    return weights


def gpt2(model) -> dict:
    weights = {}
    for layer, block in enumerate(model.topology.decoder.stack.blocks):
        (attention,), (feedforward,) = (step.sublayers for step in block.steps)
        at = f"transformer.h.{layer}"
        weights[f"{at}.attn.c_attn.weight"] = torch.cat([getattr(attention, name).weight for name in PIECES]).T
        weights[f"{at}.attn.c_attn.bias"] = torch.cat([getattr(attention, name).bias for name in PIECES])
        linear(weights, attention.output, f"{at}.attn.c_proj", transposed=True)
        linear(weights, feedforward.up, f"{at}.mlp.c_fc", transposed=True)
        linear(weights, feedforward.down, f"{at}.mlp.c_proj", transposed=True)
        norm(weights, block.steps[0].norm, f"{at}.ln_1")
        norm(weights, block.steps[1].norm, f"{at}.ln_2")
    tower = model.topology.decoder
    weights["transformer.wpe.weight"] = tower.position.table
    norm(weights, tower.stack.end, "transformer.ln_f")
    weights["transformer.wte.weight"] = weights["lm_head.weight"] = tower.embedding.table
    return weights


def longt5(model) -> dict:
    """As T5, but for the encoder's own attention."""
    own = model.topology.encoder.stack.blocks[0].steps[0].sublayers[0]
    is_global = hasattr(own, "global_norm")
    name = "TransientGlobalSelfAttention" if is_global else "LocalSelfAttention"
    weights = {
        key.replace("SelfAttention", name) if key.startswith("encoder") else key: value
        for key, value in t5(model).items()
    }
    if is_global:
        at = f"encoder.block.0.layer.0.{name}"
        weights[f"{at}.global_relative_attention_bias.weight"] = own.block_bias.table.T
        for layer, block in enumerate(model.topology.encoder.stack.blocks):
            norm(
                weights,
                block.steps[0].sublayers[0].global_norm,
                f"{at.replace('0', str(layer), 1)}.global_input_layer_norm",
            )
    return weights


def t5(model) -> dict:
    weights = {}
    for stack in ("encoder", "decoder"):
        tower = getattr(model.topology, stack).stack
        for layer, block in enumerate(tower.blocks):
            *attentions, feedforward = block.steps
            at = f"{stack}.block.{layer}.layer"
            for index, (step, name) in enumerate(zip(attentions, ("SelfAttention", "EncDecAttention"), strict=False)):
                for mine, theirs in (("query", "q"), ("key", "k"), ("value", "v"), ("output", "o")):
                    linear(weights, getattr(step.sublayers[0], mine), f"{at}.{index}.{name}.{theirs}")
                norm(weights, step.norm, f"{at}.{index}.layer_norm")
            last = len(attentions)
            linear(weights, feedforward.sublayers[0].up, f"{at}.{last}.DenseReluDense.wi")
            linear(weights, feedforward.sublayers[0].down, f"{at}.{last}.DenseReluDense.wo")
            norm(weights, feedforward.norm, f"{at}.{last}.layer_norm")
        bias = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        weights[bias] = tower.blocks[0].steps[0].sublayers[0].position.table.T
        norm(weights, tower.end, f"{stack}.final_layer_norm")
    table = model.topology.encoder.embedding.table
    tied = ("shared", "encoder.embed_tokens", "decoder.embed_tokens", "lm_head")
    return {**weights, **{f"{name}.weight": table for name in tied}}


LLAMA = [DECODER[0], DECODER[2], UNTIED, "norm=rmsnorm", "activation=swiglu", "bias=none"]
SCALE = "score_scale=${rsqrt:shape.head_dim}"
LLAMAS = {  # beside Llama's settings
    "vocab_size": V, "hidden_size": D, "intermediate_size": 2 * FF // 3, "num_hidden_layers": L,
    "num_attention_heads": H, "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "pad_token_id": 0,
    "tie_word_embeddings": False,
}  # fmt: skip
LLAMA3_ROPE = {"factor": 4.0, "original_max_position_embeddings": 30}
MODELS = {
    "mistral": (
        [*LLAMA, "attention=sliding_window", f"attention.{SCALE}", "attention.n_kv_heads=2", "attention.window=4",
         "attention.counts_itself=true", "position=rope"],
        llama,
        lambda: MistralForCausalLM(MistralConfig(**LLAMAS, sliding_window=4, rope_theta=10000.0)),
    ),
    "qwen2 with windows": (
        [*LLAMA, "bias.query=true", "bias.key=true", "bias.value=true", "attention=window_from_layer",
         "attention.layer=1",
         *(f"attention.{part}.{one}" for part in ("before", "behind") for one in (SCALE, "n_kv_heads=2")),
         "attention.behind.window=4", "attention.behind.counts_itself=true", "position=rope"],
        llama,
        lambda: Qwen2ForCausalLM(Qwen2Config(
            **LLAMAS, use_sliding_window=True, sliding_window=4, max_window_layers=1, rope_theta=10000.0)),
    ),
    "qwen3": (
        [*LLAMA, "attention.head_dim=8", "attention.score_scale=${rsqrt:attention.head_dim}",
         "attention.n_kv_heads=2", "attention.qk_norm=head", "position=rope", "position.base=1e6"],
        llama,
        lambda: Qwen3ForCausalLM(Qwen3Config(**LLAMAS, head_dim=8, rope_theta=1e6)),
    ),
    "smollm3": (
        [*LLAMA, f"attention.{SCALE}", "attention.n_kv_heads=2", "position=rope_and_none",
         "position.pattern=[rope,none]", "position.rope.base=5000.0"],
        llama,
        lambda: SmolLM3ForCausalLM(SmolLM3Config(**LLAMAS, no_rope_layer_interval=2, rope_theta=5000.0)),
    ),
    "llama 3.1": (
        [*LLAMA, f"attention.{SCALE}", "attention.n_kv_heads=2", "position=rope_llama3", "position.factor=4",
         "position.original_length=30"],
        llama,
        lambda: LlamaForCausalLM(LlamaConfig(**LLAMAS, rope_parameters={
            "rope_type": "llama3", "rope_theta": 10000.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            **LLAMA3_ROPE})),
    ),
    "llama": (
        [*DECODER, UNTIED, "norm=rmsnorm", "activation=swiglu", "bias=none", "position=rope", "attention.n_kv_heads=2"],
        llama,
        lambda: LlamaForCausalLM(LlamaConfig(
            vocab_size=V, hidden_size=D, intermediate_size=2 * FF // 3, num_hidden_layers=L, num_attention_heads=H,
            num_key_value_heads=2, rms_norm_eps=1e-6)),
    ),
    "gptj": (
        [*DECODER, UNTIED, "norm.eps=1e-5", "activation=gelu", "bias.logits=true", "block=parallel", "position=rope",
         "position.interleaved=true", "position.fraction=0.67"],
        gptj,
        lambda: GPTJForCausalLM(GPTJConfig(
            vocab_size=V, n_embd=D, n_layer=L, n_head=H, rotary_dim=4, n_inner=FF, n_positions=64)),
    ),
    "gpt_neox": (
        [*DECODER, UNTIED, "norm.eps=1e-5", "activation=gelu", "activation.function.approximate=none", "bias=all",
         "position=rope", "position.fraction=0.34"],
        neox,
        lambda: GPTNeoXForCausalLM(GPTNeoXConfig(
            vocab_size=V, hidden_size=D, num_hidden_layers=L, num_attention_heads=H, intermediate_size=FF,
            use_parallel_residual=False,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.34})),
    ),
    "bloom": (
        [*DECODER, "norm.eps=1e-5", "activation=gelu", "bias=all", "position=alibi", "embedding.norm=true",
         "feedforward.d_ff=96"],
        bloom,
        lambda: BloomForCausalLM(BloomConfig(vocab_size=V, hidden_size=D, n_layer=L, n_head=H)),
    ),
    "gpt2": (
        [*DECODER, "norm.eps=1e-5", "activation=gelu", "bias=all", "position=learned", "position.max_length=64"],
        gpt2,
        lambda: GPT2LMHeadModel(GPT2Config(
            vocab_size=V, n_embd=D, n_layer=L, n_head=H, n_inner=FF, n_positions=64,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)),
    ),
    "longt5 local": (
        ["norm=rmsnorm", "bias=none", "attention=local_encoder", "attention.encoder.window=3"],
        longt5,
        lambda: LongT5ForConditionalGeneration(LongT5Config(
            vocab_size=V, d_model=D, d_kv=K, d_ff=FF, num_layers=L, num_heads=H, dropout_rate=0.0, local_radius=3)),
    ),
    "longt5 transient-global": (
        ["norm=rmsnorm", "bias=none", "attention=transient_global", "attention.encoder.window=3",
         "attention.encoder.global_block=3"],
        longt5,
        lambda: LongT5ForConditionalGeneration(LongT5Config(
            vocab_size=V, d_model=D, d_kv=K, d_ff=FF, num_layers=L, num_heads=H, dropout_rate=0.0, local_radius=3,
            global_block_size=3, encoder_attention_type="transient-global")),
    ),
    "t5 with heads of their own width": (
        ["norm=rmsnorm", "bias=none", "attention.head_dim=10"],
        t5,
        lambda: T5ForConditionalGeneration(T5Config(
            vocab_size=V, d_model=D, d_kv=10, d_ff=FF, num_layers=L, num_heads=H, dropout_rate=0.0)),
    ),
    "t5": (
        ["norm=rmsnorm", "bias=none"],
        t5,
        lambda: T5ForConditionalGeneration(T5Config(
            vocab_size=V, d_model=D, d_kv=K, d_ff=FF, num_layers=L, num_heads=H, dropout_rate=0.0)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_equals_transformers(name):
    overrides, weights_of, make = MODELS[name]
    model = tiny(*overrides).eval()
    set_all(model, (0.2,))
    theirs = make().eval()
    weights = {key: values.detach().clone() for key, values in weights_of(model).items()}
    missing, unexpected = theirs.load_state_dict(weights, strict=False)
    assert not unexpected and not [key for key in missing if "inv_freq" not in key]
    batch = batch_for(model)
    decoder_ids = "decoder_input_ids" if "encoder_ids" in batch else "input_ids"
    names = {"encoder_ids": "input_ids", "decoder_ids": decoder_ids}
    expected = theirs(**{other: batch[mine] for mine, other in names.items() if mine in batch}).logits
    torch.testing.assert_close(model.logits(batch), expected, atol=2e-5, rtol=1e-4)

    loss, _ = model(batch)
    loss.backward()
    torch.nn.functional.cross_entropy(expected.flatten(0, 1), batch["targets"].flatten()).backward()
    embedding = getattr(model.topology, model.topology.stacks[0]).embedding
    torch.testing.assert_close(embedding.table.grad, theirs.get_input_embeddings().weight.grad, atol=1e-5, rtol=1e-3)
