"""torch's own layers: `nn.TransformerEncoder` with a causal mask as GPT-2, `nn.Transformer` beside T5.

`nn.Transformer` has no relative bias, no RMS norm and no gated feed-forward; that of the T5-like family has LayerNorm,
a plain feed-forward of as many parameters, and no positions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .contract import Made, cross_entropy
from .weights import State
from .work import Work


def make(work: Work, weights: State) -> Made:
    """The family's model."""
    if work.is_encoder_decoder:
        torch.manual_seed(0)
        pair = EncoderDecoder(work)
        return Made(
            pair, lambda batch: cross_entropy(pair(batch["encoder_ids"], batch["decoder_ids"]), batch["targets"])
        )
    model = Decoder(work)
    model.load(weights)
    return Made(model, lambda batch: cross_entropy(model(batch["decoder_ids"]), batch["targets"]))


class Decoder(nn.Module):
    """GPT-2 of `nn.TransformerEncoderLayer`."""

    def __init__(self, work: Work):
        super().__init__()
        self.tokens = nn.Embedding(work.vocab_size, work.d_model)
        self.places = nn.Embedding(work.length, work.d_model)
        layer = nn.TransformerEncoderLayer(
            work.d_model,
            work.n_heads,
            work.d_ff,
            dropout=0.0,
            activation="gelu",
            layer_norm_eps=work.epsilon,
            batch_first=True,
            norm_first=True,
        )
        end = nn.LayerNorm(work.d_model, eps=work.epsilon)
        self.layers = nn.TransformerEncoder(layer, work.n_layers, end, enable_nested_tensor=False)
        mask = nn.Transformer.generate_square_subsequent_mask(work.length)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """(B, T) -> (B, T, V)."""
        x = self.tokens(ids) + self.places.weight
        return functional.linear(self.layers(x, mask=self.mask, is_causal=True), self.tokens.weight)

    def load(self, weights: State) -> None:
        """Copy GPT-2's weights."""
        names = {
            "ln_1": "norm1",
            "ln_2": "norm2",
            "attn.c_proj": "self_attn.out_proj",
            "mlp.c_fc": "linear1",
            "mlp.c_proj": "linear2",
        }
        state = {"tokens.weight": weights["transformer.wte.weight"], "places.weight": weights["transformer.wpe.weight"]}
        for kind in ("weight", "bias"):
            for number in range(len(self.layers.layers)):
                theirs, mine = f"transformer.h.{number}", f"layers.layers.{number}"
                state |= {f"{mine}.{name}.{kind}": weights[f"{theirs}.{key}.{kind}"] for key, name in names.items()}
                state[f"{mine}.self_attn.in_proj_{kind}"] = weights[f"{theirs}.attn.c_attn.{kind}"]
            state[f"layers.norm.{kind}"] = weights[f"transformer.ln_f.{kind}"]
        self.load_state_dict(state, strict=True)


class EncoderDecoder(nn.Module):
    """`nn.Transformer` between an embedding and an output matrix."""

    def __init__(self, work: Work):
        super().__init__()
        self.tokens = nn.Embedding(work.vocab_size, work.d_model)
        self.layers = nn.Transformer(
            work.d_model,
            work.n_heads,
            work.n_layers,
            work.n_layers,
            work.d_ff * 3 // 2,
            dropout=0.0,
            activation=functional.gelu,
            layer_norm_eps=work.epsilon,
            batch_first=True,
            norm_first=True,
        )
        self.output = nn.Linear(work.d_model, work.vocab_size, bias=False)
        mask = nn.Transformer.generate_square_subsequent_mask(work.targets)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, encoder_ids: Tensor, decoder_ids: Tensor) -> Tensor:
        """(B, S) and (B, T) -> (B, T, V)."""
        source, target = self.tokens(encoder_ids), self.tokens(decoder_ids)
        return self.output(self.layers(source, target, tgt_mask=self.mask, tgt_is_causal=True))
