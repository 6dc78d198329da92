"""The keys of a config that belong to no option's class: those of the root, and of the sections beside the slots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ablate.ranges import COUNT, FRACTION, POSITIVE, PROPER_FRACTION, RATE, Ranges, one_of, whole


@dataclass(frozen=True)
class Root:
    """What a run is called, and what is said of it as a whole."""

    ranges: ClassVar[Ranges] = {
        "early_fraction": FRACTION,
        "dropout": RATE,
        "keep_checkpoints": one_of("none", "weights", "all"),
    }

    sweep: str
    row: str | None
    early_fraction: float
    dropout: float
    parameter_groups: list[dict[str, Any]]
    keep_checkpoints: str


@dataclass(frozen=True)
class Seeds:
    """One seed, and those of the streams that follow from it."""

    ranges: ClassVar[Ranges] = {"base": whole(0), "data": whole(0), "init": whole(0), "dropout": whole(0)}

    base: int
    data: int
    init: int
    dropout: int


@dataclass(frozen=True)
class Paths:
    """Folders, relative to the current directory."""

    ranges: ClassVar[Ranges] = {}

    runs: str
    data: str
    sweeps: str
    reports: str


@dataclass(frozen=True)
class Shape:
    """The base numbers from which the options derive theirs."""

    ranges: ClassVar[Ranges] = {
        "d_model": COUNT,
        "n_layers": COUNT,
        "n_heads": COUNT,
        "head_dim": COUNT,
        "d_ff": COUNT,
        "vocab_size": COUNT,
        "length": COUNT,
        "batch_tokens": COUNT,
        "steps": COUNT,
    }

    d_model: int
    n_layers: int
    n_heads: int
    head_dim: int
    d_ff: int
    vocab_size: int
    length: int
    batch_tokens: int
    steps: int


@dataclass(frozen=True)
class Trainer:
    """How a run is trained, and on what."""

    ranges: ClassVar[Ranges] = {
        "accelerator": one_of("auto", "cpu", "gpu"),
        "devices": COUNT,
        "nodes": COUNT,
        "precision": one_of("fp32", "bf16"),
        "compile": one_of("none", "model"),
        "steps": COUNT,
        "global_batch_tokens": COUNT,
        "micro_batch": COUNT,
        "clip_norm": POSITIVE,
        "threads": COUNT,
        "log_every": COUNT,
        "evaluate_every": COUNT,
        "checkpoint_every": COUNT,
    }

    accelerator: str
    devices: int
    nodes: int
    precision: str
    compile: str
    steps: int
    global_batch_tokens: int
    micro_batch: int | None
    clip_norm: float | None
    threads: int
    log_every: int
    evaluate_every: int | None
    checkpoint_every: int | None


@dataclass(frozen=True)
class Data:
    """What every data option has beside its source."""

    ranges: ClassVar[Ranges] = {"validation_share": PROPER_FRACTION, "on_error": one_of("fail", "skip")}

    name: str
    source: dict[str, Any]
    validation_share: float
    on_error: str
    document_mask: bool


SECTIONS: dict[str, type] = {
    "": Root,
    "seed": Seeds,
    "paths": Paths,
    "shape": Shape,
    "trainer": Trainer,
    "data": Data,
}
