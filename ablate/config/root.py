"""The keys of a config that belong to no option's class: those of the root, and of the sections beside the slots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ablate.ranges import (
    AMOUNT,
    COUNT,
    DEPTH,
    FRACTION,
    POSITIVE,
    PROPER_FRACTION,
    RATE,
    SEED,
    VOCABULARY,
    WIDTH,
    Ranges,
    one_of,
    or_auto,
    whole,
)


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

    ranges: ClassVar[Ranges] = {"base": SEED, "data": SEED, "init": SEED, "dropout": SEED}

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
    """The base numbers from which the options derive theirs.

    published: whether they are those of a published model; then it may have more of them, which `as_published` takes.
    """

    ranges: ClassVar[Ranges] = {
        "d_model": WIDTH,
        "n_layers": DEPTH,
        "n_heads": WIDTH,
        "head_dim": WIDTH,
        "d_ff": COUNT,
        "vocab_size": VOCABULARY,
        "length": COUNT,
        "batch_tokens": AMOUNT,
        "steps": AMOUNT,
        "n_kv_heads": WIDTH,
        "window": COUNT,
        "d_inner": WIDTH,
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
    published: bool = False
    n_kv_heads: int | None = None
    window: int | None = None
    d_inner: int | None = None


@dataclass(frozen=True)
class Trainer:
    """How a run is trained, and on what. `compile` and `threads` may be "auto" until the run is made."""

    ranges: ClassVar[Ranges] = {
        "accelerator": one_of("auto", "cpu", "gpu"),
        "devices": whole(1, 1024),
        "nodes": whole(1, 10_000),
        "precision": one_of("fp32", "bf16"),
        "compile": or_auto(one_of("none", "block", "model")),
        "steps": AMOUNT,
        "global_batch_tokens": AMOUNT,
        "micro_batch": AMOUNT,
        "clip_norm": POSITIVE,
        "skip_spikes": POSITIVE,
        "threads": or_auto(whole(1, 4096)),
        "log_every": AMOUNT,
        "evaluate_every": AMOUNT,
        "checkpoint_every": AMOUNT,
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
    skip_spikes: float | None
    threads: int
    log_every: int
    evaluate_every: int | None
    checkpoint_every: int | None
    recompute: bool = False


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
