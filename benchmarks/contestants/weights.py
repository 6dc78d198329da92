"""The weights that every contestant starts with, by the names that `transformers` gives them.

Matrices are (out, in), as in `torch.nn.Linear`. Scales and biases differ from channel to channel, so that two models
with equal losses have every one of them in its place.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from .work import Work

State = dict[str, Tensor]


def draw(work: Work) -> State:
    """The weights of a family's model: the same in every process."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"llama": _llama, "gpt2": _gpt2, "t5": _t5}[work.family]
    return {
        name: centre + deviation * torch.randn(shape, generator=generator)
        for name, shape, centre, deviation in shapes(work)
    }


Drawn = Iterator[tuple[str, tuple[int, ...], float, float]]  # name, shape, mean, standard deviation


def _matrix(name: str, out: int, into: int, scale: float = 1.0) -> tuple[str, tuple[int, ...], float, float]:
    return f"{name}.weight", (out, into), 0.0, scale * into**-0.5


def _scale(name: str, width: int) -> tuple[str, tuple[int, ...], float, float]:
    return f"{name}.weight", (width,), 1.0, 0.1


def _bias(name: str, width: int) -> tuple[str, tuple[int, ...], float, float]:
    return f"{name}.bias", (width,), 0.0, 0.1


def _llama(work: Work) -> Drawn:
    d, ff = work.d_model, work.d_ff
    yield _matrix("model.embed_tokens", work.vocab_size, d)
    for layer in range(work.n_layers):
        at = f"model.layers.{layer}"
        yield _scale(f"{at}.input_layernorm", d)
        for name in "qkvo":
            yield _matrix(f"{at}.self_attn.{name}_proj", d, d)
        yield _scale(f"{at}.post_attention_layernorm", d)
        yield _matrix(f"{at}.mlp.gate_proj", ff, d)
        yield _matrix(f"{at}.mlp.up_proj", ff, d)
        yield _matrix(f"{at}.mlp.down_proj", d, ff)
    yield _scale("model.norm", d)


def _gpt2(work: Work) -> Drawn:
    d, ff = work.d_model, work.d_ff
    yield _matrix("transformer.wte", work.vocab_size, d)
    yield _matrix("transformer.wpe", work.length, d)
    for layer in range(work.n_layers):
        at = f"transformer.h.{layer}"
        for name in ("ln_1", "ln_2"):
            yield _scale(f"{at}.{name}", d)
            yield _bias(f"{at}.{name}", d)
        sizes = {"attn.c_attn": (3 * d, d), "attn.c_proj": (d, d), "mlp.c_fc": (ff, d), "mlp.c_proj": (d, ff)}
        for name, (out, into) in sizes.items():
            yield _matrix(f"{at}.{name}", out, into)
            yield _bias(f"{at}.{name}", out)
    yield _scale("transformer.ln_f", d)
    yield _bias("transformer.ln_f", d)


def _t5(work: Work) -> Drawn:
    d, ff = work.d_model, work.d_ff
    yield "shared.weight", (work.vocab_size, d), 0.0, 1.0
    for stack, attentions in (("encoder", ["SelfAttention"]), ("decoder", ["SelfAttention", "EncDecAttention"])):
        for layer in range(work.n_layers):
            for number, attention in enumerate(attentions):
                at = f"{stack}.block.{layer}.layer.{number}"
                yield _scale(f"{at}.layer_norm", d)
                yield _matrix(f"{at}.{attention}.q", d, d, work.head_dim**-0.5)  # T5's scores are not scaled
                for name in "kvo":
                    yield _matrix(f"{at}.{attention}.{name}", d, d)
            at = f"{stack}.block.{layer}.layer.{len(attentions)}"
            yield _scale(f"{at}.layer_norm", d)
            yield _matrix(f"{at}.DenseReluDense.wi_0", ff, d)
            yield _matrix(f"{at}.DenseReluDense.wi_1", ff, d)
            yield _matrix(f"{at}.DenseReluDense.wo", d, ff)
        table = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        yield table, (32, work.n_heads), 0.0, 0.5
        yield _scale(f"{stack}.final_layer_norm", d)
    yield _matrix("lm_head", work.vocab_size, d)
