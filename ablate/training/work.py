"""The classes of work in a training step, after Ivanov et al. 2021.

"Data Movement Is All You Need" (https://arxiv.org/abs/2007.00072) divides the operators of a Transformer into

    contraction      matrix products and convolutions; fused attention, with the softmax inside of it
    normalization    softmax, and all that a norm does, forward and backward
    element-wise     everything else that computes: activations, dropout, residuals, biases, sums and means

Beside them are here the work that computes nothing (copies, look-ups, fills), the optimizer's step, and what lies
between the operators: Python, the engine of automatic differentiation, waiting for data.
"""

from __future__ import annotations

from dataclasses import dataclass

CONTRACTION, NORMALIZATION, ELEMENT_WISE = "contraction", "normalization", "element-wise"
COMPUTING = (CONTRACTION, NORMALIZATION, ELEMENT_WISE)
MOVEMENT, OPTIMIZER, BETWEEN = "data movement", "optimizer", "between operators"
CLASSES = (*COMPUTING, MOVEMENT, OPTIMIZER, BETWEEN)

# Their Table 1, of BERT's encoder layer, forward and backward, by PyTorch on a V100: shares of operations and run time
PUBLISHED = {CONTRACTION: (0.9980, 0.610), NORMALIZATION: (0.0017, 0.255), ELEMENT_WISE: (0.0003, 0.135)}


@dataclass(frozen=True)
class Work:
    """Of one class over some steps: seconds, and operations made."""

    seconds: float
    operations: int
