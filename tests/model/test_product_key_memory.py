"""Product keys against a search among all keys; which layer has them, and what they count."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from ablate.config import build_model, compose
from ablate.cost import cost
from ablate.errors import UserError
from ablate.model.contract import Context, View
from ablate.model.parameter_count import parameters
from ablate.model.product_key_memory import ProductKeyMemory
from tests.model.tiny import set_all, tiny

MEMORY = "feedforward=product_key_memory"
B, T, D = 2, 5, 24


def memory(*overrides: str) -> ProductKeyMemory:
    model = tiny(MEMORY, *overrides)
    set_all(model)
    (found,) = [module for module in model.topology.decoder.modules() if isinstance(module, ProductKeyMemory)]
    return found.eval()


def run(it: ProductKeyMemory, x: torch.Tensor) -> torch.Tensor:
    return it(x, Context(View(torch.zeros(x.shape[:2], dtype=torch.long))))


def among_all(it: ProductKeyMemory, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same by the scores of all N^2 keys: what is read (B,T,D), and the rows (B,T,H,K)."""
    heads, _, n_keys, key_dim = it.keys.shape
    query = it.query(x).unflatten(-1, (heads, 2, key_dim))
    query = functional.layer_norm(query, (key_dim,), it.query_norm.scale, it.query_norm.shift, 1e-6)
    keys = torch.cat([
        it.keys[:, 0, :, None].expand(-1, -1, n_keys, -1), it.keys[:, 1, None].expand(-1, n_keys, -1, -1)
    ], -1).flatten(1, 2)  # fmt: skip
    scores = torch.einsum("bthk,hnk->bthn", query.flatten(-2), keys)
    best, rows = scores.topk(it.n_read, dim=-1)
    return torch.einsum("bthk,bthkd->btd", best.softmax(-1), it.values[rows]), rows


@pytest.mark.parametrize("n_read", [1, 2, 5, 16])
def test_finds_what_a_search_among_all_keys_finds(n_read):
    it = memory(f"feedforward.there.n_read={n_read}")
    x = torch.randn(B, T, D, generator=torch.Generator().manual_seed(n_read), requires_grad=True)
    expected, rows = among_all(it, x)
    found = run(it, x)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    upstream = torch.randn(expected.shape, generator=torch.Generator().manual_seed(0))
    inputs = [x, *it.parameters()]
    gradients = [torch.autograd.grad(y, inputs, upstream, retain_graph=True) for y in (found, expected)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    names = [None, *(name for name, _ in it.named_parameters())]
    moved = gradients[0][names.index("values")].abs().amax(-1) > 0
    assert set(moved.nonzero().flatten().tolist()) <= set(rows.flatten().tolist())


def test_it_reads_in_any_precision():
    it, x = memory(), torch.randn(B, T, D, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = run(it, x)
    assert torch.isfinite(y).all()


def holders(*overrides: str) -> dict[str, list[int]]:
    """The layers of each stack that have a memory."""
    model = build_model(compose([MEMORY, *overrides]), device="meta")
    return {
        name: [
            layer
            for layer, block in enumerate(getattr(model.topology, name).stack.blocks)
            if isinstance(block.steps[-1].sublayers[0], ProductKeyMemory)
        ]
        for name in model.topology.stacks
    }


def test_it_stands_in_the_last_but_one_decoder_layer():
    assert holders("shape=paper") == {"encoder": [], "decoder": [10]}
    assert holders() == {"encoder": [], "decoder": [4]}
    assert holders("topology=causal_decoder", "feedforward.layers=[0,-1]") == {"decoder": [0, 5]}
    assert holders("topology=encoder", "feedforward.stacks=[encoder]") == {"encoder": [4]}


def test_numbers_at_the_papers_shape():
    model = build_model(compose(["shape=paper", MEMORY]), device="meta")
    it = model.topology.decoder.stack.blocks[10].steps[-1].sublayers[0]
    assert it.keys.shape == (4, 2, 512, 64) and it.values.shape == (512**2, 768) and it.n_read == 32
    counts = parameters(model)
    read = 4 * 32 * 768
    assert counts["active"] == counts["total"] - 512**2 * 768 + read


def test_a_look_up_counts_as_a_product_for_the_paper_and_for_nothing_else():
    without, with_memory = (cost(compose(["shape=paper", *overrides])) for overrides in ([], [MEMORY]))
    lookups = 128 * 114 * 4 * 32 * 512**2 * 768
    products = 128 * 114 * (768 * 512 + 512 * 512 - 2 * 768 * 3072)  # query and scores, less a dense network
    assert with_memory["ops_paper"] - without["ops_paper"] == lookups + products
    assert with_memory["flops_per_step"] - without["flops_per_step"] == 6 * products


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["topology=encoder"], "used by no layer.*feedforward.stacks or layers"),
        (["feedforward.layers=[6]"], "used by no layer"),
        (["feedforward.there.n_read=33"], "n_read=33.*n_keys=32"),
        (["shape.d_model=64"], "n_keys"),
    ],
)
def test_refusals(overrides, reason):
    with pytest.raises(UserError, match=reason):
        build_model(compose([MEMORY, *overrides]), device="meta")
