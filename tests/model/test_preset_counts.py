"""Presets at their published shapes have as many parameters as `transformers` counts for the released models."""

import pytest

from ablate.config import build_model, compose, presets

COUNTS = {  # tied tensors once; transformers' classes on the meta device
    "deepseek_67b": 67_425_001_472,
    "gpt2": 124_439_808,
    "gpt2_xl": 1_557_611_200,
    "gptj": 6_050_882_784,
    "llama": 6_738_415_616,
    "llama2_70b": 68_976_648_192,
    "llama3_8b": 8_030_261_248,
    "mt5": 582_401_280,
    "phi_1_5": 1_418_270_720,
    "qwen1_7b": 7_721_324_544,
    "qwen2_0_5b": 494_032_768,
    "qwen2_7b": 7_615_616_512,
    "t5": 222_903_552,
    "t5_11b": 11_307_321_344,
    "t5v11": 247_577_856,
    "ul2_20b": 19_459_613_696,
    "yi_34b": 34_388_917_248,
}


def parameters(*overrides):
    model = build_model(compose(overrides), device="meta")
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_the_count_is_the_published_one(name):
    assert parameters(f"preset={name}", f"shape={name}") == COUNTS[name]


def test_ul2_untied():
    assert parameters("preset=ul2_20b", "shape=ul2_20b", "embedding.tie=[encoder,decoder]") == 19_591_209_984


def test_every_preset_is_counted():
    assert set(presets.names()) == set(COUNTS)
