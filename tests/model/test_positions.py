"""Position encodings against other implementations, against their papers' formulas, and against the authors' tables."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import x_transformers.x_transformers as xt
from transformers import (
    BertConfig,
    GPTNeoXConfig,
    LlamaConfig,
    SeamlessM4Tv2Config,
    T5Config,
)
from transformers.models.bert.modeling_bert import BertEmbeddings
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.gpt_neox import modeling_gpt_neox as neox
from transformers.models.gptj import modeling_gptj as gptj
from transformers.models.llama import modeling_llama as llama
from transformers.models.mpt.modeling_mpt import build_mpt_alibi_tensor
from transformers.models.seamless_m4t_v2.modeling_seamless_m4t_v2 import SeamlessM4Tv2ConformerSelfAttention
from transformers.models.t5.modeling_t5 import T5Attention

from ablate.config import compose
from ablate.config.building import fill_slots
from ablate.errors import UserError
from ablate.model.build import build
from ablate.model.choice import ByLayer
from ablate.model.contract import CAUSAL, FULL, Context, Place, View
from ablate.model.position import (
    ADD,
    BIAS,
    MIX,
    ROTATE,
    ALiBi,
    Contextual,
    Learned,
    NoPosition,
    Position,
    RelativeBias,
    RelativeRepresentation,
    Rotary,
    alibi_slopes,
    relative_buckets,
    sinusoids,
)
from tests.golden.names import GOLDEN
from tests.model.tiny import SHAPE, batch_for, overrides, set_all, tiny

B, H, T, K = 2, 4, 40, 8
PLACE = Place("encoder", 0, 2, "self_attention")


@pytest.fixture(scope="module")
def tables():
    return np.load(GOLDEN / "positions.npz")


def view(order: str = FULL, positions: torch.Tensor | None = None) -> View:
    return View(ids=torch.ones(B, T, dtype=torch.long), order=order, positions=positions)


def context(order: str = FULL) -> Context:
    return Context(view(order))


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def make(option, **options):
    """A position encoding with random weights."""
    position = option(SimpleNamespace(d_model=H * K, unique=str), PLACE, n_heads=H, head_dim=K, **options)
    with torch.no_grad():
        for seed, parameter in enumerate(position.parameters()):
            parameter.copy_(random(*parameter.shape, seed=seed))
    return position


# T5's relative bias


@pytest.mark.parametrize(("bidirectional", "name"), [(True, "bucket_bidirectional"), (False, "bucket_causal")])
def test_buckets_are_the_authors(tables, bidirectional, name):
    found = relative_buckets(
        torch.from_numpy(tables["offset"]).long(), bidirectional=bidirectional, n_buckets=32, max_distance=128
    )
    np.testing.assert_array_equal(found.numpy(), tables[name])


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("n_buckets", "max_distance"), [(32, 128), (16, 40), (64, 1000)])
def test_buckets_against_transformers(bidirectional, n_buckets, max_distance):
    distance = torch.arange(-1500, 1501)
    expected = T5Attention._relative_position_bucket(distance, bidirectional, n_buckets, max_distance)
    found = relative_buckets(distance, bidirectional=bidirectional, n_buckets=n_buckets, max_distance=max_distance)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("order", [FULL, CAUSAL])
def test_relative_bias_against_transformers(order):
    ours = make(RelativeBias, n_buckets=32, max_distance=128, per_layer=False)
    config = T5Config(num_heads=H, d_kv=K, d_model=H * K, is_decoder=order == CAUSAL)
    theirs = T5Attention(config, has_relative_attention_bias=True)
    theirs.relative_attention_bias.weight.data = ours.table.data.T
    torch.testing.assert_close(ours.bias(random(B, H, T, K), context(order)), theirs.compute_bias(T, T))


@pytest.mark.parametrize("order", [FULL, CAUSAL])
def test_relative_bias_against_x_transformers(order):
    ours = make(RelativeBias, n_buckets=32, max_distance=128, per_layer=False)
    theirs = xt.RelativePositionBias(1.0, causal=order == CAUSAL, num_buckets=32, max_distance=128, heads=H)
    theirs.relative_attention_bias.weight.data = ours.table.data.T
    torch.testing.assert_close(ours.bias(random(B, H, T, K), context(order))[0], theirs(T, T))


def test_relative_bias_is_made_once_for_each_stack_or_for_each_layer():
    tables = lambda model: [name for name, _ in model.named_parameters() if name.endswith("position.table")]  # noqa: E731
    assert len(tables(tiny())) == 2
    assert len(tables(tiny("position.per_layer=true"))) == 4


@pytest.mark.parametrize("position", ["relative_bias", "contextual"])
@pytest.mark.parametrize(
    ("numbers", "reason"), [((2, 128), "at least 4"), ((32, 16), "max_distance=16 must be above 16")]
)
def test_too_few_buckets_are_refused(position, numbers, reason):
    with pytest.raises(UserError, match=reason):
        tiny(f"position={position}", f"position.n_buckets={numbers[0]}", f"position.max_distance={numbers[1]}")


# Added to the input


def test_sinusoids_are_the_authors(tables):
    found = sinusoids(torch.arange(64), 32, 10000.0)
    np.testing.assert_allclose(found.numpy(), tables["sinusoid_64x32"], atol=1e-5)


def test_sinusoids_of_given_positions():
    table = sinusoids(torch.arange(T), 24, 10000.0)
    positions = torch.randint(0, T, (B, T), generator=torch.Generator().manual_seed(0))
    assert torch.equal(sinusoids(positions, 24, 10000.0), table[positions])


@pytest.mark.parametrize("positions", [None, torch.arange(T).flip(0).expand(B, -1)])
def test_learned_against_transformers(positions):
    ours = make(Learned, max_length=64, tie=[])
    config = BertConfig(vocab_size=3, hidden_size=H * K, max_position_embeddings=64, type_vocab_size=1)
    theirs = BertEmbeddings(config)
    theirs.LayerNorm, theirs.dropout = torch.nn.Identity(), torch.nn.Identity()
    theirs.token_type_embeddings.weight.data.zero_()
    theirs.position_embeddings.weight.data = ours.table.data
    x = random(B, T, H * K)
    torch.testing.assert_close(ours.add(x, view(positions=positions)), theirs(inputs_embeds=x, position_ids=positions))


def test_learned_refuses_a_sequence_longer_than_its_table():
    with pytest.raises(UserError, match=f"{T}.*{T - 1}"):
        make(Learned, max_length=T - 1, tie=[]).add(random(B, T, H * K), view())


# Rotary


def positions_of(kind: str) -> torch.Tensor | None:
    return None if kind == "plain" else torch.arange(T).remainder(13).expand(B, -1)


@pytest.mark.parametrize("kind", ["plain", "packed"])
@pytest.mark.parametrize("base", [10000.0, 500.0])
def test_rotary_halves_against_llama(kind, base):
    positions = positions_of(kind)
    q, k = random(B, H, T, K), random(B, 2, T, K, seed=1)
    ours = make(Rotary, base=base, fraction=1.0, interleaved=False).rotate(q, k, Context(view(positions=positions)))
    config = LlamaConfig(
        hidden_size=H * K, num_attention_heads=H, rope_parameters={"rope_type": "default", "rope_theta": base}
    )
    at = torch.arange(T).expand(B, -1) if positions is None else positions
    cos, sin = llama.LlamaRotaryEmbedding(config)(q, at)
    torch.testing.assert_close(ours, llama.apply_rotary_pos_emb(q, k, cos, sin), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["plain", "packed"])
def test_rotary_part_against_neox(kind):
    positions = positions_of(kind)
    q, k = random(B, H, T, K), random(B, H, T, K, seed=1)
    ours = make(Rotary, base=10000.0, fraction=0.25, interleaved=False).rotate(q, k, Context(view(positions=positions)))
    config = GPTNeoXConfig(
        hidden_size=H * K,
        num_attention_heads=H,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25},
    )
    at = torch.arange(T).expand(B, -1) if positions is None else positions
    cos, sin = neox.GPTNeoXRotaryEmbedding(config)(q, at)
    assert cos.shape[-1] == K // 4
    torch.testing.assert_close(ours, neox.apply_rotary_pos_emb(q, k, cos, sin), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_rotary_neighbours_against_gptj_and_x_transformers(fraction):
    q, k = random(B, H, T, K), random(B, H, T, K, seed=1)
    width = int(K * fraction)
    ours, _ = make(Rotary, base=10000.0, fraction=fraction, interleaved=True).rotate(q, k, context())
    sin, cos = gptj.create_sinusoidal_positions(T, width)[None].chunk(2, -1)
    turned = gptj.apply_rotary_pos_emb(q[..., :width].transpose(1, 2), sin, cos).transpose(1, 2)
    torch.testing.assert_close(ours, torch.cat((turned, q[..., width:]), -1), atol=1e-5, rtol=1e-5)
    freqs, scale = xt.RotaryEmbedding(width).forward_from_seq_len(T)
    torch.testing.assert_close(ours, xt.apply_rotary_pos_emb(q, freqs, scale), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("interleaved", [True, False])
@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_rotary_scores_depend_on_distance_alone(interleaved, fraction):
    position = make(Rotary, base=10000.0, fraction=fraction, interleaved=interleaved)
    q, k = (random(1, H, 1, K, seed=seed).expand(B, -1, T, -1) for seed in (0, 1))  # the same vector everywhere
    scores = []
    for offset in (0, 7):
        turned_q, turned_k = position.rotate(q, k, Context(view(positions=torch.arange(T).expand(B, -1) + offset)))
        scores.append(turned_q @ turned_k.transpose(-1, -2))
    torch.testing.assert_close(scores[0], scores[1], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(scores[0][..., 1:, 1:], scores[0][..., :-1, :-1], atol=1e-4, rtol=1e-4)
    assert (scores[0][..., 0, 0] - scores[0][..., 0, 5]).abs().max() > 1e-2


def test_rotary_angles_are_made_once_for_all_layers(monkeypatch):
    made = []
    original = Rotary._angles
    monkeypatch.setattr(Rotary, "_angles", lambda self, view: made.append(view) or original(self, view))
    slots = fill_slots(compose(overrides("topology=encoder", "position=rope")))
    model = build(slots, SHAPE)
    model.logits(batch_for(model, padded=True))
    assert SHAPE["n_layers"] > 1 and len(made) == 2  # for the cosines and for the sines


def test_rotary_refuses_an_odd_number_of_channels():
    with pytest.raises(UserError, match="pairs"):
        make(Rotary, base=10000.0, fraction=0.4, interleaved=False)


# ALiBi


@pytest.mark.parametrize("heads", [1, 2, 4, 6, 8, 12, 16, 20])
def test_alibi_slopes_against_x_transformers(heads):
    assert alibi_slopes(heads) == pytest.approx(xt.AlibiPositionalBias._get_slopes(heads))


def alibi(heads: int, order: str) -> torch.Tensor:
    position = ALiBi(SimpleNamespace(unique=str), PLACE, n_heads=heads, head_dim=K)
    return position.bias(random(B, heads, T, K), context(order))[0]


@pytest.mark.parametrize("heads", [4, 6])
@pytest.mark.parametrize("order", [FULL, CAUSAL])
def test_alibi_against_x_transformers(heads, order):
    torch.testing.assert_close(alibi(heads, order), xt.AlibiPositionalBias(heads)(T, T))


@pytest.mark.parametrize("heads", [4, 6])
def test_alibi_weights_against_bloom(heads):
    """Bloom adds slope x key position, which differs by a constant a row: the causal weights are the same."""
    theirs = build_alibi_tensor(torch.ones(1, T), heads, torch.float32).view(heads, 1, T)
    future = torch.ones(T, T).triu(1).bool()
    weights = [bias.masked_fill(future, -1e9).softmax(-1) for bias in (alibi(heads, CAUSAL), theirs.expand(-1, T, -1))]
    torch.testing.assert_close(*weights)


def test_alibi_weights_against_mpt():
    future = torch.ones(T, T).triu(1).bool()
    theirs = build_mpt_alibi_tensor(H, T).expand(-1, T, -1)
    weights = [bias.masked_fill(future, -1e9).softmax(-1) for bias in (alibi(H, CAUSAL), theirs)]
    torch.testing.assert_close(*weights)


# Tables on queries, keys and values


def test_relative_representation_against_its_formulas():
    """Shaw et al. 2018, equations 3 and 4, with a sum over all pairs."""
    clip = 5
    position = make(RelativeRepresentation, clip=clip)
    q, k, v = (random(B, H, T, K, seed=seed) for seed in range(3))
    weights = (q @ k.transpose(-1, -2) + position.bias(q, context())).softmax(-1)
    out = weights @ v + position.mix(weights, view())
    keys, values = position.keys.double(), position.values.double()
    expected = torch.zeros(B, H, T, K, dtype=torch.double)
    for i in range(T):
        at = [min(max(j - i, -clip), clip) + clip for j in range(T)]
        scores = torch.stack(
            [(q[:, :, i].double() * (k[:, :, j].double() + keys[at[j]])).sum(-1) for j in range(T)], -1
        )
        alpha = scores.softmax(-1)
        for j in range(T):
            expected[:, :, i] += alpha[..., j, None] * (v[:, :, j].double() + values[at[j]])
    torch.testing.assert_close(out.double(), expected, atol=1e-5, rtol=1e-5)


def test_relative_representation_of_keys_against_transformers():
    """SeamlessM4T v2 has the keys' half of Shaw et al. as its `relative_key`."""
    model = tiny("topology=encoder", "position=relative_representation", "position.clip=5", "bias=all")
    ours = model.topology.encoder.stack.blocks[0].steps[0].sublayers[0]
    ours.score_scale = 6**-0.5
    config = SeamlessM4Tv2Config(
        hidden_size=24,
        speech_encoder_attention_heads=4,
        position_embeddings_type="relative_key",
        left_max_position_embeddings=5,
        right_max_position_embeddings=5,
    )
    config._attn_implementation = "eager"
    theirs = SeamlessM4Tv2ConformerSelfAttention(config).eval()
    with torch.no_grad():
        ours.position.values.zero_()
        for mine, other in (("query", "q"), ("key", "k"), ("value", "v"), ("output", "out")):
            getattr(theirs, f"linear_{other}").load_state_dict(getattr(ours, mine).state_dict())
        theirs.distance_embedding.weight.copy_(ours.position.keys)
        x = random(B, T, 24)
        torch.testing.assert_close(ours(x, context()), theirs(x)[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("order", [FULL, CAUSAL])
def test_contextual_against_its_formula(order):
    position = make(Contextual, n_buckets=8, max_distance=20)
    q = random(B, H, T, K)
    at = torch.arange(T)
    buckets = relative_buckets(at[None] - at[:, None], bidirectional=order != CAUSAL, n_buckets=8, max_distance=20)
    expected = torch.einsum("bhqd,hdqk->bhqk", q, position.table[:, :, buckets])
    torch.testing.assert_close(position.bias(q, context(order)), expected)


# What positions are for


@pytest.mark.parametrize("option", ["relative_bias", "relative_representation", "contextual", "rope", "alibi"])
def test_relative_positions_do_not_see_where_a_sequence_starts(option):
    """Behind two tokens of padding of their own segment, the same tokens have the same losses."""
    model = tiny("topology=encoder", f"position={option}").eval()
    batch = batch_for(model)
    ids, length = batch["encoder_ids"], batch["encoder_ids"].shape[1]
    shifted = torch.nn.functional.pad(ids, (2, 0))
    segments = (torch.arange(length + 2) >= 2).long().expand(len(ids), -1)
    with torch.no_grad():
        plain = model.logits(batch)
        moved = model.logits({"encoder_ids": shifted, "encoder_segments": segments})[:, 2:]
    torch.testing.assert_close(plain, moved, atol=1e-5, rtol=1e-5)


def test_without_position_the_order_of_tokens_is_not_seen():
    model = tiny("topology=encoder", "position=none").eval()
    batch = batch_for(model)
    order = torch.randperm(batch["encoder_ids"].shape[1], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        there = model.logits(batch)[:, order]
        back = model.logits({"encoder_ids": batch["encoder_ids"][:, order]})
    torch.testing.assert_close(there, back, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "option", ["sinusoidal", "learned", "relative_bias", "relative_representation", "contextual", "rope", "alibi"]
)
def test_with_a_position_the_order_of_tokens_is_seen(option):
    model = tiny("topology=encoder", f"position={option}").eval()
    batch = batch_for(model)
    ids = batch["encoder_ids"]
    with torch.no_grad():
        there = model.logits(batch).flip(1)
        back = model.logits({"encoder_ids": ids.flip(1)})
    symmetric = option == "alibi"  # distances alone; the order shows in what is near to what
    assert torch.allclose(there, back, atol=1e-5) == symmetric
    swapped = ids.clone()
    swapped[:, [0, 1]] = ids[:, [1, 0]]
    with torch.no_grad():
        assert not torch.allclose(model.logits(batch)[:, -1], model.logits({"encoder_ids": swapped})[:, -1], atol=1e-7)


def built(*, near, far):
    """The positions of the encoder's two layers in a model that has `near` at the first and `far` at the second."""
    slots = fill_slots(compose(overrides())) | {"position": ByLayer(["near", "far"], near=near, far=far)}
    model = build(slots, SHAPE)
    return [block.steps[0].sublayers[0].position for block in model.topology.encoder.stack.blocks]


class Idle(Position):
    """Asks for every hook and overrides none."""

    needs = frozenset({ADD, ROTATE, BIAS, MIX})


def test_a_hook_that_is_not_overridden_does_nothing():
    slots = fill_slots(compose(overrides("topology=encoder", "position=none")))
    idle, none = (build(slots | {"position": position}, SHAPE) for position in (partial(Idle), partial(NoPosition)))
    for model in (idle, none):
        set_all(model)
    batch = batch_for(none, padded=True)
    assert torch.equal(idle.logits(batch), none.logits(batch))


def test_each_of_two_positions_in_a_stack_is_its_own():
    near, far = built(
        near=partial(Rotary, base=1e4, fraction=1.0, interleaved=False),
        far=partial(Rotary, base=1e6, fraction=1.0, interleaved=False),
    )
    q = random(B, H, T, near.width)
    both = context()  # as in one pass, where layers share what they made
    assert not torch.equal(near.rotate(q, q, both)[0], far.rotate(q, q, both)[0])
    bias = partial(RelativeBias, n_buckets=32, max_distance=128, per_layer=False)
    near, far = built(near=bias, far=partial(RelativeBias, n_buckets=8, max_distance=16, per_layer=False))
    ctx = context()
    assert not torch.equal(near.bias(q, ctx), far.bias(q, ctx))
    assert near.bias(q, ctx) is near.bias(q, ctx)  # made once
