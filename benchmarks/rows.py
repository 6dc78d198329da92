"""What a row of a sweep costs beside what its operations say: forward and backward against the baseline, in one process.

    overhead = (row's time / baseline's time) / (row's FLOPs / baseline's FLOPs)

Both take turns, and the median of the turns' ratios counts. Above 1.25 a row is named, with the bytes that its operators
read and write against the baseline's: what it costs where it is bound by memory.

    python benchmarks/rows.py [overrides] [--sweep narang2021] [--compile] [--rounds N] [--check] [--only ROW ...]

Without --compile (minutes a sweep) in eager mode; with it (a minute or two a row on a CPU, less with
shape.n_layers=2 where a row allows it) as a GPU would run it. With --check it fails where a compiled row is above 1.25.
On a GPU where there is one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ablate.config import build_model, compose, merge
from ablate.cost import cost, meta_batch
from ablate.sweep import plan
from ablate.sweep.paths import Paths

CEILING = 1.25
# Every ratio of Table 1 comes out, and matrices are large enough to be what takes the time.
SHAPE = [
    "shape.d_model=192", "shape.n_heads=6", "shape.head_dim=32", "shape.d_ff=768", "shape.n_layers=6",
    "shape.vocab_size=4096", "shape.length=128", "shape.batch_tokens=2048",
]  # fmt: skip


class Bytes(TorchDispatchMode):
    """Counts the bytes that operators read and write; views move nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = operation(*args, **(kwargs or {}))
        if not any(returned.alias_info and not returned.alias_info.is_write for returned in operation._schema.returns):
            moved = torch.utils._pytree.tree_leaves((args, kwargs, result))
            self.total += sum(tensor.nbytes for tensor in moved if isinstance(tensor, Tensor))
        return result


def bytes_moved(cfg: Any) -> int:
    """What a forward and a backward pass move in eager mode, counted without allocating."""
    model, counter = build_model(cfg, device="meta").train(), Bytes()
    with counter:
        model(meta_batch(cfg))[0].backward()
    return counter.total


def step_of(cfg: Any, device: torch.device, compiled: bool) -> Callable[[], float]:
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
    run = torch.compile(model, fullgraph=True, dynamic=False) if compiled else model

    def step() -> float:
        model.zero_grad()
        synchronize(device)
        began = time.perf_counter()
        run(batch)[0].backward()
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
    parser.add_argument("--sweep", default="narang2021")
    parser.add_argument("--only", nargs="+", metavar="ROW")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("overrides", nargs="*", help="on top of this benchmark's shape, such as shape.n_layers=2")
    asked = parser.parse_args()
    torch.set_flush_denormal(True)  # as training does: the paper's first scores make tiny weights
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    extra = merge(SHAPE, asked.overrides)
    sweep = plan.load(asked.sweep, Paths.of([]).sweeps)
    configs = {row: compose(plan.overrides(sweep, row, 0, extra)) for row in plan.select(sweep, asked.only)}
    base = compose(plan.overrides(sweep, sweep.baseline, 0, extra))
    torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = 2 * len(configs) + 2
    base_cost, base_bytes, base_step = cost(base), bytes_moved(base), step_of(base, device, asked.compile)
    high = []
    for label, cfg in configs.items():
        seconds, base_seconds, ratio = measure(step_of(cfg, device, asked.compile), base_step, asked.rounds)
        operations = cost(cfg)["flops_per_step"] / base_cost["flops_per_step"]
        overhead, moved = ratio / operations, bytes_moved(cfg) / base_bytes
        line = {"row": label, "ms": 1000 * seconds, "baseline_ms": 1000 * base_seconds, "flops": operations}
        line |= {"overhead": overhead, "bytes_eager": moved}
        rounded = {key: round(value, 3) if isinstance(value, float) else value for key, value in line.items()}
        print(json.dumps(rounded), flush=True)
        high += [f"{label} ({overhead:.2f}; {moved:.2f} x the bytes)"] if overhead > CEILING else []
    mode = "compiled" if asked.compile else "eager"
    print(f"above {CEILING} times what their operations say, {mode}: {', '.join(high) or 'none'}", flush=True)
    return int(asked.check and asked.compile and bool(high))


if __name__ == "__main__":
    sys.exit(main())
