"""Parameter counts at the paper's size, of the authors' library, without allocating anything."""

from __future__ import annotations

import csv
from functools import cache

import pytest

from ablate.config import MODEL_SLOTS, build_model, compose, options, resolved
from ablate.study import definition, runs
from tests.golden.names import GOLDEN
from tests.model.test_golden import ROWS


def depth(layers: str, width: str) -> list[str]:
    """Another number of layers, with the feed-forward's width and the heads changed the other way."""
    return [
        *(f"stack.{stack}.n_layers=${{of:{layers},shape.n_layers}}" for stack in ("encoder", "decoder")),
        f"feedforward.d_ff=${{of:{width},shape.d_ff}}",
        f"attention.n_heads=${{of:{width},shape.n_heads}}",
    ]


OVERRIDES = {
    **ROWS,
    "depth_24": depth("2", "1/2"),
    "depth_18": depth("3/2", "2/3"),
    "depth_8": depth("2/3", "3/2"),
    "depth_6": depth("1/2", "2"),
}
LABELS = {  # of the sweeps' rows -> of the golden files
    "Vanilla Transformer": "vanilla",
    **{name: f"act_{name.lower()}" for name in (
        "GeLU", "Swish", "ELU", "GLU", "GeGLU", "ReGLU", "SeLU", "SwiGLU", "LiGLU", "Sigmoid", "Softplus")},
    "RMS Norm": "rms_norm_partial",
    "Rezero": "rezero",
    "Rezero + LayerNorm": "rezero_layer_norm",
    "Rezero + RMS Norm": "rezero_rms_norm",
    "Fixup": "fixup",
    "24 layers, d_ff=1536, H=6": "depth_24",
    "18 layers, d_ff=2048, H=8": "depth_18",
    "8 layers, d_ff=4608, H=18": "depth_8",
    "6 layers, d_ff=6144, H=24": "depth_6",
    "Block sharing": "block_sharing",
    "Block sharing + Factorized embeddings": "block_sharing_factorized",
    "Block sharing + Factorized & shared embeddings": "block_sharing_factorized_shared",
    "Encoder only block sharing": "block_sharing_encoder",
    "Decoder only block sharing": "block_sharing_decoder",
    "Factorized Embedding": "factorized_embedding",
    "Factorized & shared embeddings": "factorized_shared_embedding",
    "Tied encoder/decoder input embeddings": "tied_encoder_decoder",
    "Tied decoder input and output embeddings": "tied_decoder_in_out",
    "Untied embeddings": "untied_embeddings",
    "Adaptive input embeddings": "adaptive_input",
    "Adaptive softmax": "adaptive_softmax",
    "Adaptive softmax without projection": "adaptive_softmax_noproj",
    "Mixture of softmaxes": "mixture_of_softmaxes",
    "Transparent attention": "transparent",
    "Dynamic convolution": "dynamic_conv",
    "Lightweight convolution": "lightweight_conv",
    "Evolved Transformer": "evolved",
    **{f"Synthesizer ({name})": f"synthesizer_{name.replace(' ', '_')}" for name in (
        "dense", "dense plus", "dense plus alpha", "factorized", "random", "random plus", "random plus alpha")},
    "Universal Transformer": "universal",
    "Mixture of experts": "moe_top2",
    "Switch Transformer": "switch",
    "Funnel Transformer": "funnel_rms_norm",
    "Weighted Transformer": "weighted",
    "Product key memory": "product_key_memory",
}  # fmt: skip
WITH_ADAM = {"Rezero", "Rezero + LayerNorm", "Rezero + RMS Norm", "Fixup"}
# On learned positions: the Synthesizers keep a relative bias, as in the release, two tables of 8 heads; the golden
# counts are without. Relative rows have theirs beside the learned positions.
BEYOND = {label: 2 * 8 * 32 for label in LABELS if label.startswith("Synthesizer")}
RELATIVE = {
    "Relative attention with bias": 223_435_776 + 24 * 12 * 32,
    "Relative attention with shared bias": 223_435_776 + 2 * 12 * 32,
    "Relative position representation": 223_435_776 + 24 * 12 * 64 * 32,
    "Sinusoidal positional encoding": 223_042_560,
}
COUNTS = list(csv.DictReader((GOLDEN / "parameters.csv").open()))


def count(overrides: list[str]) -> int:
    model = build_model(compose(["shape=paper", *overrides]), device="meta")
    assert all(parameter.is_meta for parameter in model.parameters())
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("row", COUNTS, ids=lambda row: row["row"])
def test_parameters_of_the_library(row):
    assert count(OVERRIDES[row["row"]]) == int(row["parameters"])


@cache
def loaded(name: str) -> definition.Sweep:
    return definition.load(name, options.CONF.parent / "sweeps")


def composed(sweep: str, label: str):
    return compose(runs.overrides(loaded(sweep), label, 0, ["shape=paper"]))


@pytest.mark.parametrize("label", LABELS)
def test_the_sweep_runs_what_is_held_to_the_library(label):
    """A row of sweeps/narang2021.yaml is the model whose numbers are compared, with the published optimizer."""
    run, held = resolved(composed("narang2021", label)), resolved(compose(["shape=paper", *OVERRIDES[LABELS[label]]]))
    for slot in MODEL_SLOTS:
        assert run[slot] == held[slot], slot
    assert run["optimizer"]["_target_"].rpartition(".")[2] == ("Adam" if label in WITH_ADAM else "Adafactor")


def test_the_sweeps_have_no_other_rows():
    """Beside Adam, with which those that bring it are compared, and which is not counted."""
    for name, labels in (
        ("narang2021", {*LABELS}),
        ("narang2021_learned_positions", {*LABELS, *RELATIVE} - {"Weighted Transformer"}),
    ):
        assert set(loaded(name).rows) - labels == loaded(name).uncounted == {"Adam"}
        assert labels <= set(loaded(name).rows)


@pytest.mark.parametrize("label", [*(label for label in LABELS if label != "Weighted Transformer"), *RELATIVE])
def test_parameters_of_the_appendix(label):
    golden = {row["row"]: row["parameters_with_learned_positions"] for row in COUNTS}
    expected = RELATIVE.get(label) or int(golden[LABELS[label]]) + BEYOND.get(label, 0)
    model = build_model(composed("narang2021_learned_positions", label), device="meta")
    assert sum(parameter.numel() for parameter in model.parameters()) == expected
