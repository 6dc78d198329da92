"""Which weights a model has: what an evaluation found belongs to them."""

from __future__ import annotations

import hashlib

import torch
from torch import nn


def hash_of_weights(model: nn.Module) -> str:
    """64 hex digits, of the name, type, shape and bytes of every tensor of the state dict."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {[*tensor.shape]}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
