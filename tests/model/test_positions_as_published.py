"""Positions as published models have them: the tables and numbers of transformers' classes."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, RobertaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.bart.modeling_bart import BartLearnedPositionalEmbedding
from transformers.models.marian.modeling_marian import MarianSinusoidalPositionalEmbedding
from transformers.models.opt.modeling_opt import OPTLearnedPositionalEmbedding
from transformers.models.roberta.modeling_roberta import RobertaEmbeddings

from ablate.errors import UserError
from ablate.model.contract import Context, View
from ablate.model.position import Rotary, sinusoids
from tests.model.tiny import tiny

K, LENGTH, FACTOR = 64, 512, 6.0
SCALED = {  # option -> its keys, and transformers' type with its keys
    "rope_linear": ({}, "linear", {}),
    "rope_yarn": ({}, "yarn", {}),
    "rope_yarn, other bounds": (
        {"beta_fast": 20.0, "beta_slow": 2.0, "magnitude_factor": 1.3}, "yarn",
        {"beta_fast": 20.0, "beta_slow": 2.0, "attention_factor": 1.3},
    ),
    "rope_llama3": ({}, "llama3", {"low_freq_factor": 1.0, "high_freq_factor": 4.0}),
    "rope_llama3, other bounds": (
        {"low_frequency_factor": 2.0, "high_frequency_factor": 9.0}, "llama3",
        {"low_freq_factor": 2.0, "high_freq_factor": 9.0},
    ),
}  # fmt: skip


def rotary(option: str, **keys: float) -> Rotary:
    """The position of a decoder with heads of K channels."""
    given = [f"position.{key}={value}" for key, value in keys.items()]
    model = tiny(
        "topology=causal_decoder", f"position={option}", *given, head_dim=K, length=LENGTH, batch_tokens=LENGTH
    )
    return model.topology.decoder.stack.blocks[0].steps[0].sublayers[0].position


def theirs(kind: str, base: float, fraction: float, length: int | None = None, **keys: float):
    parameters = {"rope_type": kind, "rope_theta": base, "partial_rotary_factor": fraction, "factor": FACTOR, **keys}
    if kind in ("yarn", "llama3"):
        parameters["original_max_position_embeddings"] = LENGTH
    config = LlamaConfig(head_dim=K, max_position_embeddings=LENGTH, rope_parameters=parameters)
    return ROPE_INIT_FUNCTIONS[kind](config, torch.device("cpu"), length)


@pytest.mark.parametrize("fraction", [1.0, 0.5])
@pytest.mark.parametrize("base", [10000.0, 500000.0])
@pytest.mark.parametrize("name", SCALED)
def test_scaled_rotary_tables(name, base, fraction):
    keys, kind, their_keys = SCALED[name]
    ours = rotary(name.partition(",")[0], base=base, fraction=fraction, factor=FACTOR, **keys)
    rates, magnitude = theirs(kind, base, fraction, **their_keys)
    torch.testing.assert_close(ours.rates(torch.device("cpu")), rates, atol=0, rtol=1e-5)
    assert ours.magnitude() == pytest.approx(magnitude)
    plain = rotary("rope", base=base, fraction=fraction).rates(torch.device("cpu"))
    assert (rates / plain).min() < 0.9  # so that it can be seen


def test_ntk_is_a_dynamic_table():
    length = 3 * LENGTH
    rates, _ = theirs("dynamic", 10000.0, 1.0, length)
    ours = rotary("rope_ntk", factor=FACTOR * length / LENGTH - (FACTOR - 1))
    torch.testing.assert_close(ours.rates(torch.device("cpu")), rates, atol=0, rtol=1e-5)
    assert rates[-1] * 13 == pytest.approx(rotary("rope").rates(torch.device("cpu"))[-1])  # slowed by the factor


def test_magnitude_reaches_queries_and_keys():
    x = torch.ones(1, 4, 3, K)
    context = lambda: Context(View(torch.ones(1, 3)))  # noqa: E731
    keys = {"factor": 1.0, "magnitude_factor": 1.5}
    scaled, plain = rotary("rope_yarn", **keys).rotate(x, x, context()), rotary("rope").rotate(x, x, context())
    for one, other in zip(scaled, plain, strict=True):
        torch.testing.assert_close(one, 1.5 * other)


def test_channels_by_number():
    assert rotary("rope", channels=16).width == rotary("rope", fraction=0.25).width == 16
    for option, words in {
        "position.channels=3": "pairs of channels, not 3 of 6",
        "position.channels=8": "pairs of channels, not 8 of 6",
    }.items():
        with pytest.raises(UserError, match=words):
            tiny("position=rope", option)
    with pytest.raises(UserError, match="give one of them"):
        tiny("position=rope", "position.channels=4", "position.fraction=0.5")


def test_bases_by_layer_as_gemma3():
    from transformers import Gemma3TextConfig
    from transformers.models.gemma3.modeling_gemma3 import Gemma3RotaryEmbedding

    settings = ["position=rope_by_layer", "position.global.base=1e6", "position.global.factor=8"]
    model = tiny("topology=causal_decoder", *settings, head_dim=K)
    parameters = {
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
    }
    layer_types = ["sliding_attention", "full_attention"]
    config = Gemma3TextConfig(head_dim=K, num_hidden_layers=2, layer_types=layer_types, rope_parameters=parameters)
    theirs = Gemma3RotaryEmbedding(config)
    view = View(torch.ones(1, 30))
    for block, kind in zip(model.topology.decoder.stack.blocks, layer_types, strict=True):
        angles = block.steps[0].sublayers[0].position._angles(view)[:, 0]
        cos, sin = theirs(torch.zeros(1, 30, K), torch.arange(30)[None], kind)
        torch.testing.assert_close(torch.cat((angles, angles), -1).cos(), cos, atol=1e-5, rtol=0)
        torch.testing.assert_close(torch.cat((angles, angles), -1).sin(), sin, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (["position=rope_llama3", "position.low_frequency_factor=4"], "must be below position.high_frequency_factor=4"),
        (["position=rope_yarn", "position.beta_slow=40"], "must be at most position.beta_fast=32"),
        (["position=rope_linear", "position.factor=0.5"], "must be 1 or more"),
        (["position=rope_ntk", "position.channels=2"], "needs more than 2"),
        (["position=learned", "position.offset=-1"], "must not be negative"),
        (["attention=window_from_layer", "attention.layer=2"], "attention.behind is used by no layer"),
        (["position=rope_by_layer", "position.pattern=[local]", "position.global.base=1"], "must be above 1"),
    ],
)
def test_what_cannot_be(option, words):
    with pytest.raises(UserError, match=words):
        tiny(*option)


def test_sinusoids_of_marian():
    at = torch.arange(40)
    marian = MarianSinusoidalPositionalEmbedding(40, 24)
    marian.weight.data = marian.create_weight() if hasattr(marian, "create_weight") else marian._init_weight()
    torch.testing.assert_close(sinusoids(at, 24, 10000.0, endpoint=False), marian.weight.data, atol=1e-5, rtol=0)
    assert (sinusoids(at, 24, 10000.0) - marian.weight.data).abs().max() > 0.1


def test_sinusoids_of_the_papers_text():
    """PE(pos, 2i) = sin(pos / 10000^(2i/d)), PE(pos, 2i+1) = cos of the same."""
    found = sinusoids(torch.arange(40), 24, 10000.0, endpoint=False, interleaved=True)
    for pos in (0, 1, 7, 39):
        for i in range(12):
            angle = torch.tensor(pos / 10000 ** (2 * i / 24))
            torch.testing.assert_close(
                found[pos, 2 * i : 2 * i + 2], torch.stack((angle.sin(), angle.cos())), atol=1e-5, rtol=0
            )


def learned(length: int = 16):
    model = tiny("topology=encoder", "position=learned", "position.offset=2", length=length)
    return model.topology.encoder.position


def segments(*lengths: int) -> torch.Tensor:
    return (torch.arange(16) < torch.tensor(lengths)[:, None]).long()


@pytest.mark.parametrize("padded", [False, True])
def test_learned_positions_with_an_offset(padded):
    position = learned()
    present = segments(16, 11)
    view = View(torch.full((2, 16), 5), segments=present if padded else None)
    found = position.add(torch.zeros(2, 16, 24), view)
    assert position.table.shape == (18, 24)

    bart = BartLearnedPositionalEmbedding(16, 24)
    opt = OPTLearnedPositionalEmbedding(16, 24)
    bart.weight.data = opt.weight.data = position.table.data
    ids = torch.where(present.bool(), 5, 1) if padded else view.ids
    ones = torch.ones(2, 16, dtype=torch.long)
    torch.testing.assert_close(found, bart(ids).expand(2, -1, -1))
    in_use = present.bool() if padded else ones.bool()
    torch.testing.assert_close(found[in_use], opt(present if padded else ones)[in_use])

    config = RobertaConfig(
        vocab_size=30, hidden_size=24, num_attention_heads=4, max_position_embeddings=18, pad_token_id=1
    )
    places = RobertaEmbeddings(config).create_position_ids_from_input_ids(ids, 1)
    torch.testing.assert_close(found[in_use], position.table[places][in_use])


def test_learned_positions_with_an_offset_end_where_they_did():
    position = learned()
    with pytest.raises(UserError, match="17 tokens is longer than position.max_length=16"):
        position.add(torch.zeros(1, 17, 24), View(torch.ones(1, 17)))
    packed = View(torch.ones(1, 4), positions=torch.tensor([[0, 1, 0, 15]]))
    torch.testing.assert_close(position.add(torch.zeros(1, 4, 24), packed)[0], position.table[[2, 3, 2, 17]])
