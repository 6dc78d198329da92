"""nanoT5: its T5 and the forward pass of its training step; on no package registry, `sources` fetches it.

Its step of pre-training gives the model the encoder's ids and the labels and no masks, and clips the gradient's norm at
1. Its optimizer is one of its own; here it has the same as all others. It was written for an older `transformers`,
whose two helpers that make additive masks are put back.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import huggingface, sources
from .contract import Made
from .weights import State
from .work import Work


def make(work: Work, weights: State) -> Made:
    """The T5-like model."""
    module = sources.load("nanot5", "nanoT5/utils/t5_model.py")
    module.T5Stack.get_extended_attention_mask = extended_attention_mask
    module.T5Stack.invert_attention_mask = lambda stack, mask: penalty(mask[:, None, None, :].float())
    config = huggingface.t5_config(work)
    config.tie_word_embeddings = False
    model = module.MyT5(config)
    copies = {f"{stack}.embed_tokens.weight": weights["shared.weight"] for stack in ("encoder", "decoder")}
    model.load_state_dict({**weights, **copies}, strict=True)
    return Made(model.train(), lambda batch: model(input_ids=batch["encoder_ids"], labels=batch["targets"]).loss)


def extended_attention_mask(stack: torch.nn.Module, mask: Tensor, shape: torch.Size) -> Tensor:
    """Additive (B, 1, 1, T), or (B, 1, T, T) in the decoder, of a mask (B, T) that is 1 where a token may be seen."""
    mask = mask[:, None, None, :]
    if stack.is_decoder:
        places = torch.arange(shape[1], device=mask.device)
        mask = mask * (places[None, :] <= places[:, None]).to(mask.dtype)
    return penalty(mask)


def penalty(mask: Tensor) -> Tensor:
    """0 where `mask` is 1, the lowest number where it is 0."""
    return (1.0 - mask) * torch.finfo(mask.dtype).min
