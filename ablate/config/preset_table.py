"""The table of published models, read from their presets' own configs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ablate.config import options, presets
from ablate.config.composing import compose_resolved
from ablate.config.slots import declares

COLUMNS = (
    *("preset", "year", "stacks", "norm", "placement", "block", "position", "activation", "attention", "bias"),
    *("d_ff / d_model", "head width", "vocabulary", "tied"),
)
BIASES = {"query": "q", "key": "k", "value": "v", "output": "o", "ffn_in": "ffn", "ffn_out": "ffn", "logits": "head"}
Tree = Mapping[str, Any]


def lines() -> list[list[str]]:
    """A line a preset, at its published shape, in the order of the years."""
    found = [_line(name) for name in presets.names()]
    return sorted(found, key=lambda line: (line[1], line[0]))


def _line(name: str) -> list[str]:
    about = options.load(options.file_of(presets.GROUP, name))[presets.GROUP]
    config = compose_resolved([f"preset={name}", f"shape={name}"])
    shape, feedforward = config["shape"], config["feedforward"]
    width = feedforward.get("d_ff", shape["d_ff"])
    if declares(config["activation"], "gated"):
        width *= float(feedforward.get("gated_ratio", 1))
    return [
        name,
        str(about["year"]),
        _called("topology", config),
        _called("norm", config),
        str(config["block"]["placement"]),
        _called("block", config),
        _called("position", config),
        _called("activation", config),
        _attention(config),
        _bias(config["bias"]),
        f"{width / shape['d_model']:.4g}",
        str(shape["head_dim"]),
        f"{shape['vocab_size']:,}",
        "yes" if "head" in config["embedding"]["tie"] else "no",
    ]


def _called(group: str, config: Tree) -> str:
    return options.called(group, config[group]).partition("=")[2]


def _attention(config: Tree) -> str:
    """The option, and how many heads share each key and value where several do."""
    attention = config["attention"]
    heads, kv = attention.get("n_heads"), attention.get("n_kv_heads")
    called = _called("attention", config)
    if not heads or kv == heads:
        return called
    if called == "full":
        called = "multi_query" if kv == 1 else "grouped_query"
    return f"{called} ({kv} of {heads})"


def _bias(bias: Tree) -> str:
    there = list(dict.fromkeys(word for key, word in BIASES.items() if bias.get(key)))
    missing = [word for word in dict.fromkeys(BIASES.values()) if word not in there]
    if missing in ([], ["head"]):
        return "all" if missing else "all, head"
    return " ".join(there) or "none"
