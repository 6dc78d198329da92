"""Initialisers: the role of a parameter -> the distribution of its initial values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ablate.errors import UserError
from ablate.model.contract import Parts, Place, Spec, rsqrt, spec_of, stable_seed
from ablate.model.residual import deepnorm_constants


@dataclass(frozen=True)
class Normal:
    """N(0, std), truncated at `cut` deviations if given (which lowers the actual deviation; not corrected)."""

    std: float
    cut: float | None = None

    def fill(self, tensor: Tensor, generator: torch.Generator) -> None:
        if self.cut is None:
            tensor.normal_(0.0, self.std, generator=generator)
        else:
            nn.init.trunc_normal_(tensor, 0.0, self.std, -self.cut * self.std, self.cut * self.std, generator=generator)


@dataclass(frozen=True)
class Uniform:
    """Uniform in [centre - limit, centre + limit]."""

    limit: float
    centre: float = 0.0

    def fill(self, tensor: Tensor, generator: torch.Generator) -> None:
        tensor.uniform_(self.centre - self.limit, self.centre + self.limit, generator=generator)


@dataclass(frozen=True)
class Constant:
    """The same value everywhere."""

    value: float

    def fill(self, tensor: Tensor, generator: torch.Generator) -> None:
        tensor.fill_(self.value)


Initialiser = Callable[[Spec], Normal | Uniform | Constant]


def glorot(spec: Spec) -> Uniform:
    """Uniform with variance 2 / (fan in + fan out) (Glorot and Bengio 2010)."""
    return Uniform((6.0 / (spec.fan_in + spec.fan_out)) ** 0.5)


class Paper:
    """Narang et al.'s initialiser, that of mesh-tensorflow's transformer.

    Attention matrices are normal with deviation fan_in^-0.5 (queries: times `first_queries`); feed-forward and logits
    matrices are truncated at two deviations. ``table_std`` is the deviation of embeddings; learned positions always
    have deviation 1, as the library does not scale them. Relative tables are Glorot uniform.
    """

    def __init__(self, parts: Parts, *, score_scale: float, table_std: float):
        self.score_scale, self.table_std = score_scale, table_std

    def __call__(self, spec: Spec) -> Normal | Uniform | Constant:
        std = rsqrt(spec.fan_in)
        match spec.role:
            case "query":
                return Normal(std * first_queries(spec, self.score_scale))
            case "key" | "value" | "output":
                return Normal(std)
            case "ffn_in" | "ffn_out" | "gate" | "logits" | "relative_key" | "selector":
                return Normal(std, cut=2.0)
            case "position_table":
                return Normal(1.0)
            case "table" | "mixture":
                return Normal(self.table_std)
            case "table_factor":
                return factor(spec, self.table_std)
            case "relative":
                return glorot(spec)
            case _:
                return common(spec)


class GPT2:
    """GPT-2's initialiser: all matrices N(0, ``std``), those that write to the residual stream over sqrt(branches)."""

    def __init__(self, parts: Parts, *, score_scale: float, std: float):
        self.score_scale, self.std = score_scale, std
        self.branches = branches(parts)

    def __call__(self, spec: Spec) -> Normal | Uniform | Constant:
        match spec.role:
            case "query":
                return Normal(self.std * first_queries(spec, self.score_scale))
            case "key" | "value" | "ffn_in" | "gate" | "logits":
                return Normal(self.std)
            case "table" | "position_table" | "relative" | "relative_key" | "selector" | "mixture" | "memory":
                return Normal(self.std)
            case "table_factor":
                return factor(spec, self.std)
            case "output" | "ffn_out":
                return Normal(self.std * rsqrt(self.branches[place_of(spec).stack]))
            case _:
                return common(spec)


class DepthScaled(Paper):
    """The paper's initialiser with what writes to the residual stream over sqrt(2 (layer + 1)) (Zhang et al. 2019)."""

    def __call__(self, spec: Spec) -> Normal | Uniform | Constant:
        chosen = super().__call__(spec)
        if isinstance(chosen, Normal) and spec.role in ("output", "ffn_out"):
            return Normal(chosen.std * rsqrt(2 * (place_of(spec).layer + 1)), chosen.cut)
        return chosen


class SmallKernels(Paper):
    """The paper's initialiser for its expert rows: truncated normals have ``kernel_scale`` times the variance."""

    def __init__(self, parts: Parts, *, score_scale: float, table_std: float, kernel_scale: float):
        super().__init__(parts, score_scale=score_scale, table_std=table_std)
        self.kernel_scale = kernel_scale

    def __call__(self, spec: Spec) -> Normal | Uniform | Constant:
        chosen = super().__call__(spec)
        if isinstance(chosen, Normal) and chosen.cut is not None:
            return Normal(chosen.std * self.kernel_scale**0.5, chosen.cut)
        return chosen


class DeepNormInit:
    """DeepNorm's: Glorot normal, with gain beta for values, outputs and feed-forward (Wang et al. 2022, figure 2)."""

    def __init__(self, parts: Parts, *, score_scale: float, table_std: float):
        self.depths, self.score_scale, self.table_std = parts.depths, score_scale, table_std

    def __call__(self, spec: Spec) -> Normal | Uniform | Constant:
        std = (2.0 / (spec.fan_in + spec.fan_out)) ** 0.5
        match spec.role:
            case "query":
                return Normal(std * first_queries(spec, self.score_scale))
            case "key" | "logits" | "relative_key" | "selector":
                return Normal(std)
            case "value" | "output" | "ffn_in" | "ffn_out" | "gate":
                _, beta = deepnorm_constants(self.depths, place_of(spec).stack)
                return Normal(beta * std)
            case "table" | "position_table" | "mixture":
                return Normal(self.table_std)
            case "table_factor":
                return factor(spec, self.table_std)
            case "relative":
                return glorot(spec)
            case _:
                return common(spec)


def branches(parts: Parts) -> dict[str, int]:
    """The number of residual branches of each stack: attention, feed-forward, and cross-attention in a decoder."""
    return {
        stack: depth * (2 if stack == "encoder" or len(parts.depths) == 1 else 3)
        for stack, depth in parts.depths.items()
    }


def place_of(spec: Spec) -> Place:
    """Where a parameter belongs; raises UserError if its declaration does not say."""
    if spec.place is None:
        raise UserError(f"the role {spec.role!r} needs a place: declare(parameter, {spec.role!r}, place=place, ...)")
    return spec.place


def first_queries(spec: Spec, score_scale: float) -> float:
    """The factor on initial queries that gives initial scores the scale K^-0.5, whatever the attention's own scale."""
    return rsqrt(spec.head_dim) / score_scale


def factor(spec: Spec, std: float) -> Normal:
    """One of two tables whose product, a sum over fan_in terms, has deviation `std`."""
    return Normal(std**0.5 * spec.fan_in**-0.25)


def common(spec: Spec) -> Normal | Uniform | Constant:
    """What all initialisers have in common: norms' scales 1, biases 0, constants at their value, tables by Glorot."""
    match spec.role:
        case "scale":
            return Constant(1.0)
        case "bias" | "shift" | "zero":
            return Constant(0.0)
        case "constant":
            return Constant(spec.value)
        case "glorot":
            return glorot(spec)
        case "memory":
            return Normal(1.0)
        case "taps":
            return Normal(rsqrt(spec.fan_in), cut=2.0)
        case "branch":
            return Uniform(0.5, centre=0.5)
        case "normal":
            return Normal(rsqrt(spec.fan_in))
        case _:
            raise UserError(f"no initialiser knows the role {spec.role!r} of a parameter")


def first_values(model: nn.Module, init: Initialiser) -> dict[str, Normal | Uniform | Constant]:
    """Each parameter's initial distribution, by name; UserError for one not declared, or of an unknown role."""
    values = {}
    for name, parameter in model.named_parameters():
        if not hasattr(parameter, "spec"):
            raise UserError(
                f"the parameter {name} was not declared: its module must make its projections with parts.linear, "
                "or pass a parameter of its own to ablate.model.contract.declare"
            )
        try:
            values[name] = init(spec_of(parameter))
        except UserError as error:
            raise UserError(f"the parameter {name}: {error}") from None
    return values


@torch.no_grad()
def initialise(model: nn.Module, init: Initialiser, seed: int) -> None:
    """Fill every parameter by its role; its name only seeds its generator, so that variants share initial values."""
    values = first_values(model, init)
    for name, parameter in model.named_parameters():
        generator = torch.Generator().manual_seed(stable_seed(seed, name))
        values[name].fill(parameter, generator)
