"""Published sizes: the parameters of their transformers classes, to the last one, on the meta device."""

from __future__ import annotations

import pytest

from ablate.config import build_model, compose
from ablate.cost import cost, parameters
from tests.model.test_published_parts import BERT, DECODER, EXACT, GATED, MODELS, SCALE, SUM_NORMED, UNTIED
from tests.model.tiny import SHAPE, overrides

LLAMA = [*DECODER, *GATED, UNTIED, "norm=rmsnorm", "activation=swiglu"]
PARALLEL = [*DECODER, "block=parallel", "activation=gelu", "position=rope"]


def learned(rows: int) -> list[str]:
    return ["position=learned", f"position.max_length={rows}", "position.tie=[]"]


def without(overrides: list[str], *keys: str) -> list[str]:
    return [one for one in overrides if one.partition("=")[0] not in keys]


BERT_ALONE = without(BERT, "position", "position.max_length", "position.tie")
COUNTS = {  # overrides, layers, width, heads, width of each, d_ff, ids, parameters
    "bert": ([*BERT_ALONE, *EXACT, *learned(512)], 12, 768, 12, 64, 3072, 30522, 109_514_298),
    "roberta": ([*without(BERT_ALONE, "embedding.token_types"), "embedding.token_types=1", *EXACT, *learned(514)],
                12, 768, 12, 64, 3072, 50265, 124_697_433),
    "albert": ([*BERT_ALONE, "activation=gelu", *learned(512), "sharing=all", "embedding=projected",
                "embedding.d_inner=128"], 12, 768, 12, 64, 3072, 30000, 11_221_680),
    "modernbert": (MODELS["modernbert"].overrides, 22, 768, 12, 64, 1152, 50368, 149_655_232),
    "bart": ([*SCALE, *EXACT, *SUM_NORMED, "bias=all", "block.placement=post", *learned(1026)],
             6, 768, 12, 64, 3072, 50265, 139_420_416),
    "opt_350m": ([*without(MODELS["opt_350m"].overrides, "position", "position.max_length", "position.tie",
                           "embedding.d_inner"), "embedding.d_inner=512", *learned(2050)],
                 24, 1024, 16, 64, 4096, 50272, 331_196_416),
    "gemma2_2b": ([*without(MODELS["gemma2"].overrides, "attention.n_kv_heads"), "attention.n_kv_heads=4"],
                  26, 2304, 8, 256, 9216, 256000, 2_614_341_888),
    "palm_8b": (MODELS["cohere"].overrides, 32, 4096, 16, 256, 16384, 256000, 8_632_012_800),
    "olmo_7b": (MODELS["olmo"].overrides, 32, 4096, 32, 128, 11008, 50304, 6_888_095_744),
    "phi_2": ([*without(MODELS["phi"].overrides, "position.fraction"), "position.fraction=0.4"],
              32, 2560, 32, 80, 10240, 51200, 2_779_683_840),
    "gptj": ([*PARALLEL, UNTIED, "bias=feedforward_and_head"], 28, 4096, 16, 256, 16384, 50400, 6_050_882_784),
    "gptneox": (MODELS["gpt_neox"].overrides, 44, 6144, 64, 96, 24576, 50432, 20_554_567_680),
    "falcon_7b": ([*PARALLEL, "bias=none", "attention.n_kv_heads=1"], 32, 4544, 71, 64, 18176, 65024, 6_921_720_704),
    "falcon_40b": ([*PARALLEL, "bias=none", "block.separate_norms=true", "attention.n_kv_heads=8"],
                   60, 8192, 128, 64, 32768, 65024, 41_303_293_952),
    "qwen1_7b": ([*without(LLAMA, "bias"), "bias=qkv"], 32, 4096, 32, 128, 11008, 151936, 7_721_324_544),
    "llama_65b": ([*LLAMA, "feedforward.d_ff=${multiple:256,8/3,shape.d_model}"],
                  80, 8192, 64, 128, 32768, 32000, 65_285_660_672),
    "llama2_70b": ([*LLAMA, "feedforward.d_ff=${multiple:4096,52/15,shape.d_model}", "attention.n_kv_heads=8"],
                   80, 8192, 64, 128, 32768, 32000, 68_976_648_192),
}  # fmt: skip


def test_operations_of_the_dense_layer_and_the_projection_are_counted():
    """Two operations for each weight and token, and twice that in the backward pass."""
    shape = overrides("topology=encoder")
    plain = cost(compose(shape))
    tokens, d, n = plain["tokens_per_step"], SHAPE["d_model"], SHAPE["d_model"] // 6
    transformed = cost(compose([*shape, "head=transformed_softmax"]))
    assert transformed["flops_per_step"] - plain["flops_per_step"] == 6 * tokens * d * d
    projected = cost(compose([*shape, "embedding=projected"]))
    assert projected["flops_per_step"] - plain["flops_per_step"] == 6 * tokens * (
        2 * d * n + SHAPE["vocab_size"] * (n - d)
    )


@pytest.mark.parametrize("name", COUNTS)
def test_has_as_many_parameters_as_published(name):
    given, layers, width, heads, of_each, d_ff, ids, expected = COUNTS[name]
    shape = {"n_layers": layers, "d_model": width, "n_heads": heads, "head_dim": of_each, "d_ff": d_ff,
             "vocab_size": ids, "length": 16, "batch_tokens": 32}  # fmt: skip
    cfg = compose([*(f"shape.{key}={value}" for key, value in shape.items()), *given])
    assert parameters(build_model(cfg, device="meta"))["total"] == expected
