"""Costs against closed forms, at the paper's shape and elsewhere."""

from __future__ import annotations

import csv

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ablate.config import build_model, check_parts, compose, options
from ablate.cost import OUTPUTS, cost, meta_batch
from ablate.errors import UserError
from tests.golden.names import GOLDEN
from tests.model.test_counts import OVERRIDES


def sublayers(
    d: int, heads: int, width: int, ff: int, gated: bool, kv_heads: int | None = None
) -> tuple[int, int, int]:
    """Multiply-accumulates for each token: projections of queries and output, of keys and values, feed-forward."""
    inner = heads * width
    return 2 * d * inner, 2 * d * (kv_heads or heads) * width, (3 if gated else 2) * d * ff


def encoder_decoder(n, s, t, layers, d, heads, width, ff, vocab, gated=False, kv_heads=None) -> tuple[int, int]:
    """(multiply-accumulates of products, of look-ups) of a forward pass over n sequences, causal attention in full."""
    own, keys, feedforward = sublayers(d, heads, width, ff, gated, kv_heads)
    inner = heads * width
    encoder = n * s * layers * (own + keys + 2 * s * inner + feedforward)
    decoder = n * t * layers * (2 * own + keys + 2 * t * inner + 2 * s * inner + feedforward)
    cross = n * s * layers * keys
    logits = n * t * vocab * d
    return encoder + decoder + cross + logits, n * (s + t) * vocab * d


def test_the_baseline_at_the_papers_shape():
    counted = cost(compose(["shape=paper"]))
    products, lookups = encoder_decoder(128, 512, 114, 12, 768, 12, 64, 3072, 32128)
    assert counted["parameters"]["total"] == 223_043_328
    assert counted["parameters"]["non_embedding"] == 223_043_328 - 32128 * 768
    assert counted["ops_paper"] == products + lookups
    assert 11.06e12 <= counted["ops_paper"] <= 11.07e12
    # Backward makes two products of each forward one.
    assert counted["flops_per_step"] == 6 * products
    assert counted["tokens_per_step"] == 65_536


@pytest.mark.parametrize(
    ("overrides", "changes"),
    [
        (["activation=swiglu"], {"ff": 2048, "gated": True}),
        (["attention=multi_query"], {"kv_heads": 1}),
        (["attention=grouped_query"], {"kv_heads": 6}),
        (["position=rope"], {}),
        (["block=parallel"], {}),
    ],
)
def test_variants_at_the_papers_shape(overrides, changes):
    numbers = {"ff": 3072, "layers": 12, "heads": 12} | changes
    expected = encoder_decoder(128, 512, 114, d=768, width=64, vocab=32128, **numbers)
    assert cost(compose(["shape=paper", *overrides]))["ops_paper"] == sum(expected)


@pytest.mark.parametrize("row", list(csv.DictReader((GOLDEN / "operations.csv").open())), ids=lambda row: row["row"])
def test_operations_of_the_library_and_of_the_paper(row):
    """The library's count has products with vectors too, a thousandth or three; the paper prints three digits."""
    found = cost(compose(["shape=paper", *OVERRIDES[row["row"]]]))["ops_paper"] / 1e12
    assert found == pytest.approx(float(row["library_trillions"]), rel=0.003)
    if row["published_trillions"] != "1.9":  # the Funnel Transformer's is a misprint: that of a quarter of the batch
        assert found == pytest.approx(float(row["published_trillions"]), rel=0.01)


def test_convolutions_are_ordinary_operations_that_the_paper_does_not_count():
    """The Evolved Transformer's width-3 convolutions at the paper's shape, three products of each forward one."""
    counted = cost(compose(["shape=paper", "block=evolved"]))
    products = 65_536 * 6 * 3 * 768 * 384
    assert products / 1e12 == pytest.approx(0.3479, abs=1e-4)  # what the library counts apart
    encoder = 2 * 768**2 + 768 * 3072 + 3072 * 384 + 4 * 768**2 + 2 * 512 * 768 + 2 * 768 * 3072
    wide = 4 * 768 * 1536 + 2 * 114 * 1536
    cross = 2 * 768**2 + 2 * 512 * 768  # its keys and values belong to the encoder's tokens
    convolutions = 768 * 1536 + 768 * 384 + 1536 * 768
    decoder = wide + 2 * cross + convolutions + 4 * 768**2 + 2 * 114 * 768 + 2 * 768 * 3072
    forward = 6 * (65_536 * (encoder + 2 * 2 * 768**2) + 14_592 * decoder) + 14_592 * 32_128 * 768
    assert counted["ops_paper"] == forward + 80_128 * 32_128 * 768
    assert counted["flops_per_step"] == 6 * (forward + products)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["norm=rmsnorm", "attention=dynamic_convolution", "embedding=clusters", "head=adaptive_softmax"],
        ["feedforward=switch", "stack=funnel", "residual=deepnorm"],
    ],
)
def test_operations_are_those_of_torchs_own_counter(overrides):
    cfg = compose(["shape=nano", "init=paper", *overrides])
    model = build_model(cfg, device="meta").train()
    with FlopCounterMode(display=False) as counter:
        loss, _ = model(meta_batch(cfg))
        loss.backward()
    assert cost(cfg)["flops_per_step"] == counter.get_total_flops()


@pytest.mark.parametrize("wanted", [(True, True, True), (True, False, True)])
def test_a_layer_norms_outputs_have_the_shapes_that_torch_gives_them(wanted):
    x, scale = torch.empty(2, 3, 4, device="meta"), torch.empty(4, device="meta")
    rows = torch.empty(2, 3, 1, device="meta")
    arguments = {"native_layer_norm": (x, [4], scale, scale, 1e-6)}
    arguments["native_layer_norm_backward"] = (x, x, [4], rows, rows, scale, scale, [*wanted])
    for name, given in arguments.items():
        operation = getattr(torch.ops.aten, name).default
        expected, found = operation(*given), OUTPUTS[operation](*given)
        assert [one if one is None else (one.shape, one.dtype) for one in found] == [
            one if one is None else (one.shape, one.dtype) for one in expected
        ]


def test_a_decoder_alone():
    counted = cost(compose(["shape=paper", "topology=causal_decoder"]))
    own, keys, feedforward = sublayers(768, 12, 64, 3072, gated=False)
    tokens = 128 * 512
    layer = own + keys + 2 * 512 * 768 + feedforward
    assert counted["ops_paper"] == tokens * (12 * layer + 2 * 32128 * 768)


def test_costs_grow_with_the_batch_alone():
    one, two = (cost(compose([f"trainer.global_batch_tokens={tokens}"])) for tokens in (2048, 4096))
    assert two["ops_paper"] == 2 * one["ops_paper"] and two["flops_per_step"] == 2 * one["flops_per_step"]
    assert two["parameters"] == one["parameters"]


def test_every_topology_is_counted_with_each_of_its_objectives():
    fitting = []
    for topology in options.groups()["topology"]:
        for objective in options.groups()["objective"]:
            cfg = compose([f"topology={topology}", f"objective={objective}"])
            try:
                check_parts(cfg)
            except UserError as refusal:
                assert f"objective={objective} does not fit topology={topology}" in str(refusal)
            else:
                fitting.append((topology, objective))
                assert cost(cfg)["flops_per_step"] > 0, (topology, objective)
    assert sorted(fitting) == [
        ("causal_decoder", "causal"),
        ("causal_decoder", "copying"),
        ("causal_decoder", "induction"),
        ("causal_decoder", "recall"),
        ("causal_decoder", "retrieval"),
        ("encoder", "masked"),
        ("encoder_decoder", "prefix"),
        ("encoder_decoder", "span_corruption"),
        ("prefix_decoder", "prefix"),
    ]


def test_the_papers_batch():
    batch = meta_batch(compose(["shape=paper"]))
    assert batch["encoder_ids"].shape == (128, 512)
    assert batch["targets"].shape == batch["decoder_ids"].shape == (128, 114)
    assert all(tensor.is_meta for tensor in batch.values())


def test_what_is_done_twice_to_save_memory_is_not_counted():
    head = ["shape=nano", "head=mixture_of_softmaxes"]
    once, twice = (cost(compose([*head, f"head.recompute={value}"])) for value in ("false", "true"))
    assert once == twice
