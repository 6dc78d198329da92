"""What an evaluation leaves behind is undone, so that a run trains on as if it had not been there."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Afterwards the model and the random numbers that follow are as before, to the bit.

    Of the model these are parameters, buffers (those that no state dict has, too), gradients, which parameters are
    trained, and the mode of each module; random numbers are those of Python, NumPy and torch, on all devices.
    """
    modes = {module: module.training for module in model.modules()}
    places = [(holder, dict(holder)) for module in modes for holder in (module._parameters, module._buffers)]
    parameters = {parameter: (parameter.requires_grad, parameter.grad) for parameter in model.parameters()}
    tensors = [*parameters, *model.buffers()]
    values = [(tensor.data, tensor.detach().cpu().clone()) for tensor in tensors]
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    try:
        yield
    finally:
        for holder, content in places:
            holder.clear()
            holder.update(content)  # type: ignore[arg-type]
        with torch.no_grad():
            for tensor, (data, value) in zip(tensors, values, strict=True):
                tensor.data = data  # on the device and of the type that it had
                tensor.copy_(value)
        for parameter, (is_trained, gradient) in parameters.items():
            parameter.requires_grad_(is_trained)
            parameter.grad = gradient
        for module, mode in modes.items():
            module.training = mode
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if devices:
            torch.cuda.set_rng_state_all(devices)
