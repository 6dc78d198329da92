"""The config of a class of `transformers` as overrides of ours, and back, by its table."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from ablate.config import MODEL_SLOTS, compose_resolved, options, sources
from ablate.config.keys import flatten
from ablate.config.slots import declares
from ablate.errors import UserError
from ablate.ratio import ratio_of
from ablate.weights import activations

# Keys of a model that its weights can be converted between, or that only training has.
NOT_COMPARED = re.compile(
    r"init\..*|attention\.(.*\.)?score_scale|position\.interleaved|norm\.offset|head\.(z_loss|label_smoothing)"
    r"|position\.(fraction|channels)"  # together they are the channels that are turned, which are compared
    r"|feedforward\.(d_ff|gated_ratio)"  # together they are the width, which is compared
)
ARITHMETIC = re.compile(r"(\w+)(?: ([*/]) (\w+))?")
Theirs = Mapping[str, Any]
Ours = Mapping[str, Any]
Read = Callable[[Any, str, Theirs], list[str]]  # a value, its key, and the config


def overrides(given: Theirs, preset: str, keys: Mapping[str, Any], fixed: Theirs) -> list[str]:
    """The overrides that make the model which the config `given` describes; UserError for one that there is not."""
    for key, value in fixed.items():
        if given.get(key, value) != value:
            raise UserError(f"{key}={given[key]}: no option of ours does that; only {value} is known")
    found = {"preset": f"preset={preset}"}
    for key, entry in keys.items():
        meaning = entry if isinstance(entry, Mapping) else {"is": entry}
        if "writes" in meaning:
            continue
        value = _value(given, key, meaning)
        if "as" in meaning:
            for override in READINGS[meaning["as"]].read(value, key, given):
                found[override.partition("=")[0]] = override
            continue
        for ours in _listed(meaning["is"]):
            found[ours] = f"{ours}={_written(value)}"
    return [*found.values()]


def theirs(ours: Ours, keys: Mapping[str, Any], fixed: Theirs, form: str) -> dict[str, Any]:
    """The config of the class for a resolved config of ours."""
    flat = flatten(dict(ours))
    found: dict[str, Any] = {}
    for key, entry in keys.items():
        meaning = entry if isinstance(entry, Mapping) else {"is": entry}
        if key.startswith("="):
            continue  # held by `check_same`
        if "as" in meaning:
            found[key] = READINGS[meaning["as"]].write(ours, form)
            continue
        sources = _listed(meaning.get("writes", meaning.get("is")))
        values = [flat.get(one) for one in sources]
        if any(value != values[0] for value in values):
            raise UserError(f"{form} has one {key} for {', '.join(sources)}, which differ")
        found[key] = values[0]
    return {**found, **fixed}


def check_same(made: list[str], ours: Ours, form: str) -> None:
    """Raise UserError where the overrides `made` give another model than the resolved config `ours`."""
    one, other = _of_model(compose_resolved(made)), _of_model(ours)
    different = sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))
    if different:
        shown = ", ".join(f"{key}={other.get(key)!s:.40} (there {one.get(key)!s:.40})" for key in different[:3])
        more = f" and {len(different) - 3} more" if len(different) > 3 else ""
        raise UserError(f"{form} has no such model: {shown}{more}")


def _of_model(config: Ours) -> dict[str, Any]:
    flat = flatten({slot: config[slot] for slot in MODEL_SLOTS})
    compared = {key: value for key, value in flat.items() if not NOT_COMPARED.fullmatch(key)}
    stacks = [*(sources.attribute(config["topology"]["_target_"], "stacks") or ()), "head"]
    for key in [key for key in compared if key.endswith(".tie")]:
        shared = [name for name in compared[key] if name in stacks]
        compared[key] = sorted(shared) if len(shared) > 1 else []
    if "head" not in compared.get("embedding.tie", ()):
        compared.pop("head.tied_scale", None)
    if "d_ff" in config["feedforward"]:
        compared["feedforward width"] = _width(config)
    if "fraction" in config["position"]:
        compared["rotary channels"] = _rotary_channels(config)
    return compared


def _width(config: Ours) -> int:
    """Of the feed-forward's inside, as it is with the gate of its activation."""
    feedforward = config["feedforward"]
    if not declares(config["activation"], "gated") or "gated_ratio" not in feedforward:
        return int(feedforward["d_ff"])
    return ratio_of(feedforward["gated_ratio"], feedforward["d_ff"], "feedforward.d_ff")


def _value(given: Theirs, key: str, meaning: Mapping[str, Any]) -> Any:
    """What the config says, or what stands for a key that it lacks."""
    if key.startswith("="):
        return _calculated(key.removeprefix("=").strip(), given)
    value = given.get(key)
    if value is None and "else" in meaning:
        return _calculated(str(meaning["else"]), given) if isinstance(meaning["else"], str) else meaning["else"]
    if value is None and "as" not in meaning:
        raise UserError(f"the config lacks {key}")
    return value


def _calculated(written: str, given: Theirs) -> Any:
    """`a`, `a / b` or `4 * a`, of numbers and keys; another word is itself."""
    match = ARITHMETIC.fullmatch(written)
    if match is None or (match[2] is None and match[1] not in given):
        return written
    one, sign, other = match.groups()
    left, right = (int(word) if word.isdigit() else given.get(word) for word in (one, other or "1"))
    if left is None or right is None:
        raise UserError(f"the config lacks {one if left is None else other}")
    if sign == "/" and left % right:
        raise UserError(f"{written} = {left} / {right} must be whole")
    return left * right if sign != "/" else left // right


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value)


class _Reading:
    """A key whose value is not simply one of ours: read into overrides, written from a resolved config."""

    def __init__(self, read: Read, write: Callable[[Ours, str], Any]):
        self.read, self.write = read, write


def _read_activation(gated: bool) -> Read:
    def read(value: Any, key: str, given: Theirs) -> list[str]:
        return activations.overrides(str(value), gated=gated, key=key)

    return read


def _write_activation(gated: bool) -> Callable[[Ours, str], Any]:
    def write(ours: Ours, form: str) -> Any:
        for name in activations.NAMES:
            made = compose_resolved(activations.overrides(name, gated=gated, key=name))
            if made["activation"] == ours["activation"]:
                return name
        kind = "gated " if gated else ""
        raise UserError(f"{form} has no such activation; it must be a {kind}{', '.join(activations.NAMES)}")

    return write


def _read_t5_activation(value: Any, key: str, given: Theirs) -> list[str]:
    *gate, name = str(value).split("-")
    if gate not in ([], ["gated"]):
        raise UserError(f"{key}={value}: must be an activation, or gated-ACTIVATION")
    if gate and name == "gelu":
        name = "gelu_new"  # as transformers reads it, for the sake of files of version 1.1
    return _read_activation(bool(gate))(name, key, given)


def _write_t5_activation(ours: Ours, form: str) -> str:
    try:
        return str(_write_activation(False)(ours, form))
    except UserError:
        name = str(_write_activation(True)(ours, form))
    if name == "gelu":
        raise UserError(f"a gated exact GELU has no name in {form}; activation.function.approximate=tanh has") from None
    return f"gated-{'gelu' if name.startswith('gelu') else name}"


def _read_width(value: Any, key: str, given: Theirs) -> list[str]:
    return [f"feedforward.d_ff={value!r}", "feedforward.gated_ratio=1.0"]


def _write_width(ours: Ours, form: str) -> int:
    if "d_ff" not in ours["feedforward"]:
        raise UserError(f"{form} has feedforward=dense, not {options.called('feedforward', ours['feedforward'])}")
    return _width(ours)


def _read_longest(value: Any, key: str, given: Theirs) -> list[str]:
    """Rows of a table of learned positions: the length for which the model is made."""
    return [f"shape.length={value!r}", f"shape.batch_tokens={32 * value!r}"]


def _write_longest(ours: Ours, form: str) -> Any:
    return _of_position(ours, "max_length", f"{form} has position=learned")


def _of_position(ours: Ours, key: str, otherwise: str) -> Any:
    if key not in ours["position"]:
        raise UserError(otherwise)
    return ours["position"][key]


def _read_tied(value: Any, key: str, given: Theirs) -> list[str]:
    return [f"embedding.tie=[encoder,decoder{',head' if value else ''}]"]


def _write_tied(ours: Ours, form: str) -> bool:
    return "head" in ours["embedding"]["tie"]


def _read_t5_tied(value: Any, key: str, given: Theirs) -> list[str]:
    newer = given.get("scale_decoder_outputs")  # what newer versions call it
    return _read_tied(value if newer is None else newer, key, given)


def _read_rotary_channels(value: Any, key: str, given: Theirs) -> list[str]:
    """`rotary_dim` of each head's channels, None for all of them."""
    channels = _calculated("n_embd / n_head", given) if value is None else value
    return [f"position.channels={channels!r}"]


def _write_rotary_channels(ours: Ours, form: str) -> int:
    _of_position(ours, "fraction", f"{form} has position=rope")
    return _rotary_channels(ours)


def _rotary_channels(ours: Ours) -> int:
    """Of each head, that are turned."""
    fraction, channels = ours["position"]["fraction"], ours["position"]["channels"]
    return int(_head_dim(ours) * float(fraction)) if channels is None else int(channels)


def _head_dim(ours: Ours) -> int:
    """Of all attentions, where the option holds several."""
    return int(ours["attention"].get("head_dim", ours["shape"]["head_dim"]))


def _read_head_dim_again(value: Any, key: str, given: Theirs) -> list[str]:
    """A number to whose power -1/2 scores are scaled: only that of a head's channels is known."""
    if value is not None and value != given.get("head_dim"):
        raise UserError(f"{key}={value}: no option of ours scales scores by another number than head_dim")
    return []


def _write_head_dim_again(ours: Ours, form: str) -> int:
    return _head_dim(ours)


def _read_rope(value: Any, key: str, given: Theirs) -> list[str]:
    """`rope_parameters`, or keys of the config itself, as in older files."""
    rotary = value or {**given, **(given.get("rope_scaling") or {})}
    kind = rotary.get("rope_type", rotary.get("type", "default"))
    if kind != "default":
        raise UserError(f"rope_type={kind}: no option of position=rope scales the positions; only default is known")
    base = float(rotary.get("rope_theta", 10000.0))
    head_dim = given.get("head_dim") or _calculated("hidden_size / num_attention_heads", given)
    channels = int(head_dim * float(rotary.get("partial_rotary_factor", 1.0)))
    return [f"position.base={base!r}", f"position.channels={channels!r}"]


def _write_rope(ours: Ours, form: str) -> dict[str, Any]:
    channels, head_dim = _write_rotary_channels(ours, form), _head_dim(ours)
    found = {"rope_type": "default", "rope_theta": ours["position"]["base"]}
    return found if channels == head_dim else {**found, "partial_rotary_factor": channels / head_dim}


READINGS = {
    "head_dim_again": _Reading(_read_head_dim_again, _write_head_dim_again),
    "longest": _Reading(_read_longest, _write_longest),
    "width": _Reading(_read_width, _write_width),
    "activation": _Reading(_read_activation(False), _write_activation(False)),
    "gated_activation": _Reading(_read_activation(True), _write_activation(True)),
    "t5_activation": _Reading(_read_t5_activation, _write_t5_activation),
    "tied": _Reading(_read_tied, _write_tied),
    "t5_tied": _Reading(_read_t5_tied, _write_tied),
    "rotary_channels": _Reading(_read_rotary_channels, _write_rotary_channels),
    "rope": _Reading(_read_rope, _write_rope),
}
