"""Presets at their published shapes have as many parameters as `transformers` counts for the released models."""

import pytest

from ablate.config import build_model, compose, presets

COUNTS = {  # tied tensors once; classes of transformers on the meta device, with the released models' configs
    "albert": 11_221_680,
    "bart": 139_420_416,
    "bert": 109_514_298,
    "bigbird": 128_111_286,
    "bloom": 559_214_592,
    "deepseek_67b": 67_425_001_472,
    "falcon_40b": 41_303_293_952,
    "falcon_7b": 6_921_720_704,
    "gemma2_9b": 9_241_705_984,
    "gemma3_1b": 999_885_952,
    "gpt": 116_534_784,
    "gpt2": 124_439_808,
    "gpt2_xl": 1_557_611_200,
    "gpt3": 174_604_259_328,
    "gptj": 6_050_882_784,
    "gptneox": 20_554_567_680,
    "llama": 6_738_415_616,
    "llama2_70b": 68_976_648_192,
    "llama3_1_8b": 8_030_261_248,
    "llama3_8b": 8_030_261_248,
    "llama_pro_8b": 8_357_482_496,
    "longt5_local": 247_577_856,
    "longt5_tglobal": 247_587_456,
    "mistral_7b": 7_241_732_096,
    "modernbert": 149_655_232,
    "mt5": 582_401_280,
    "olmo2_7b": 7_298_617_344,
    "olmo_1b": 1_176_764_416,
    "olmo_7b": 6_888_095_744,
    "opt": 125_239_296,
    "opt_350m": 331_196_416,
    "palm": 540_356_474_880,
    "phi_1_5": 1_418_270_720,
    "phi_2": 2_779_683_840,
    "qwen1_7b": 7_721_324_544,
    "qwen2_0_5b": 494_032_768,
    "qwen2_7b": 7_615_616_512,
    "qwen3_8b": 8_190_735_360,
    "roberta": 124_697_433,
    "smollm3_3b": 3_075_098_624,
    "t5": 222_903_552,
    "t5_11b": 11_307_321_344,
    "t5v11": 247_577_856,
    "transformer2017": 63_082_496,
    "ul2_20b": 19_459_613_696,
    "xlnet": 360_300_800,
    "yi_34b": 34_388_917_248,
}
DERIVED = {  # no class: what their papers print, in billions, or what follows from the printed sizes; without the table
    "anthropic_lm": (51.5, True),
    "chinchilla": (70.1, False),
    "gopher": (279.7, False),
    "lamda": (137.4, True),
}
D = 768
LACKS = {  # what a class has, and its masked language model does not use
    "bigbird": D * D + D,  # a pooler
    "transformer2017": 72 * 512,  # Marian's biases of queries, keys, values and outputs, which the paper's has not
    "xlnet": 24 * 3 * 1024 + 1024,  # relative segments of each layer, and the vector where the second stream begins
}
OTHERS = {"afm_on_device", "colt5", "electra"}  # counts that are not published, or of parts that are not there yet


def parameters(*overrides):
    model = build_model(compose(overrides), device="meta")
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_the_count_is_the_published_one(name):
    assert parameters(f"preset={name}", f"shape={name}") + LACKS.get(name, 0) == COUNTS[name]


@pytest.mark.parametrize("name", sorted(DERIVED))
def test_the_count_is_about_what_the_paper_says(name):
    billions, without_table = DERIVED[name]
    found = parameters(f"preset={name}", f"shape={name}")
    shape = compose([f"shape={name}"]).shape
    found -= shape.vocab_size * shape.d_model if without_table else 0
    assert found / 1e9 == pytest.approx(billions, rel=0.003)


def test_ul2_untied():
    assert parameters("preset=ul2_20b", "shape=ul2_20b", "embedding.tie=[encoder,decoder]") == 19_591_209_984


def test_every_preset_is_counted():
    assert set(presets.names()) == {*COUNTS, *DERIVED, *OTHERS}
