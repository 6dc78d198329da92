"""Gradients in a few numbers: the largest entry of each tensor, and its projections on fixed random signs.

`python tests/golden/gradients.py FILE.grads.npz …` writes FILE.gradients.json from full gradients.
"""

from __future__ import annotations

import json
import sys
import zlib
from pathlib import Path

import numpy as np

PROJECTIONS = 8


def projections(name: str, gradient: np.ndarray) -> np.ndarray:
    """(8,): <gradient, signs> / sqrt(size), signs drawn from the tensor's name."""
    signs = np.random.RandomState(zlib.crc32(name.encode())).randint(0, 2, (PROJECTIONS, gradient.size)) * 2 - 1
    return signs @ gradient.astype(np.float64).ravel() / np.sqrt(gradient.size)


def summary(name: str, gradient: np.ndarray) -> dict:
    return {
        "largest": float(np.abs(gradient).max()),
        "projections": [float(f"{x:.9g}") for x in projections(name, gradient)],
    }


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        full = np.load(path)
        rows = {key.removeprefix("grad/"): summary(key.removeprefix("grad/"), full[key]) for key in full.files}
        out = Path(__file__).parent / path.name.replace(".grads.npz", ".gradients.json")
        out.write_text(json.dumps(rows, indent=0, sort_keys=True) + "\n")
