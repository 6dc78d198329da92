"""LongT5's encoder attentions against its own layers; blocks of packed documents as each document has them alone."""

from __future__ import annotations

import pytest
import torch
from transformers import LongT5Config
from transformers.models.longt5.modeling_longt5 import (
    LongT5LocalAttention,
    LongT5TransientGlobalAttention,
    _get_local_attention_mask,
)

from ablate.errors import UserError
from ablate.model.contract import FULL, Context, View
from ablate.model.transient_global import blocks_of
from tests.model.tiny import batch_for, set_all, tiny

D, H, K, RADIUS, BLOCK = 24, 4, 6, 5, 4
NUMBERS = [f"attention.encoder.window={RADIUS}", "position.n_buckets=8", "position.max_distance=20"]
GLOBAL = [
    f"attention.encoder.global_block={BLOCK}",
    "attention.encoder.n_buckets=8",
    "attention.encoder.max_distance=20",
]


def layer_of(option: str, *options: str):
    model = tiny("topology=encoder", "norm=rmsnorm", f"attention={option}", *NUMBERS, *options)
    set_all(model, (0.4,))
    return model.topology.encoder.stack.blocks[0].steps[0].sublayers[0].eval()


def theirs(layer, x, mask, radius: int = RADIUS, block: int = BLOCK):
    config = LongT5Config(
        d_model=D, d_kv=K, num_heads=H, local_radius=radius, global_block_size=block, dropout_rate=0.0,
        relative_attention_num_buckets=8, relative_attention_max_distance=20,
    )  # fmt: skip
    is_global = hasattr(layer, "global_norm")
    other = (LongT5TransientGlobalAttention if is_global else LongT5LocalAttention)(config, True).eval()
    parts = {"q": layer.query, "k": layer.key, "v": layer.value, "o": layer.output}
    weights = {f"{name}.weight": part.weight for name, part in parts.items()}
    weights["relative_attention_bias.weight"] = layer.position.table.T
    if is_global:
        weights["global_relative_attention_bias.weight"] = layer.block_bias.table.T
        weights["global_input_layer_norm.weight"] = layer.global_norm.scale
    other.load_state_dict(weights)
    if not is_global and mask is not None:
        mask = _get_local_attention_mask(mask, radius + 1, x.device)
    with torch.no_grad():
        return other(x, mask=mask)[0]


def output(layer, x, segments=None, positions=None):
    ids = torch.ones(x.shape[:2], dtype=torch.long)
    with torch.no_grad():
        return layer(x, Context(View(ids, FULL, segments, positions)))


def random(*size: int):
    return torch.randn(*size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("length", [9, 24, 27])  # with a last block that is not whole
@pytest.mark.parametrize("option", ["local_encoder", "transient_global"])
def test_equals_longt5(option, length):
    layer, x = layer_of(option, *(GLOBAL if option == "transient_global" else [])), random(2, length, D)
    expected = theirs(layer, x, torch.ones(2, length))
    torch.testing.assert_close(output(layer, x), expected, atol=1e-5, rtol=1e-5)
    for slip in ({"radius": RADIUS - 1}, {"radius": RADIUS + 1}, {"block": BLOCK + 1}):
        if option == "local_encoder" and "block" in slip:
            continue
        assert (theirs(layer, x, torch.ones(2, length), **slip) - expected).abs().max() > 1e-3


@pytest.mark.parametrize("lengths", [(27, 19), (27, 3), (16, 25)])
@pytest.mark.parametrize("option", ["local_encoder", "transient_global"])
def test_equals_longt5_with_padding(option, lengths):
    layer, x = layer_of(option, *(GLOBAL if option == "transient_global" else [])), random(2, 27, D)
    present = (torch.arange(27) < torch.tensor(lengths)[:, None]).long()
    expected, found = theirs(layer, x, present.float()), output(layer, x, present)
    torch.testing.assert_close(found[present.bool()], expected[present.bool()], atol=1e-5, rtol=1e-5)


def test_packed_documents_as_each_alone():
    layer, lengths = layer_of("transient_global", *GLOBAL), [11, 3, 4, 7]
    x = random(1, 27, D)
    segments = torch.cat([torch.full((n,), i + 1) for i, n in enumerate(lengths)] + [torch.zeros(2, dtype=torch.long)])
    positions = torch.cat([torch.arange(n) for n in (*lengths, 2)])
    found, start = output(layer, x, segments[None], positions[None]), 0
    for length in lengths:
        part = slice(start, start + length)
        torch.testing.assert_close(found[:, part], output(layer, x[:, part]), atol=1e-5, rtol=1e-5)
        start += length
    blocks = blocks_of(View(segments[None], FULL, segments[None], positions[None]), BLOCK)
    assert blocks.of_token[0].tolist() == [0] * 4 + [1] * 7 + [-1] * 3 + [2] * 4 + [3] * 7 + [-1] * 2
    assert blocks.segments[0].tolist() == [1, 1, 3, 4, -1, -1]


def test_one_table_for_all_layers_and_a_norm_in_each():
    model = tiny("attention=transient_global", "norm=rmsnorm")
    names = [name for name, _ in model.named_parameters()]
    assert sum("block_bias.table" in name for name in names) == 1
    assert sum("global_norm.scale" in name for name in names) == 2
    set_all(model, (0.3,))
    assert torch.isfinite(model(batch_for(model, padded=True))[0])


def test_only_where_there_is_an_encoder():
    for option in ("local_encoder", "transient_global"):
        for topology in ("causal_decoder", "prefix_decoder"):
            with pytest.raises(UserError, match="attention.encoder is used by no layer.*choose another attention"):
                tiny(f"attention={option}", f"topology={topology}")
    with pytest.raises(UserError, match="cannot keep the causal order|'mix'"):
        tiny("attention=transient_global", "position=relative_representation")
    with pytest.raises(UserError, match="attention=transient_global norms sums"):
        tiny("attention=transient_global", "norm=batchnorm", "topology=encoder")
