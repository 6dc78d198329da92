"""BigBird as transformers has it: the same random blocks in its layer, the same output; short rows see everything."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import BigBirdConfig
from transformers.models.big_bird.modeling_big_bird import BigBirdBlockSparseAttention, BigBirdModel

from ablate.errors import UserError
from ablate.model.contract import FULL, Context, View
from tests.model.tiny import set_all, tiny

D, H, K, BLOCK, BLOCKS, RANDOM = 24, 4, 6, 4, 13, 3
T = BLOCK * BLOCKS


def layer_of(*options: str, layer: int = 0):
    model = tiny(
        "topology=encoder", "attention=big_bird", f"attention.block_size={BLOCK}", "bias=all", "position=none",
        f"attention.score_scale={K**-0.5}", *options,
    )  # fmt: skip
    set_all(model, (0.4,))
    return model.topology.encoder.stack.blocks[layer].steps[0].sublayers[0].eval()


def theirs_of(layer, training: bool, seed: int = 3):
    config = BigBirdConfig(
        hidden_size=D, num_attention_heads=H, block_size=BLOCK, num_random_blocks=RANDOM, max_position_embeddings=T,
        use_bias=True,
    )  # fmt: skip
    other = BigBirdBlockSparseAttention(config, seed=seed).train(training)
    for name in ("query", "key", "value"):
        getattr(other, name).load_state_dict(getattr(layer, name).state_dict())
    return other


def random_table(other, seed: int = 3) -> list:
    """(H,N - 2,r): the blocks that transformers draws in training."""
    np.random.seed(seed)
    plan = other._get_rand_attn_plan(T, BLOCK, RANDOM)
    drawn = other._bigbird_block_rand_mask_with_head(T, T, BLOCK, BLOCK, H, *plan)
    return np.stack(drawn).tolist()


def expected_of(layer, other, x, present):
    band, of_queries, of_keys, blocked = _masks(present)
    with torch.no_grad():
        context, _ = other(x, band, of_queries, of_keys, blocked, blocked)
        return layer.output(context)


def _masks(present):
    blocked, band, of_queries, of_keys = BigBirdModel.create_masks_for_block_sparse_attn(present.float(), BLOCK)
    return band, of_queries, of_keys, blocked


def output(layer, x, segments=None):
    with torch.no_grad():
        return layer(x, Context(View(torch.ones(x.shape[:2], dtype=torch.long), FULL, segments)))


@pytest.mark.parametrize("padding", [0, 9])
@pytest.mark.parametrize("training", [True, False])
def test_equals_transformers(training, padding):
    """Its table of training, all blocks distinct, and that of evaluation, all zeros: block 0 counts four times."""
    other = theirs_of(layer_of(), training)
    table = random_table(other)
    assert training == (np.array(table).max() > 0)
    layer = layer_of(f"attention.random_table={[table, table]}", layer=1)
    other = theirs_of(layer, training)
    x = torch.randn(2, T, D, generator=torch.Generator().manual_seed(0))
    present = (torch.arange(T) < T - padding).long().expand(2, -1)
    expected, found = expected_of(layer, other, x, present), output(layer, x, present if padding else None)
    there = present.bool()
    torch.testing.assert_close(found[there], expected[there], atol=1e-5, rtol=1e-5)
    if not training:  # block 0 once is another result
        seen = output(layer_of("attention.random_blocks=0"), x, present if padding else None)
        assert (seen[there] - expected[there]).abs().max() > 1e-3
    wrong = [[row[1:] + row[:1] for row in table]] * 2 if training else [[[[1] * RANDOM] * (BLOCKS - 2)] * H] * 2
    other_table = layer_of(f"attention.random_table={wrong}")
    assert (output(other_table, x)[there] - expected[there]).abs().max() > 1e-3


@pytest.mark.parametrize(("blocks", "is_full"), [(11, True), (12, False)])
def test_short_rows_see_everything(blocks, is_full):
    layer = layer_of()
    view = View(torch.ones(1, blocks * BLOCK, dtype=torch.long), FULL)
    seen = layer._visible(view)
    assert (seen is None) == is_full
    if seen is not None:
        by_block = seen[0, :, ::BLOCK, ::BLOCK]  # (H,N,N)
        assert (by_block[:, 2:-2].sum(-1) == 5 + RANDOM).all() and by_block[:, [0, -1]].all()


def test_tables_that_do_not_fit():
    table = np.zeros((2, H, BLOCKS - 2, RANDOM), dtype=int)
    for wrong, words in {
        "[[1,2],[3]]": "must be lists of whole numbers: for each layer",
        str(table[:1].tolist()): "must be lists",
        str(table[:, :3].tolist()): "must be lists",
        str((table + BLOCKS).tolist()): "names a block that is none of its 13",
    }.items():
        with pytest.raises(UserError, match=words):
            layer_of(f"attention.random_table={wrong}".replace(" ", ""))
    layer = layer_of(f"attention.random_table={table.tolist()}".replace(" ", ""))
    with pytest.raises(UserError, match="is for 13 blocks, and a sequence has 14"):
        output(layer, torch.randn(1, 14 * BLOCK, D))
    assert output(layer, torch.randn(1, 3 * BLOCK, D)).shape == (1, 3 * BLOCK, D)  # which sees everything
