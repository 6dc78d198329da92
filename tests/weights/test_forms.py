"""Classes of `transformers` by their tables: the same logits with all parameters random, in and out."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import transformers
from transformers import AutoConfig

from ablate.config import build_model, compose
from ablate.errors import UserError
from ablate.weights import form

LENGTH, ROWS = 37, 60
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 40}
T5 = {"d_model": 32, "num_layers": 2, "num_decoder_layers": 3, "num_heads": 4, "d_kv": 6, "d_ff": 48}
UNTIED = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
BLOOM_LIKE = {key: value for key, value in SMALL.items() if key != "intermediate_size"}
OPT = {**BLOOM_LIKE, "ffn_dim": 48, "max_position_embeddings": 40, "word_embed_proj_dim": 32}
BLOOM = {"hidden_size": 32, "n_layer": 2, "n_head": 4}
CASES = {
    "bloom": ("BloomForCausalLM", BLOOM),
    "gpt_neox": ("GPTNeoXForCausalLM", {**SMALL, "rope_parameters": {
        "rope_type": "default", "rope_theta": 300.0, "partial_rotary_factor": 0.5}}),
    "cohere": ("CohereForCausalLM", {**SMALL, "num_key_value_heads": 1, "logit_scale": 0.25}),
    "falcon": ("FalconForCausalLM", {**BLOOM_LIKE, "num_kv_heads": 2, "new_decoder_architecture": True, "bias": False,
                                     "ffn_hidden_size": 48}),
    "gemma2": ("Gemma2ForCausalLM", {**SMALL, "num_key_value_heads": 2, "head_dim": 10, "query_pre_attn_scalar": 10,
                                     "sliding_window": 7, "attn_logit_softcapping": 2.0,
                                     "final_logit_softcapping": 3.0}),
    "opt": ("OPTForCausalLM", {**OPT, "do_layer_norm_before": True}),
    "mistral": ("MistralForCausalLM", {**SMALL, "num_key_value_heads": 2, "sliding_window": 7}),
    "olmo": ("OlmoForCausalLM", SMALL),
    "olmo2": ("Olmo2ForCausalLM", {**SMALL, "num_key_value_heads": 2}),
    "qwen3": ("Qwen3ForCausalLM", {**SMALL, "num_key_value_heads": 2, "head_dim": 10}),
    "gpt2": ("GPT2LMHeadModel", GPT),
    "gpt2, own width": ("GPT2LMHeadModel", {**GPT, "n_inner": 56, "activation_function": "relu"}),
    "gptj": ("GPTJForCausalLM", {**GPT, "rotary_dim": 4}),
    "llama": ("LlamaForCausalLM", SMALL),
    "llama, grouped": ("LlamaForCausalLM", {**SMALL, "num_key_value_heads": 2, "head_dim": 10}),
    "phi": ("PhiForCausalLM", SMALL),
    "qwen2": ("Qwen2ForCausalLM", {**SMALL, "num_key_value_heads": 2}),
    "t5": ("T5ForConditionalGeneration", T5),
    "t5v11": ("T5ForConditionalGeneration", {**T5, **UNTIED}),
}  # fmt: skip
SPECIAL = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "decoder_start_token_id": 0}


def library_model(class_name, settings):
    """A model of the library in which every parameter is random: gains 1 + 0.15 n, all else 0.15 n."""
    cls = getattr(transformers, class_name)
    model = cls(cls.config_class(vocab_size=ROWS, attn_implementation="eager", **SPECIAL, **settings)).eval()
    if class_name.startswith("T5"):
        untie(model, settings)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            gain = parameter.ndim == 1 and name.endswith("weight")
            parameter.copy_(gain + 0.15 * torch.randn(parameter.shape, generator=generator))
    return model


def untie(model, settings):
    """The head that a T5 is to have by its settings: this version ties all until weights are loaded from a folder."""
    if settings.get("tie_word_embeddings") is False:
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())


def ids(rows=2, seed=1):
    return torch.randint(3, ROWS, (rows, LENGTH), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module", params=CASES)
def pair(request):
    class_name, settings = CASES[request.param]
    theirs = library_model(class_name, settings)
    known = form.of(theirs.config)
    assert known is form.called(class_name)
    cfg = compose(known.overrides(theirs.config))
    ours = build_model(cfg).eval()
    known.load(ours, theirs.state_dict())
    return known, theirs, cfg, ours


def logits_of(model, padded=0):
    """Of ours or theirs; the last `padded` tokens of the second row are padding."""
    encoder_ids, decoder_ids = ids(seed=1), ids(seed=2)
    mask = torch.ones_like(decoder_ids)
    if padded:
        mask[1, -padded:] = 0
    if isinstance(model, transformers.PreTrainedModel):
        if model.config.is_encoder_decoder:
            return model(
                input_ids=encoder_ids, attention_mask=mask, decoder_input_ids=decoder_ids, use_cache=False
            ).logits
        return model(input_ids=decoder_ids, attention_mask=mask, use_cache=False).logits
    if hasattr(model.topology, "encoder"):
        batch = {"encoder_ids": encoder_ids, "decoder_ids": decoder_ids}
        return model.logits({**batch, "encoder_segments": mask, "decoder_segments": torch.ones_like(mask)})
    return model.logits({"decoder_ids": decoder_ids, **({"decoder_segments": mask} if padded else {})})


@torch.no_grad()
def test_the_same_logits(pair):
    _, theirs, _, ours = pair
    expected = logits_of(theirs)
    assert expected.abs().max() > 0.3
    torch.testing.assert_close(logits_of(ours), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_same_logits_beside_padding(pair):
    _, theirs, _, ours = pair
    real = LENGTH - 9
    expected, found = logits_of(theirs, padded=9), logits_of(ours, padded=9)
    torch.testing.assert_close(found[0], expected[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(found[1, :real], expected[1, :real], atol=1e-5, rtol=0)


@torch.no_grad()
def test_out_again_bit_for_bit(pair):
    known, theirs, cfg, ours = pair
    config, state = known.export(cfg, ours)
    assert state.keys() == theirs.state_dict().keys()
    assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in state.items())
    made = AutoConfig.for_model(**config)
    again = type(theirs)._from_config(made, attn_implementation="eager").eval()
    if known.model_type == "t5":
        untie(again, config)
    again.load_state_dict(state, strict=True)
    torch.testing.assert_close(logits_of(again), logits_of(theirs), atol=1e-6, rtol=0)  # of two tanh forms of GELU
    assert known.overrides(made.to_dict()) == known.overrides(config)


@torch.no_grad()
def test_every_tensor_is_read(pair):
    """Each tensor of theirs that is changed changes ours: none is left out, none is taken for another."""
    known, theirs, cfg, ours = pair
    before, fresh = logits_of(ours), build_model(cfg).eval()
    state = theirs.state_dict()
    for key in state:
        changed = copy.copy(state)
        for name, value in state.items():  # all names of one tensor
            if value.data_ptr() == state[key].data_ptr():
                changed[name] = value + 0.3
        known.load(fresh, changed)
        assert not torch.equal(logits_of(fresh), before), key


def test_what_is_not_known_is_said():
    with pytest.raises(UserError, match="model_type=qwen4: must be one of .*; did you mean 'qwen[23]'"):
        form.of({"model_type": "qwen4"})
    with pytest.raises(UserError, match="GPT2LMHead: must be one of .*; did you mean 'GPT2LMHeadModel'"):
        form.called("GPT2LMHead")
    gpt2 = {"model_type": "gpt2", "vocab_size": ROWS, **GPT}
    with pytest.raises(UserError, match="scale_attn_by_inverse_layer_idx=True: no option of ours does that"):
        form.of(gpt2).overrides({**gpt2, "scale_attn_by_inverse_layer_idx": True})
    with pytest.raises(UserError, match="n_embd / n_head = 32 / 5 must be whole"):
        form.of(gpt2).overrides({**gpt2, "n_head": 5})
    with pytest.raises(UserError, match="the config lacks n_layer"):
        form.of(gpt2).overrides({key: value for key, value in gpt2.items() if key != "n_layer"})


def test_every_class_is_tested_and_on_the_page():
    known = {one.class_name for one in form.every()}
    assert known == {class_name for class_name, _ in CASES.values()}
    page = (Path(__file__).parents[2] / "docs" / "presets.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for name in known)
