"""Our parameters' names -> the names in the authors' library, and the numbers of one golden file."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

GOLDEN = Path(__file__).parent
TOY = [
    "shape.d_model=32", "shape.n_heads=4", "shape.head_dim=8", "shape.d_ff=64", "shape.n_layers=2",
    "shape.vocab_size=64", "shape.length=32", "shape.batch_tokens=64",
]  # fmt: skip

# `*` counts: what is one tensor of ours, 0, 1, 2, ... along its first axis, is several variables of theirs.
SUBLAYERS = {
    "query": "q|q_fixup|query/kernel", "key": "k|k_fixup", "value": "v|kv|v_fixup",
    "output": "o|o_fixup|local_conv_attn_op_projection/kernel",
    "position.table": "relative_attention_bias|relative_attention_ak/kernel",
    "gate.weight": "wi_0/kernel|local_conv_inp_1/kernel", "gate.bias": "wi_0/bias|local_conv_inp_1/bias",
    "up.weight": "wi/kernel|wi_1/kernel|local_conv_inp_0/kernel", "up.bias": "wi/bias|wi_1/bias|local_conv_inp_0/bias",
    "down.weight": "wo/kernel", "down.bias": "wo/bias",
    "router": "top_2_gating/kernel|switch_gating/kernel", "up": "wi/kernel", "down": "wo/kernel",  # experts
    "query.bias": "query/bias", "keys": "keys", "values": "values",  # product keys
    "query_norm.scale": "layer_prepostprocess/layer_norm/layer_norm_scale",
    "query_norm.shift": "layer_prepostprocess/layer_norm/layer_norm_bias",
    "table": "pi/kernel|R", "first": "R1", "second": "R2", "alpha": "alpha", "kappa": "kappa",  # Synthesizer, Weighted
    "taps": "lightwt_depthwise_dense_*/kernel|dyn_conv_depthwise_dense_*/kernel",
    "taps.bias": "dyn_conv_depthwise_dense_*/bias",
    "shift": "separable_conv1d/depthwise_conv_hack/depthwise_dense_0/bias|shift",
    "pointwise": "separable_conv1d/pointwise_dense/kernel", "pointwise.bias": "separable_conv1d/pointwise_dense/bias",
    "output.bias": "local_conv_attn_op_projection/bias",
}  # fmt: skip
LAYER_NORM = "true_layer_norm/layer_prepostprocess/layer_norm/layer_norm_"
UNNAMED_NORM = LAYER_NORM.removeprefix("true_layer_norm/")
NORMS = {
    "scale": f"{LAYER_NORM}scale|rms_norm/scale|layer_norm_subsampled/scale|{UNNAMED_NORM}scale",
    "shift": f"{LAYER_NORM}bias|{UNNAMED_NORM}bias",
}
FIXUP = {"shift": "fixup_bias", "scale": "fixup_scale_weight"}
GATES = {  # of a gated residual; at full size the names are counted for kernels and for biases
    "norm.scale": f"{UNNAMED_NORM}scale", "norm.shift": f"{UNNAMED_NORM}bias",
    "update.weight": "dense/kernel", "update.bias": "dense_1/bias|dense_000/bias",
    "reset.weight": "dense_2/kernel|dense_000/kernel", "reset.bias": "dense_3/bias|dense_001/bias",
    "candidate.weight": "dense_4/kernel|dense_001/kernel", "candidate.bias": "dense_5/bias|dense_002/bias",
}  # fmt: skip
OF_A_STACK = {
    "mixture": "block_000/layer_001/TransparentEncDecAttention/w",
    "step_table": "layer_embedding",
    "halt.weight": "sigmoid_activation_for_pondering/dense/kernel",
    "halt.bias": "sigmoid_activation_for_pondering/dense_1/bias",
}
EMBEDDINGS = {  # of an embedding or a head; a digit is a cluster's number
    r"embedding\.table": "embedding|embedding_embedding_weights",
    r"embedding\.product\.table": "embedding1", r"embedding\.product\.up": "embedding2",
    r"embedding\.clusters\.(\d)\.table": r"embedding_\1|embedding_\g<1>1",
    r"embedding\.clusters\.(\d)\.up": r"embedding_\g<1>2",
    r"head\.entries": "embedding_0",  # rows behind those of the first cluster
    r"head\.prior": "embedding_mixture_weights", r"head\.contexts": "embedding_context_weights",
}  # fmt: skip
SEPARABLE = {
    "taps": "depthwise_conv_hack/depthwise_dense_*/kernel", "shift": "depthwise_conv_hack/depthwise_dense_0/bias",
    "pointwise.weight": "pointwise_dense/kernel", "pointwise.bias": "pointwise_dense/bias",
}  # fmt: skip
EVOLVED = {  # of a cell: our stack, step and sub-layer -> their class; what is in it
    "encoder.0.0": ("GatedLinearUnitLayer", {f"{ours}.{theirs}".replace("kernel", "weight"): f"{name}/{theirs}"
                    for ours, name in (("gate", "glu_1"), ("up", "glu_0")) for theirs in ("kernel", "bias")}),
    "encoder.1.0": ("EncoderConvolutionalLayer", {
        "wide.weight": "conv1x1/dense/kernel", "narrow.weight": "conv3x1/conv2d/kernel",
        "norm.scale": f"{UNNAMED_NORM}scale", "norm.shift": f"{UNNAMED_NORM}bias",
        **{f"separable.{ours}": f"sep_conv9x1/separable_conv1d/{theirs}" for ours, theirs in SEPARABLE.items()}}),
    "decoder.0.0": ("DecoderAttentionLayer/self_attention", SUBLAYERS),
    "decoder.0.1": ("DecoderAttentionLayer/enc_dec_attention", SUBLAYERS),
    "decoder.1.0": ("DecoderConvolutionalLayer", {
        "norm.scale": f"{UNNAMED_NORM}scale", "norm.shift": f"{UNNAMED_NORM}bias",
        **{f"{part}.{ours}": f"{name}/separable_conv1d/{theirs}" for ours, theirs in SEPARABLE.items()
           for part, name in (("wide", "sep_conv11x1"), ("narrow", "sep_conv7x1_1"), ("separable", "sep_conv7x1_2"))}}),
    "encoder.2.0": ("SelfAttention", SUBLAYERS), "decoder.2.0": ("SelfAttention", SUBLAYERS),
    "decoder.3.0": ("EncDecAttention", SUBLAYERS),
    "encoder.3.0": ("DenseReluDense", SUBLAYERS), "decoder.4.0": ("DenseReluDense", SUBLAYERS),
}  # fmt: skip
KINDS = {
    "encoder": ["SelfAttention", "DenseReluDense"],
    "decoder": ["SelfAttention", "EncDecAttention", "DenseReluDense"],
}
CLASSES = {
    "SelfAttention": ["SelfAttention", "Synthesizer", "LocalConvAttnBlock", "BranchedSelfAttention",
                      "SelfAttentionFixup"],
    "EncDecAttention": ["EncDecAttention", "BranchedEncDecAttention", "EncDecAttentionFixup",
                        "TransparentEncDecAttention"],
    "DenseReluDense": ["DenseReluDense", "DenseReluDenseFixup", "MoE1D", "ProductKeyValueMemory"],
}  # fmt: skip
SHARED_KINDS = {
    "SelfAttention": "self_attention",
    "EncDecAttention": "enc_dec_attention",
    "DenseReluDense": "dense_relu_dense",
}


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
            "encoder_ids": take("inputs"), "encoder_segments": take("enc_segment"),
            "encoder_positions": take("enc_position"), "decoder_ids": shifted.masked_fill(starts, 0),
            "decoder_segments": segments, "decoder_positions": take("dec_position"),
            "targets": targets, "weights": (targets != 0).float(),
        }  # fmt: skip

    def gradients(self) -> dict:
        return json.loads((GOLDEN / f"{self.row}.gradients.json").read_text())

    def name_of(self, ours: str) -> str:
        """The library's name of our parameter, with a `*` where it has several; raises KeyError where it has none."""
        for candidate in self._candidates(ours):
            if candidate.replace("*", "0") in self.variables:
                return candidate
        raise KeyError(ours)

    def counted(self, name: str) -> list[str]:
        """The variables that `name` stands for."""
        names = (name.replace("*", str(number)) for number in itertools.count())
        return list(itertools.takewhile(self.variables.__contains__, names)) if "*" in name else [name]

    def _candidates(self, ours: str):
        stack = "encoder" if ".encoder." in ours else "decoder"
        if names := [
            re.sub(f".*{pattern}$", name, ours)
            for pattern, name in EMBEDDINGS.items()
            if re.search(f"{pattern}$", ours)
        ]:
            yield from (f"{place}/{name}" for name in names[0].split("|") for place in (stack, "shared"))
        elif ours.endswith("position.table") and ".steps." not in ours:
            yield "shared/positional_embedding"
        elif ours == "head.projection.weight":
            yield "decoder/logits/kernel"
        elif match := re.search(r"stack\.end\.(\w+)", ours):
            yield from (f"{stack}/{name}" for name in (*NORMS[match[1]].split("|"), FIXUP[match[1]]))
        elif match := re.search(r"stack\.([a-z_.]+)$", ours):
            yield f"{stack}/{OF_A_STACK[match[1]]}"
        elif any("GatedLinearUnitLayer" in name for name in self.variables):
            yield from self._in_a_cell(stack, *re.search(r"blocks\.(\d+)\.steps\.(\d+)\.(.*)", ours).groups())
        elif match := re.search(r"blocks\.(\d+)\.steps\.(\d+)\.(.*)", ours):
            layer, step, rest = int(match[1]), int(match[2]), match[3]
            kind = KINDS[stack][step]
            block = f"{stack}/block_{layer:03d}"
            group = self.layers_in_a_block(stack)
            grouped = f"{stack}/block_{layer // group:03d}/layer_{layer % group * len(KINDS[stack]) + step:03d}"
            funnel = f"{stack}/funnel_block_{layer:03d}/param_idx"
            for folder in (
                grouped,
                f"{block}/layer_{step:03d}",
                f"{block}/{SHARED_KINDS[kind]}",
                f"{stack}/{SHARED_KINDS[kind]}",
                f"{funnel}_000/submodule_{step:03d}",
                f"{funnel}_0/submodule_{step:03d}",
            ):
                for name in self._inside(rest, kind):
                    yield f"{folder}/{name}"

    @staticmethod
    def _in_a_cell(stack: str, cell: str, step: str, rest: str):
        folder = f"{stack}/block_{int(cell):03d}/layer_{int(step):03d}"
        if match := re.fullmatch(r"norm\.(\w+)", rest):
            yield from (f"{folder}/{name}" for name in NORMS[match[1]].split("|"))
        else:
            at, rest = re.fullmatch(r"sublayers\.(\d+)\.(.*)", rest).groups()
            kind, names = EVOLVED[f"{stack}.{step}.{at}"]
            names = names.get(rest) or names[rest.removesuffix(".weight")]
            yield from (f"{folder}/{kind}/{name}" for name in names.split("|"))

    def layers_in_a_block(self, stack: str) -> int:
        """How many of our layers the library counts as one block: several with experts or a memory among them."""
        if not any(re.search("MoE1D|ProductKeyValueMemory", name) for name in self.variables):
            return 1
        found = (re.match(rf"{stack}/block_\d+/layer_(\d+)", name) for name in self.variables)
        return max(1, (max((int(match[1]) for match in found if match), default=0) + 1) // len(KINDS[stack]))

    @staticmethod
    def _inside(rest: str, kind: str):
        if rest == "residual.weight":
            return ["rezero_weight"]
        if rest.removeprefix("residual.") in FIXUP:
            return [FIXUP[rest.removeprefix("residual.")]]
        if rest.startswith("residual."):
            return [f"{kind}/{name}" for name in GATES[rest.removeprefix("residual.")].split("|")]
        if match := re.fullmatch(r"norm\.(\w+)", rest):
            return NORMS[match[1]].split("|")
        rest = rest.removeprefix("sublayers.0.").removeprefix("feedforward.")
        names = SUBLAYERS.get(rest) or SUBLAYERS[rest.removesuffix(".weight")]
        return [f"{folder}/{name}" for folder in CLASSES[kind] for name in names.split("|")]

    def load(self, model: torch.nn.Module) -> None:
        """Copy every weight into `model`; each of the library's variables must be taken exactly once."""
        taken = set()
        with torch.no_grad():
            for ours, parameter in model.named_parameters():
                name = self.name_of(ours)
                taken.update(self.counted(name))
                parameter.copy_(torch.from_numpy(self.ours(name, parameter)))
        assert taken == self.variables, self.variables - taken

    def ours(self, name: str, parameter: torch.Tensor) -> np.ndarray:
        arrays = [flat(self.arrays[f"var/{one}"], one) for one in self.counted(name)]
        if name == "shared/embedding_0":  # the adaptive softmax's entries are behind the first cluster
            is_entries, rows = parameter.spec.place.sublayer == "head", len(parameter)
            arrays = [arrays[0][-rows:] if is_entries else arrays[0][:rows]]
        if "*" not in name:
            return oriented(arrays[0], name, parameter)
        return np.stack([back(array, name) for array in arrays]).reshape(parameter.shape)

    def theirs(self, name: str, array: np.ndarray) -> dict[str, np.ndarray]:
        """Our array as the library's variables (what they merge is left merged)."""
        names = self.counted(name)
        if "*" not in name:
            return {name: back(array, name)}
        parts = array.reshape(len(names), -1, *array.shape[1:])
        return {one: back(part.squeeze(), one) for one, part in zip(names, parts, strict=True)}


def is_matrix(name: str, array: np.ndarray) -> bool:
    return array.ndim == 2 and bool(re.search(r"kernel$|([Aa]ttention|Synthesizer|Fixup)/(q|k|v|kv|o)(_fixup)?$", name))


def flat(array: np.ndarray, name: str) -> np.ndarray:
    """[input, heads, width] and [heads, width, output] as matrices; the library keeps heads apart where they branch."""
    if re.search(r"Memory/query/(kernel|bias)$", name):
        return array.reshape(len(array), -1) if name.endswith("kernel") else array.ravel()
    if "Branched" not in name or array.ndim != 3:
        return array
    return array.reshape(-1, array.shape[-1]) if name.endswith("/o") else array.reshape(len(array), -1)


def oriented(array: np.ndarray, name: str, parameter: torch.Tensor) -> np.ndarray:
    """The library's [input, output] as our (output, input), its [query, heads, key] as our (heads, query, key)."""
    array = back(array, name)
    array = array.reshape(()) if parameter.dim() == 0 else array
    assert array.shape == tuple(parameter.shape), (name, array.shape, tuple(parameter.shape))
    return array


def back(array: np.ndarray, name: str) -> np.ndarray:
    """Ours as the library's: the same transposition."""
    if re.search(r"Synthesizer/R[12]?$", name):
        return array.transpose(1, 0, 2)
    if name.endswith("conv2d/kernel"):  # theirs [1, width, input, output]
        return array[0].T if array.ndim == 4 else array.T[None]
    return array.T if is_matrix(name, array) else array
