"""Which pairs each pattern looks at, against the papers' definitions written as loops."""

from __future__ import annotations

import pytest
import torch

from ablate.errors import UserError
from ablate.model.contract import CAUSAL, FULL, PREFIX, Context, Place, View
from ablate.model.sparse import BlockSparse, Fixed, SlidingWindow, Strided, scramble
from tests.model.tiny import batch_for, tiny

LENGTHS = (1, 7, 16, 21)
SPARSE = [
    "alternating", "block_sparse", "factorized", "factorized_alternating", "factorized_fixed",
    "factorized_fixed_alternating", "factorized_interleaved", "sliding_window",
]  # fmt: skip


class Bare:
    """Just enough of a model's parts to make one attention."""

    d_model, dropout = 8, 0.0

    def unique(self, word):
        return word

    def linear(self, *sizes, **options):
        return torch.nn.Identity()

    def position_needs(self, place):
        return frozenset()


def pattern_of(option, length, order=FULL, *, n_heads=4, layer=0, **numbers):
    """(H or 1,T,T): what an attention looks at and its order lets it see."""
    place = Place("encoder", layer, 6, "self_attention")
    attention = option(Bare(), place, n_heads=n_heads, n_kv_heads=n_heads, head_dim=2, score_scale=1.0, **numbers)
    view = View(torch.ones(1, length, dtype=torch.long), order)
    seen = attention._visible(view)
    assert seen.shape[0] == 1 and seen.dtype == torch.bool
    return seen[0]


def by_loops(length, rule):
    return torch.tensor([[rule(i, j) for j in range(length)] for i in range(length)])


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("window", [0, 1, 5, 40])
def test_sliding_window(length, window):
    both = by_loops(length, lambda i, j: i - window <= j <= i + window)
    behind = by_loops(length, lambda i, j: i - window <= j <= i)
    assert torch.equal(pattern_of(SlidingWindow, length, window=window)[0], both)
    assert torch.equal(pattern_of(SlidingWindow, length, CAUSAL, window=window)[0], behind)


def test_sliding_window_as_mistral():
    from transformers.masking_utils import sliding_window_causal_mask_function

    theirs = sliding_window_causal_mask_function(5)
    at = torch.arange(21)
    expected = theirs(0, 0, at[:, None], at[None, :])
    assert torch.equal(pattern_of(SlidingWindow, 21, CAUSAL, window=4)[0], expected)


def test_windows_that_count_the_token_itself():
    from transformers.masking_utils import sliding_window_causal_mask_function

    at = torch.arange(21)
    expected = sliding_window_causal_mask_function(5)(0, 0, at[:, None], at[None, :])
    assert torch.equal(pattern_of(SlidingWindow, 21, CAUSAL, window=5, counts_itself=True)[0], expected)
    one_less = pattern_of(SlidingWindow, 21, window=4)
    assert torch.equal(pattern_of(SlidingWindow, 21, window=5, counts_itself=True), one_less)


def test_sliding_window_as_gpt_neo():
    from transformers.models.gpt_neo.modeling_gpt_neo import GPTNeoConfig, GPTNeoSelfAttention

    config = GPTNeoConfig(attention_types=[[["global", "local"], 1]], num_layers=2, hidden_size=8, num_heads=2,
                          window_size=5, max_position_embeddings=21)  # fmt: skip
    seen = GPTNeoSelfAttention(config, "local").bias[0, 0].bool()
    assert torch.equal(pattern_of(SlidingWindow, 21, CAUSAL, window=5, counts_itself=True)[0], seen)


def test_sliding_window_as_modernbert():
    from transformers import ModernBertConfig
    from transformers.masking_utils import create_bidirectional_sliding_window_mask

    config = ModernBertConfig(local_attention=8, num_hidden_layers=2, attn_implementation="eager")
    x = torch.zeros(1, 21, 8)
    mask = create_bidirectional_sliding_window_mask(config=config, inputs_embeds=x, attention_mask=None)
    assert torch.equal(pattern_of(SlidingWindow, 21, window=4)[0], mask[0, 0] == 0)


# Child et al. 2019, section 4.3, for a query i that sees those behind; both ways in an encoder.
STRIDED = {
    "near": lambda i, j, stride: max(0, i - stride) <= j <= i,
    "far": lambda i, j, stride: (i - j) % stride == 0,
}
FIXED = {
    "near": lambda i, j, stride, summary: j // stride == i // stride,
    "far": lambda i, j, stride, summary: j % stride in range(stride - summary, stride),
}


@pytest.mark.parametrize("factors", [["near"], ["far"], ["near", "far"]], ids="+".join)
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("stride", [1, 4, 5])
def test_strided(stride, length, factors):
    seen = pattern_of(Strided, length, CAUSAL, stride=stride, factors=factors, by_head=False)
    rule = lambda i, j: any(STRIDED[name](i, j, stride) for name in factors)  # noqa: E731
    behind = by_loops(length, lambda i, j: j <= i and rule(i, j))
    assert torch.equal(seen[0], behind)
    both = pattern_of(Strided, length, stride=stride, factors=factors, by_head=False)
    assert torch.equal(both[0], behind | behind.T)


@pytest.mark.parametrize("factors", [["near"], ["far"], ["near", "far"]], ids="+".join)
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("stride", "summary"), [(1, 1), (4, 1), (5, 2), (5, 5)])
def test_fixed(stride, summary, length, factors):
    numbers = {"stride": stride, "summary": summary, "factors": factors, "by_head": False}
    rule = lambda i, j: i == j or any(FIXED[name](i, j, stride, summary) for name in factors)  # noqa: E731
    assert torch.equal(pattern_of(Fixed, length, **numbers)[0], by_loops(length, rule))
    behind = by_loops(length, lambda i, j: j <= i and rule(i, j))
    assert torch.equal(pattern_of(Fixed, length, CAUSAL, **numbers)[0], behind)


@pytest.mark.parametrize("order", [FULL, CAUSAL])
def test_every_token_is_reached_in_two_steps(order):
    """The paper's condition for its factors."""
    for option, numbers in ((Strided, {}), (Fixed, {"summary": 1})):
        near, far = (
            pattern_of(option, 20, order, stride=5, factors=[name], by_head=False, **numbers)[0].float()
            for name in ("near", "far")
        )
        reached = (near + far).clamp(max=1)
        expected = torch.ones(20, 20) if order == FULL else torch.ones(20, 20).tril()
        assert torch.equal(((reached @ reached) > 0).float(), expected)


def test_factors_by_head():
    numbers = {"stride": 4, "summary": 1}
    near, far = (pattern_of(Fixed, 13, factors=[name], by_head=False, **numbers)[0] for name in ("near", "far"))
    seen = pattern_of(Fixed, 13, factors=["near", "far"], by_head=True, n_heads=5, **numbers)
    assert torch.equal(seen, torch.stack((near, near, near, far, far)))


BIGBIRD = {"block_size": 3, "window_blocks": 1, "global_blocks": [0, -1], "random_blocks": 2, "random_seed": 0}


def blocks_of(length, order=FULL, **numbers):
    """(H,N,N): the pattern by blocks, every block's tokens being alike; None of it is masked by the order."""
    seen = pattern_of(BlockSparse, length, order, **{**BIGBIRD, **numbers})
    count = -(-length // 3)
    size = 3
    if order == CAUSAL:  # the last token of each block of queries, the first of each block of keys
        return seen[:, [min(size * i + 2, length - 1) for i in range(count)]][:, :, ::size]
    blocks = seen[:, ::size, ::size]
    spread = blocks.repeat_interleave(size, 1).repeat_interleave(size, 2)[:, :length, :length]
    assert torch.equal(seen, spread)
    return blocks


@pytest.mark.parametrize("length", [1, 7, 30, 50])
def test_block_sparse_in_an_encoder(length):
    blocks = blocks_of(length)
    count = blocks.shape[-1]
    for head in blocks:
        for i in range(count):
            sure = {j for j in range(count) if abs(i - j) <= 1 or {i, j} & {0, count - 1}}
            looked = set(head[i].nonzero().flatten().tolist())
            assert sure <= looked
            assert len(looked - sure) == min(2, count - len(sure))


@pytest.mark.parametrize("length", [1, 7, 30, 50])
def test_block_sparse_in_a_decoder(length):
    blocks = blocks_of(length, CAUSAL)
    for head in blocks:
        for i in range(blocks.shape[-1]):
            sure = {j for j in (0, i - 1, i) if j >= 0}
            looked = set(head[i].nonzero().flatten().tolist())
            assert sure <= looked <= set(range(i + 1))
            assert len(looked - sure) == min(2, i + 1 - len(sure))


def test_block_sparse_in_a_decoder_does_not_know_the_length():
    long, short = (pattern_of(BlockSparse, length, CAUSAL, **BIGBIRD) for length in (50, 29))
    assert torch.equal(long[:, :29, :29], short)


def test_block_sparse_without_each_part():
    nothing = {"window_blocks": 0, "global_blocks": [], "random_blocks": 0}
    assert torch.equal(blocks_of(30, **nothing)[0], torch.eye(10, dtype=torch.bool))
    band = by_loops(10, lambda i, j: abs(i - j) <= 2)
    assert torch.equal(blocks_of(30, **{**nothing, "window_blocks": 2})[0], band)
    cross = by_loops(10, lambda i, j: i == j or 3 in (i, j))
    assert torch.equal(blocks_of(30, **{**nothing, "global_blocks": [3, 12]})[0], cross)
    assert blocks_of(30, **{**nothing, "random_blocks": 10}).all()


def test_random_blocks_are_always_the_same_and_differ_by_layer_head_and_seed():
    first = blocks_of(90)
    assert torch.equal(first, blocks_of(90))
    assert not torch.equal(first, blocks_of(90, layer=1))
    assert not torch.equal(first, blocks_of(90, random_seed=1))
    assert not torch.equal(first[0], first[1])


def test_random_blocks_are_spread_evenly():
    numbers = {"window_blocks": 0, "global_blocks": [], "random_blocks": 5}
    drawn = sum(
        blocks_of(120, layer=layer, random_seed=seed, **numbers).float().sum(0)
        for layer in range(6)
        for seed in range(20)
    )
    off = drawn[~torch.eye(40, dtype=torch.bool)]  # each of the 39 others is drawn 5 times in 39, 480 times over
    assert abs(off.mean() - 480 * 5 / 39) < 1e-3
    assert 0.8 < off.std() / (480 * 5 / 39 * (34 / 39)) ** 0.5 < 1.2


def test_scramble_is_one_to_one():
    assert scramble(torch.arange(1 << 16)).unique().numel() == 1 << 16


def test_prefix_sees_itself_through_the_pattern():
    place = Place("decoder", 0, 6, "self_attention")
    window = SlidingWindow(Bare(), place, n_heads=1, n_kv_heads=1, head_dim=2, score_scale=1.0, window=2)
    view = View(torch.ones(2, 9, dtype=torch.long), PREFIX, prefix=torch.tensor([4, 6]))
    for row, prefix in zip(window._visible(view), (4, 6), strict=True):
        assert torch.equal(row[0], by_loops(9, lambda i, j: abs(i - j) <= 2 and (j <= i or j < prefix)))  # noqa: B023


def outputs(model, batch):
    with torch.no_grad():
        return model.topology(batch)[0]


@pytest.mark.parametrize("topology", ["encoder", "causal_decoder"])
@pytest.mark.parametrize("attention", SPARSE)
def test_packed_is_separate(attention, topology):
    """A packed segment sees what it sees alone, wherever it stands."""
    if (attention, topology) == ("block_sparse", "encoder"):
        pytest.skip("its last block is the row's")
    model = tiny(f"attention={attention}", f"topology={topology}")
    packed = batch_for(model, padded=True)
    whole = outputs(model, packed)
    stack = model.topology.scored
    for row in range(2):
        for segment in (1, 2):
            at = packed[f"{stack}_segments"][row] == segment
            alone = outputs(model, {f"{stack}_ids": packed[f"{stack}_ids"][row, at][None]})
            torch.testing.assert_close(alone[0], whole[row, at], atol=1e-5, rtol=1e-5)


WIDE = {
    "sliding_window": ["attention.window=16"],
    "alternating": ["attention.local.window=16"],
    "factorized": ["attention.stride=1"],
    "factorized_fixed": ["attention.stride=16"],
    "block_sparse": ["attention.block_size=16"],
}


@pytest.mark.parametrize("attention", WIDE)
def test_a_pattern_of_everything_is_full(attention):
    wide = tiny(f"attention={attention}", *WIDE[attention])
    narrow, full = tiny(f"attention={attention}"), tiny()
    batch = batch_for(full, padded=True)
    assert torch.equal(outputs(wide, batch), outputs(full, batch))
    assert not torch.equal(outputs(narrow, batch), outputs(full, batch))


@pytest.mark.parametrize("attention", ["sliding_window", "block_sparse"])
def test_the_memory_is_seen_whole(attention):
    """With windows of one token, the last target still sees the first source token."""
    numbers = {"sliding_window": ["attention.window=1"], "block_sparse": ["attention.window_blocks=0"]}
    model = tiny(f"attention={attention}", *numbers[attention], n_layers=1)
    batch = batch_for(model)
    other = {**batch, "encoder_ids": batch["encoder_ids"].clone()}
    other["encoder_ids"][:, 0] += 1
    assert ((outputs(model, batch) - outputs(model, other)).abs().amax(-1) > 0).all()


def test_pattern_by_layer():
    model = tiny("attention=alternating", "attention.pattern=[local,local,global]", n_layers=4)
    kinds = [type(block.steps[0].sublayers[0]).__name__ for block in model.topology.decoder.stack.blocks]
    assert kinds == ["SlidingWindow", "SlidingWindow", "Attention", "SlidingWindow"]
    shared = tiny("attention=alternating", "sharing=all", n_layers=4).topology.encoder.stack.blocks
    assert shared[0] is shared[2] and shared[1] is shared[3] and shared[0] is not shared[1]


@pytest.mark.parametrize("order", [FULL, PREFIX])
@pytest.mark.parametrize("attention", ["block_sparse", "factorized_fixed", "sliding_window"])
def test_compiles_whole(attention, order):
    layer = tiny(f"attention={attention}", "position=none", n_layers=1).topology.encoder.stack.blocks[0].steps[0]

    def run(x, ids, prefix):
        return layer(x, Context(View(ids, order, prefix=prefix)))[0]

    inputs = torch.randn(2, 16, 24), torch.ones(2, 16, dtype=torch.long), torch.tensor([3, 9])
    torch._dynamo.reset()
    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")(*inputs)
    torch.testing.assert_close(compiled, run(*inputs), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("attention", "override", "words"),
    [
        ("factorized_fixed", "attention.summary=9", "summary=9: must be at most attention.stride=4"),
        ("factorized", "attention.stride=0", "1 or more"),
        ("factorized", "attention.factors=[near,fat]", "did you mean 'far'"),
        ("factorized", "attention.factors=[]", "factors"),
        ("alternating", "attention.pattern=[local,globe]", "did you mean 'global'"),
        ("alternating", "attention.pattern=[]", "at least one"),
        ("block_sparse", "attention.random_blocks=-1", "negative"),
        ("sliding_window", "attention.window=0.5", "whole"),
    ],
)
def test_refused_with_a_reason(attention, override, words):
    with pytest.raises(UserError, match=words):
        tiny(f"attention={attention}", override)
