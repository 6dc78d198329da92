"""Files of llama2.c (https://github.com/karpathy/llama2.c): a small Llama in one binary file, in and out.

    config, state_dict = llama2c.read("stories260K.bin")      both in the form of `LlamaForCausalLM`
    cfg = compose(LLAMA.overrides(config))
    LLAMA.load(model := build_model(cfg), state_dict)
    llama2c.write("mine.bin", cfg, model, length=512)

The layout is that of its legacy export, all little-endian: seven int32 (width, width of the feed-forward, layers,
heads, key/value heads, vocabulary, longest sequence; the vocabulary is negative where the output layer has a matrix of
its own), then float32 matrices, each kind for all layers, and tables of the rotary angles, which are not read. Rotary
pairs are neighbours, epsilon is 1e-5 and the base of the angles 10,000.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from ablate.errors import UserError
from ablate.model.build import Model
from ablate.weights.form import LLAMA
from ablate.weights.form_weights import halves, neighbours

FORM = "the form of a file of llama2.c"
HEADER = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
          "vocab_size", "max_position_embeddings")  # fmt: skip
EPSILON, BASE = 1e-5, 10000.0
# The kinds of matrices in the order of the file; those with {} are there for each layer.
EMBEDDING, LAYERS, END, HEAD = "model.embed_tokens", (
    "input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
    "post_attention_layernorm", "mlp.gate_proj", "mlp.down_proj", "mlp.up_proj",
), "model.norm", "lm_head"  # fmt: skip


def read(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The config and the state dict of a file, as those of a `LlamaForCausalLM`; float32, on the CPU.

    Raises UserError, in one line, for a file that cannot be read, has another layout or another size than its header
    says.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    config = _config(content, path)
    shapes = dict(_shapes(config))
    sizes = [int(np.prod(shape)) for shape in shapes.values()]
    if len(content) != (wanted := 4 * (len(HEADER) + sum(sizes))):
        raise UserError(f"{path}: has {len(content):,} bytes, and by its header it must have {wanted:,}")
    numbers = torch.from_numpy(np.frombuffer(content, "<f4", offset=4 * len(HEADER)).astype(np.float32))
    pieces = numbers.split(sizes)
    state = {name: piece.view(shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)}
    return config, dict(_state(config, state))


def write(path: str | Path, cfg: DictConfig, model: Model, *, length: int) -> None:
    """Write `model`, built from `cfg`, as a file for sequences of up to `length` tokens, whole or not at all.

    Raises UserError for a model without Llama's form, and for one that a file cannot describe: another epsilon or base,
    heads that together are not as wide as the model, biases, another activation than SwiGLU.
    """
    config, state = LLAMA.export(cfg, model)
    config["max_position_embeddings"] = length
    width = config["num_attention_heads"] * config["head_dim"]
    _require(config["rms_norm_eps"] == EPSILON, f"norm.eps={EPSILON}")
    _require(config["rope_parameters"]["rope_theta"] == BASE, f"position.base={BASE}")
    _require(config["hidden_act"] == "silu", "activation=swiglu")
    _require(not config["attention_bias"] and not config["mlp_bias"], "bias=none")
    _require(config["hidden_size"] == width, "shape.d_model = shape.n_heads times shape.head_dim")
    partial = Path(path).with_name(Path(path).name + ".partial")
    with partial.open("wb") as file:
        _write(file, config, state)
    os.replace(partial, path)


def _require(holds: bool, what: str) -> None:
    """Raise UserError if a file cannot describe the model: `what` it would need."""
    if not holds:
        raise UserError(f"the model does not have {FORM}: it needs {what}")


def _write(file: BinaryIO, config: dict[str, Any], state: dict[str, Tensor]) -> None:
    header = [config[key] for key in HEADER]
    if not config["tie_word_embeddings"]:
        header[HEADER.index("vocab_size")] *= -1
    file.write(np.array(header, "<i4").tobytes())
    for name, _ in _shapes(config):
        if name in ("cos", "sin"):
            numbers = getattr(_angles(config), name)()
        elif name in LAYERS:
            each = [state[f"model.layers.{layer}.{name}.weight"] for layer in range(config["num_hidden_layers"])]
            heads = _rotated(name, config)
            numbers = torch.stack([x if heads is None else neighbours(x, heads, config["head_dim"]) for x in each])
        else:
            numbers = state[f"{name}.weight"]
        file.write(numbers.float().cpu().numpy().astype("<f4").tobytes())


def _config(content: bytes, path: str | Path) -> dict[str, Any]:
    if len(content) < 4 * len(HEADER):
        raise UserError(f"{path}: too short for a file of llama2.c")
    config: dict[str, Any] = dict(zip(HEADER, np.frombuffer(content, "<i4", len(HEADER)).tolist(), strict=True))
    tied = config["vocab_size"] > 0
    config["vocab_size"] = abs(config["vocab_size"])
    heads = config["num_attention_heads"]
    fits = min(config.values()) > 0 and config["hidden_size"] % heads == 0
    if not fits or heads % config["num_key_value_heads"] or config["hidden_size"] // heads % 2:
        raise UserError(f"{path}: not a file of llama2.c, or of a newer layout than its legacy export")
    return {
        "model_type": "llama",
        **config,
        "head_dim": config["hidden_size"] // heads,
        "hidden_act": "silu",
        "rms_norm_eps": EPSILON,
        "rope_parameters": {"rope_type": "default", "rope_theta": BASE},
        "tie_word_embeddings": tied,
    }


def _shapes(config: dict[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The matrices in the order of the file; those of the layers are stacked."""
    d, inner, layers, heads, kv_heads, vocabulary, length = (config[key] for key in HEADER)
    head_dim = config["head_dim"]
    of_layer = {
        "self_attn.q_proj": (heads * head_dim, d), "self_attn.k_proj": (kv_heads * head_dim, d),
        "self_attn.v_proj": (kv_heads * head_dim, d), "self_attn.o_proj": (d, heads * head_dim),
        "mlp.gate_proj": (inner, d), "mlp.down_proj": (d, inner), "mlp.up_proj": (inner, d),
    }  # fmt: skip
    yield EMBEDDING, (vocabulary, d)
    for name in LAYERS:
        yield name, (layers, *of_layer.get(name, (d,)))
    yield END, (d,)
    yield "cos", (length, head_dim // 2)
    yield "sin", (length, head_dim // 2)
    if not config["tie_word_embeddings"]:
        yield HEAD, (vocabulary, d)


def _state(config: dict[str, Any], stacked: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """The matrices by their names in a `LlamaForCausalLM`."""
    for name, tensor in stacked.items():
        if name in LAYERS:
            heads = _rotated(name, config)
            for layer, x in enumerate(tensor):
                yield (
                    f"model.layers.{layer}.{name}.weight",
                    x if heads is None else halves(x, heads, config["head_dim"]),
                )
        elif name not in ("cos", "sin"):
            yield f"{name}.weight", tensor
    if config["tie_word_embeddings"]:
        yield f"{HEAD}.weight", stacked[EMBEDDING]


def _rotated(name: str, config: dict[str, Any]) -> int | None:
    """The number of heads of a matrix whose outputs are rotated; None for the others."""
    heads = {"self_attn.q_proj": "num_attention_heads", "self_attn.k_proj": "num_key_value_heads"}
    return config[heads[name]] if name in heads else None


def _angles(config: dict[str, Any]) -> Tensor:
    """(length, K/2): the angle of each pair of channels at each position."""
    head_dim = config["head_dim"]
    rates: Tensor = BASE ** (-torch.arange(0, head_dim, 2).float() / head_dim)
    return torch.arange(config["max_position_embeddings"])[:, None] * rates
