"""What a row of a sweep costs beyond its operations: forward and backward against the baseline, in one process.

    overhead = (row's time / baseline's time) / (row's FLOPs / baseline's FLOPs)

Both take turns, and the median of the turns' ratios counts. Rows above 1.25 are listed, with the bytes that their
operators read and write relative to the baseline's: what they cost if they are memory-bound.

    python benchmarks/rows.py [overrides] [--sweep narang2021] [--mode eager compiled] [--rounds N] [--check]
                              [--only ROW ...]

A row and its baseline are measured at the fewest layers that the row can have: compiling takes most of the time, about
half a minute a row on two CPU cores. With --check it fails if a compiled row is above 1.25. Uses a GPU if there is one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ablate.config import build_model, compose, merge
from ablate.cost import cost, meta_batch
from ablate.errors import UserError
from ablate.study import definition, runs
from ablate.study.paths import Paths
from ablate.sweep.fork_server import ENVIRONMENT
from ablate.training.fit import prepare_arithmetic

CEILING = 1.25
LAYERS = (2, 4, 6)  # the fewest at which a row composes: experts are in every fourth, depths and Funnel divide six
SHAPES = {  # large enough that products take most of the time, on a GPU the paper's width; and 64ths of a vocabulary
    "cpu": (["d_model=192", "n_heads=6", "head_dim=32", "d_ff=768", "length=128", "batch_tokens=2048"], 64),
    "cuda": (["d_model=768", "n_heads=12", "head_dim=64", "d_ff=3072", "length=512", "batch_tokens=16384"], 251),
}


def shape(layers: int, device: torch.device) -> list[str]:
    """Overrides of the shape; the head takes as much of the time as in the paper's model, at any depth."""
    numbers, vocabulary = SHAPES[device.type]
    numbers = [*numbers, f"n_layers={layers}", f"vocab_size={64 * round(vocabulary * layers / 6)}"]
    return [f"shape.{number}" for number in numbers]


def smallest(sweep: Any, row: str, overrides: list[str], device: torch.device) -> tuple[Any, int]:
    """The row's config at the fewest layers that it can have, and that number."""
    for layers in LAYERS:
        try:
            cfg = compose(runs.overrides(sweep, row, 0, merge(shape(layers, device), overrides)))
            build_model(cfg, device="meta")
            return cfg, layers
        except UserError:
            if layers == LAYERS[-1]:
                raise
    raise AssertionError("no number of layers")


class Bytes(TorchDispatchMode):
    """Counts the bytes that operators read and write: none for views, of a table only the rows that are read."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = operation(*args, **(kwargs or {}))
        is_view = any(
            returned.alias_info and not returned.alias_info.is_write for returned in operation._schema.returns
        )
        name = operation._schema.name.removeprefix("aten::")
        if not is_view and name != "_unsafe_view":
            moved = torch.utils._pytree.tree_leaves((args, kwargs, result))
            self.total += sum(tensor.nbytes for tensor in moved if isinstance(tensor, Tensor))
            self.total += _rows_for_table(name, args, result)
        return result


def _rows_for_table(name: str, args: Any, result: Any) -> int:
    """What an operator that gathers reads of its table, less the whole table."""
    if name in ("embedding", "index_select", "gather", "index"):
        return result.nbytes - args[0].nbytes
    bags = {"_embedding_bag": 0, "_embedding_bag_forward_only": 0, "_embedding_bag_per_sample_weights_backward": 1}
    if name in bags:
        table, rows = args[bags[name]], args[bags[name] + 1]
        return rows.numel() * table.shape[-1] * table.element_size() - table.nbytes
    return 0


def bytes_moved(cfg: Any) -> int:
    """What a forward and a backward pass move in eager mode, counted without allocating."""
    model, counter = build_model(cfg, device="meta").train(), Bytes()
    with counter:
        model(meta_batch(cfg))[0].backward()
    return counter.total


def step_of(cfg: Any, device: torch.device, mode: str) -> Callable[[], float]:
    """A function that runs forward and backward once and returns its seconds."""
    torch.manual_seed(0)
    model = build_model(cfg).to(device).train()
    highest = cfg.tokenizer.vocab_size
    batch = {
        name: torch.ones(like.shape, device=device)
        if like.is_floating_point()
        else torch.randint(2, highest, like.shape, device=device)
        for name, like in meta_batch(cfg).items()
    }
    run = torch.compile(model, fullgraph=True, dynamic=False) if mode == "compiled" else model

    def step() -> float:
        model.zero_grad()
        synchronize(device)
        began = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):  # as they are trained there
            loss, _ = run(batch)
        loss.backward()
        synchronize(device)
        return time.perf_counter() - began

    return step


def synchronize(device: torch.device) -> None:
    """Wait for a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(row: Callable[[], float], base: Callable[[], float], rounds: int) -> tuple[float, float, float]:
    """(row's seconds, baseline's seconds, ratio): medians over `rounds` turns, after some to warm up."""
    for _ in range(3):
        base(), row()
    turns = [(row(), base()) for _ in range(rounds)]
    seconds, base_seconds = (statistics.median(column) for column in zip(*turns, strict=True))
    return seconds, base_seconds, statistics.median(one / other for one, other in turns)


def main() -> int:
    """Measure each row; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="in addition to this benchmark's shape, such as shape.d_model=384")
    parser.add_argument("--sweep", default="narang2021")
    parser.add_argument("--only", nargs="+", metavar="ROW")
    parser.add_argument("--mode", nargs="+", choices=("eager", "compiled"), default=("eager", "compiled"))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    prepare_arithmetic(device.type)
    sweep = definition.load(arguments.sweep, Paths.of([]).sweeps)
    configs = {row: smallest(sweep, row, arguments.overrides, device) for row in runs.select(sweep, arguments.only)}
    torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = 2 * len(configs) + 8

    @cache
    def baseline(layers: int) -> tuple[Any, float, int]:
        cfg = compose(runs.overrides(sweep, sweep.baseline, 0, merge(shape(layers, device), arguments.overrides)))
        return cfg, cost(cfg)["flops_per_step"], bytes_moved(cfg)

    @cache
    def baseline_step(layers: int, mode: str) -> Callable[[], float]:
        return step_of(baseline(layers)[0], device, mode)

    high = {mode: [] for mode in arguments.mode}
    for label, (cfg, layers) in configs.items():
        _, base_flops, base_bytes = baseline(layers)
        flops, moved = cost(cfg)["flops_per_step"] / base_flops, bytes_moved(cfg) / base_bytes
        for mode in arguments.mode:
            step, base_step = step_of(cfg, device, mode), baseline_step(layers, mode)
            seconds, base_seconds, ratio = measure(step, base_step, arguments.rounds)
            overhead = ratio / flops
            line = {
                "row": label,
                "mode": mode,
                "layers": layers,
                "ms": 1000 * seconds,
                "baseline_ms": 1000 * base_seconds,
            }
            line |= {"flops": flops, "overhead": overhead, "bytes_eager": moved}
            rounded = {key: round(value, 3) if isinstance(value, float) else value for key, value in line.items()}
            print(json.dumps(rounded), flush=True)
            if overhead > CEILING:
                high[mode].append(f"{label} ({overhead:.2f}; {moved:.2f} x the bytes)")
    for mode, rows in high.items():
        print(f"above {CEILING} times what their operations say, {mode}: {', '.join(rows) or 'none'}", flush=True)
    return int(arguments.check and bool(high.get("compiled")))


if __name__ == "__main__":
    if any(name not in os.environ for name in ENVIRONMENT):  # as a sweep's runs have it; read when a process starts
        os.execve(sys.executable, [sys.executable, *sys.argv], {**ENVIRONMENT, **os.environ})
    sys.exit(main())
