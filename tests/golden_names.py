"""Our parameters' names -> the names in the authors' library, and the numbers of one golden file."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

GOLDEN = Path(__file__).parent / "golden"
TOY = [
    "shape.d_model=32", "shape.n_heads=4", "shape.head_dim=8", "shape.d_ff=64", "shape.n_layers=2",
    "shape.vocab_size=64", "shape.length=32", "shape.batch_tokens=64", "feedforward.gated_ratio=3/4",
]  # fmt: skip

SUBLAYERS = {
    "query": "q", "key": "k", "value": "v", "output": "o",
    "position.table": "relative_attention_bias|relative_attention_ak/kernel",
    "gate.weight": "wi_0/kernel", "gate.bias": "wi_0/bias",
    "up.weight": "wi/kernel|wi_1/kernel", "up.bias": "wi/bias|wi_1/bias",
    "down.weight": "wo/kernel", "down.bias": "wo/bias",
}  # fmt: skip
LAYER_NORM = "true_layer_norm/layer_prepostprocess/layer_norm/layer_norm_"
NORMS = {
    "scale": f"{LAYER_NORM}scale|rms_norm/scale|layer_norm_subsampled/scale",
    "shift": f"{LAYER_NORM}bias",
}
KINDS = {"encoder": ["SelfAttention", "DenseReluDense"], "decoder": ["SelfAttention", "EncDecAttention", "DenseReluDense"]}
SHARED_KINDS = {"SelfAttention": "self_attention", "EncDecAttention": "enc_dec_attention", "DenseReluDense": "dense_relu_dense"}


@dataclass
class Golden:
    """One row's file: weights, cases, gradients."""

    row: str

    def __post_init__(self):
        self.arrays = np.load(GOLDEN / f"{self.row}.npz")
        self.variables = {name.removeprefix("var/") for name in self.arrays.files if name.startswith("var/")}

    def cases(self) -> list[str]:
        return [case for case in ("plain", "packed") if f"{case}/inputs" in self.arrays.files]

    def __call__(self, case: str, name: str) -> np.ndarray:
        return self.arrays[f"{case}/{name}"]

    def batch(self, case: str) -> dict[str, torch.Tensor]:
        """The case as a model's batch: targets shifted right, 0 at the first position of every segment."""
        take = lambda name: torch.from_numpy(self(case, name)).long()  # noqa: E731
        targets, segments = take("targets"), take("dec_segment")
        shifted = torch.nn.functional.pad(targets, (1, 0))[:, :-1]
        starts = segments != torch.nn.functional.pad(segments, (1, 0))[:, :-1]
        return {
            "encoder_ids": take("inputs"), "encoder_segments": take("enc_segment"), "encoder_positions": take("enc_position"),
            "decoder_ids": shifted.masked_fill(starts, 0), "decoder_segments": segments, "decoder_positions": take("dec_position"),
            "targets": targets, "weights": (targets != 0).float(),
        }  # fmt: skip

    def gradients(self) -> dict:
        return json.loads((GOLDEN / f"{self.row}.gradients.json").read_text())

    def name_of(self, ours: str) -> str:
        """The library's name of our parameter; raises KeyError where it has none."""
        for candidate in self._candidates(ours):
            if candidate in self.variables:
                return candidate
        raise KeyError(ours)

    def _candidates(self, ours: str):
        stack = "encoder" if ".encoder." in ours else "decoder"
        if ours.endswith("embedding.table"):
            yield from (f"{stack}/embedding", "shared/embedding")
        elif ours.endswith("position.table") and ".steps." not in ours:
            yield "shared/positional_embedding"
        elif ours == "head.projection.weight":
            yield "decoder/logits/kernel"
        elif match := re.search(r"stack\.end\.(\w+)", ours):
            yield from (f"{stack}/{name}" for name in NORMS[match[1]].split("|"))
        elif match := re.search(r"blocks\.(\d+)\.steps\.(\d+)\.(.*)", ours):
            layer, step, rest = int(match[1]), int(match[2]), match[3]
            kind = KINDS[stack][step]
            block = f"{stack}/block_{layer:03d}"
            for folder in (f"{block}/layer_{step:03d}", f"{block}/{SHARED_KINDS[kind]}", f"{stack}/{SHARED_KINDS[kind]}"):
                for name in self._inside(rest, kind):
                    yield f"{folder}/{name}"

    @staticmethod
    def _inside(rest: str, kind: str):
        if rest == "residual.weight":
            return ["rezero_weight"]
        if match := re.fullmatch(r"norm\.(\w+)", rest):
            return NORMS[match[1]].split("|")
        rest = rest.removeprefix("sublayers.0.")
        names = SUBLAYERS.get(rest) or SUBLAYERS[rest.removesuffix(".weight")]
        return [f"{kind}/{name}" for name in names.split("|")]

    def load(self, model: torch.nn.Module) -> None:
        """Copy every weight into `model`; each of the library's variables must be taken exactly once."""
        taken = set()
        with torch.no_grad():
            for ours, parameter in model.named_parameters():
                name = self.name_of(ours)
                taken.add(name)
                parameter.copy_(torch.from_numpy(self.ours(name, parameter)))
        assert taken == self.variables, self.variables - taken

    def ours(self, name: str, parameter: torch.Tensor) -> np.ndarray:
        return oriented(self.arrays[f"var/{name}"], name, parameter)


def is_matrix(name: str, array: np.ndarray) -> bool:
    return array.ndim == 2 and bool(re.search(r"kernel$|Attention/[qkvo]$", name))


def oriented(array: np.ndarray, name: str, parameter: torch.Tensor) -> np.ndarray:
    """The library's [input, output] as our (output, input)."""
    array = back(array, name)
    assert array.shape == tuple(parameter.shape), (name, array.shape, tuple(parameter.shape))
    return array


def back(array: np.ndarray, name: str) -> np.ndarray:
    """Ours as the library's: the same transposition."""
    return array.T if is_matrix(name, array) else array
