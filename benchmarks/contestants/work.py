"""What is trained: the sizes of a family's model, and its batches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

EPSILON = {"llama": 1e-6, "gpt2": 1e-5, "t5": 1e-6}  # of the norms, as each library has it by default


@dataclass(frozen=True)
class Work:
    """A model of one family and its batch.

    family: "llama" (RMS norm, rotary positions, SwiGLU, no biases, tied embeddings), "gpt2" (LayerNorm, learned
    positions, GELU, biases, tied embeddings) or "t5" (version 1.1: relative bias, gated GELU, no biases, an output
    matrix of its own). `length` tokens a sequence, in the encoder if there is one; `targets` scored tokens a sequence.
    """

    family: str
    d_model: int
    n_layers: int  # of each stack
    n_heads: int
    d_ff: int
    vocab_size: int
    sequences: int
    length: int
    targets: int

    @property
    def head_dim(self) -> int:
        """The width of a head."""
        return self.d_model // self.n_heads

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether there is an encoder."""
        return self.family == "t5"

    @property
    def tokens(self) -> int:
        """Tokens that a step reads, those of the encoder and those of the decoder."""
        return self.sequences * (self.length + (self.targets if self.is_encoder_decoder else 0))

    @property
    def epsilon(self) -> float:
        """Of the norms."""
        return EPSILON[self.family]


STANDARD = {
    "llama": Work("llama", 256, 6, 4, 688, 8192, 8, 256, 256),
    "gpt2": Work("gpt2", 256, 6, 4, 1024, 8192, 8, 256, 256),
    "t5": Work("t5", 256, 4, 4, 688, 8192, 8, 256, 64),
}


def quick(work: Work) -> Work:
    """The same with two narrow layers, on few tokens: to see that everything runs."""
    targets = 8 if work.is_encoder_decoder else 24
    d_ff = 128 if work.family == "gpt2" else 64  # nanoGPT has four times the width, and no key for it
    small = replace(work, d_model=32, n_layers=2, n_heads=4, d_ff=d_ff, vocab_size=128)
    return replace(small, sequences=2, length=24, targets=targets)


def batch(work: Work, number: int) -> dict[str, Tensor]:
    """The batch of a step: ids (B, T) drawn by its number.

    A decoder reads `decoder_ids` and predicts `targets`, the same tokens one place on; beside an encoder, which reads
    `encoder_ids`, the decoder begins with id 0, as in T5.
    """
    import torch

    draw = torch.Generator().manual_seed(number)
    ids = torch.randint(1, work.vocab_size, (work.sequences, work.length + 1), generator=draw)
    if not work.is_encoder_decoder:
        return {"decoder_ids": ids[:, :-1].contiguous(), "targets": ids[:, 1:].contiguous()}
    targets = torch.randint(1, work.vocab_size, (work.sequences, work.targets), generator=draw)
    start = torch.zeros(work.sequences, 1, dtype=torch.long)
    return {
        "encoder_ids": ids[:, 1:].contiguous(),
        "decoder_ids": torch.cat([start, targets[:, :-1]], 1),
        "targets": targets,
    }
