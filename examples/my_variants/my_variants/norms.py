import torch
from torch import nn

from ablate.model.contract import declare
from ablate.model.norm import Norm


class MeanAbsoluteNorm(Norm):
    """x / mean|x| * g."""

    def __init__(self, parts, place, *, eps, width=None):
        super().__init__()
        self.scale = declare(nn.Parameter(torch.empty(width or parts.d_model)), "scale", place=place)
        self.eps = eps

    def forward(self, x, view):
        return x / (x.abs().mean(-1, keepdim=True) + self.eps) * self.scale
