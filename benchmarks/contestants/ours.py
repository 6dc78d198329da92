"""ablate, through `ablate.compose` and `ablate.build`."""

from __future__ import annotations

import torch

import ablate
from ablate.model.build import Model
from ablate.weights.form import LLAMA, T5

from .contract import Made
from .weights import State
from .work import Work

EXACT = ["head.z_loss=0", "dropout=0"]  # the peers' loss is the cross-entropy alone


def make(work: Work, weights: State) -> Made:
    """The family's model, built from overrides."""
    load = {"llama": LLAMA.load, "t5": T5.load, "gpt2": load_gpt2}[work.family]
    model, loss = ablate.build(ablate.compose([*overrides(work), *EXACT]))
    load(model, weights)
    return Made(model.train(), loss)


def overrides(work: Work) -> list[str]:
    """The overrides that make the family's model of these sizes."""
    batch = [f"shape.length={work.length}", f"shape.batch_tokens={work.sequences * work.length}"]
    return [*{"llama": _llama, "gpt2": _gpt2, "t5": _t5}[work.family](work), *batch]


def _llama(work: Work) -> list[str]:
    return LLAMA.overrides(
        {
            "model_type": "llama",
            "hidden_size": work.d_model,
            "num_hidden_layers": work.n_layers,
            "num_attention_heads": work.n_heads,
            "intermediate_size": work.d_ff,
            "vocab_size": work.vocab_size,
            "rms_norm_eps": work.epsilon,
            "tie_word_embeddings": True,
        }
    )


def _t5(work: Work) -> list[str]:
    return T5.overrides(
        {
            "model_type": "t5",
            "d_model": work.d_model,
            "d_kv": work.head_dim,
            "d_ff": work.d_ff,
            "num_layers": work.n_layers,
            "num_heads": work.n_heads,
            "vocab_size": work.vocab_size,
            "layer_norm_epsilon": work.epsilon,
            "feed_forward_proj": "gated-gelu",
            "tie_word_embeddings": False,
        }
    )


def _gpt2(work: Work) -> list[str]:
    return [
        "topology=causal_decoder",
        f"norm.eps={work.epsilon}",
        "activation=gelu",
        "activation.function.approximate=none",
        "bias=all",
        "position=learned",
        "attention.score_scale=${rsqrt:shape.head_dim}",
        "head.tied_scale=1.0",
        f"shape.d_model={work.d_model}",
        f"shape.n_layers={work.n_layers}",
        f"shape.n_heads={work.n_heads}",
        f"shape.head_dim={work.head_dim}",
        f"shape.d_ff={work.d_ff}",
        f"shape.vocab_size={work.vocab_size}",
    ]


@torch.no_grad()
def load_gpt2(model: Model, weights: State) -> None:
    """Copy GPT-2's weights, matrices (out, in), into a model of its form."""
    decoder = model.topology.decoder
    pairs = [(decoder.embedding.table, "wte.weight"), (decoder.position.table, "wpe.weight")]
    for number, block in enumerate(decoder.stack.blocks):
        (attention,), (feedforward,) = (step.sublayers for step in block.steps)
        parts = {
            "ln_1": block.steps[0].norm,
            "attn.c_proj": attention.output,
            "ln_2": block.steps[1].norm,
            "mlp.c_fc": feedforward.up,
            "mlp.c_proj": feedforward.down,
        }
        pairs += [pair for name, part in parts.items() for pair in _pairs(part, f"h.{number}.{name}")]
        for kind in ("weight", "bias"):
            thirds = weights[f"transformer.h.{number}.attn.c_attn.{kind}"].chunk(3)
            for name, third in zip(("query", "key", "value"), thirds, strict=True):
                getattr(getattr(attention, name), kind).copy_(third)
    for parameter, name in [*pairs, *_pairs(decoder.stack.end, "ln_f")]:
        parameter.copy_(weights[f"transformer.{name}"])


def _pairs(part: torch.nn.Module, name: str) -> list[tuple[torch.Tensor, str]]:
    """The parameters of a norm or of a projection, each with its name in GPT-2."""
    weight, bias = (part.scale, part.shift) if hasattr(part, "scale") else (part.weight, part.bias)
    return [(weight, f"{name}.weight"), (bias, f"{name}.bias")]
