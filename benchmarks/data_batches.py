"""How fast text becomes batches, as ratios in one run.

span corruption    a batch of 128 x 512/114 against the method of Hugging Face's T5 pre-training example
reader             a gather of windows against a loop that stacks rows, as nanoGPT's get_batch does
waiting            the time a step waits for its batch, as a fraction of the step

    python benchmarks/data_batches.py [--check]

With --check it fails if a ratio is below 8 or 5, or a step waits for more than 1 % of its time.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from ablate.config import compose
from ablate.data import shards
from ablate.data.batches import CHUNK_TOKENS, Batches
from ablate.data.objective import SpanCorruption
from ablate.data.vocabulary import Layout

ROUNDS = 60


def interleaved(*functions: Callable[[], object]) -> list[float]:
    """The median seconds of each function, called in turn."""
    times = [[] for _ in functions]
    for _ in range(ROUNDS):
        for function, seconds in zip(functions, times, strict=True):
            began = time.perf_counter()
            function()
            seconds.append(time.perf_counter() - began)
    return [float(np.median(seconds[ROUNDS // 10 :])) for seconds in times]


# --- the T5 example's collator: masks row by row, then the batch is filtered ---


def row_mask(length: int, density: float, mean_span: float) -> np.ndarray:
    """One row's noise mask: shuffle where pieces begin, sum up, take every second piece."""
    n_noise = min(max(int(np.round(length * density)), 1), length - 1)
    n_spans = max(int(np.round(n_noise / mean_span)), 1)

    def pieces(n_items: int) -> np.ndarray:
        begins = np.arange(n_items - 1) < n_spans - 1
        np.random.shuffle(begins)
        _, sizes = np.unique(np.cumsum(np.pad(begins, (1, 0))), return_counts=True)
        return sizes

    noise = pieces(n_noise)
    sizes = np.stack([pieces(length - n_noise), noise], axis=1).reshape(2 * n_spans)
    begins = np.zeros(length, np.int8)
    begins[np.cumsum(sizes)[:-1]] = True
    return np.cumsum(begins) % 2 == 1


def by_rows(examples: list[dict[str, np.ndarray]], raw: int, layout: Layout) -> dict[str, np.ndarray]:
    """A batch from a list of examples, as that collator makes it."""
    ids = np.array([example["input_ids"] for example in examples])
    mask = np.asarray([row_mask(raw, 0.15, 3.0) for _ in range(len(ids))])

    def filtered(mask: np.ndarray) -> np.ndarray:
        marks = mask.astype(np.int8)
        begins = marks - np.roll(marks, 1, axis=-1) * marks
        begins[:, 0] = marks[:, 0]
        numbers = np.where(begins != 0, np.cumsum(begins, axis=-1), begins)
        numbers = np.where(numbers != 0, layout.sentinel(0) + 1 - numbers, 0)
        numbers -= marks - begins
        full = np.where(numbers != 0, numbers, ids)
        kept = full[full >= 0].reshape(len(ids), -1)
        return np.concatenate([kept, np.full((len(ids), 1), layout.eos_id)], axis=-1)

    inputs, targets = filtered(mask), filtered(~mask)
    shifted = np.zeros_like(targets)
    shifted[:, 1:] = targets[:, :-1]
    return {"input_ids": inputs, "labels": targets, "decoder_input_ids": shifted}


def span_corruption() -> float:
    """How many times as fast our batch is as the example's."""
    layout = Layout(32128, 32000, 100, 0, 1)
    objective = SpanCorruption(layout, ("encoder", "decoder"), False, 512, 0.15, 3.0)
    rng = np.random.default_rng(0)
    windows = rng.integers(3, 32000, (128, objective.raw_length)).astype(np.uint16)
    examples = [{"input_ids": row.astype(np.int64)} for row in windows]

    def ours() -> dict[str, torch.Tensor]:
        return {name: torch.from_numpy(ids.astype(np.int64)) for name, ids in objective.apply(windows, rng).items()}

    def theirs() -> dict[str, torch.Tensor]:
        return {name: torch.from_numpy(ids) for name, ids in by_rows(examples, objective.raw_length, layout).items()}

    assert (
        {tuple(t.shape) for t in ours().values()}
        == {tuple(t.shape) for t in theirs().values()}
        == {(128, 512), (128, 114)}
    )
    fast, slow = interleaved(ours, theirs)
    print(
        f"span corruption, 128 x 512/114: {fast * 1e3:6.2f} ms, row by row {slow * 1e3:6.2f} ms: "
        f"{slow / fast:5.1f} times as fast"
    )
    return slow / fast


def reader(folder: Path) -> float:
    """The worst ratio over three shapes; both give inputs and the tokens after them."""
    rng = np.random.default_rng(0)
    writer = shards.Writer(folder, "train", np.dtype(np.uint16))
    writer.add(rng.integers(3, 32000, 1 << 24), np.array([1 << 24]))
    part = shards.Reader(folder, writer.close(), np.dtype(np.uint16))
    ratios = []
    for rows, length in ((8, 256), (32, 1024), (128, 568)):

        def ours(rows=rows, length=length) -> tuple[torch.Tensor, torch.Tensor]:
            indices = rng.integers(0, part.n_windows(length + 1), rows)
            windows = torch.from_numpy(part.windows(indices, length + 1).astype(np.int64))
            return windows[:, :-1], windows[:, 1:]

        def theirs(rows=rows, length=length) -> tuple[torch.Tensor, torch.Tensor]:
            stream = np.memmap(folder / "train-00000.bin", np.uint16, "r")  # at each batch, as there
            starts = torch.randint(len(stream) - length, (rows,))
            inputs = torch.stack([torch.from_numpy(stream[i : i + length].astype(np.int64)) for i in starts])
            after = torch.stack([torch.from_numpy(stream[i + 1 : i + 1 + length].astype(np.int64)) for i in starts])
            return inputs, after

        fast, slow = interleaved(ours, theirs)
        ratios.append(slow / fast)
        speeds = f"{rows * length / fast / 1e6:7,.0f} M tokens/s, stacking rows {rows * length / slow / 1e6:5,.0f}"
        print(f"reader, {rows:3} x {length:4}: {speeds}: {ratios[-1]:5.1f} times as fast")
    return min(ratios)


# input length, input tokens of a batch, milliseconds of a step: the smallest model of these benchmarks, shape=nano on a
# CPU, and shape=paper on a GPU of 2024
STEPS = ((32, 64, 3), (64, 2048, 30), (512, 65536, 120))


def waiting(folder: Path) -> float:
    """The largest fraction of a step spent waiting for its batch."""
    layout = Layout(32128, 32000, 100, 0, 1)
    rng = np.random.default_rng(0)
    readers = {}
    for part in ("train", "validation"):
        writer = shards.Writer(folder, f"small-{part}", np.dtype(np.uint16))
        writer.add(rng.integers(3, 32000, 1 << 22), np.array([1 << 22]))
        readers[part] = shards.Reader(folder, writer.close(), np.dtype(np.uint16))
    corpus = SimpleNamespace(name="random", layout=layout, **readers)
    torch.set_num_threads(1)
    weight = torch.randn(256, 256)
    worst = 0.0
    for length, tokens, milliseconds in STEPS:
        shape = [f"shape.length={length}", f"shape.batch_tokens={tokens}", "shape.vocab_size=32128"]
        batches = Batches(compose(shape), corpus)
        shares = []
        # steps whose batches are made together; measured are whole chunks, beginning in the middle of one
        chunk = max(1, CHUNK_TOKENS // tokens)
        steps = chunk * math.ceil(max(5, 1000 // milliseconds) / chunk)
        # the least of three: the machine may be busy at times
        for start in range(chunk // 2, chunk // 2 + 3 * steps, steps):
            waited = worked = 0.0
            for step in range(start, start + steps + 1):
                began = time.perf_counter()
                batches.micro(step, 0, 1)
                got = time.perf_counter()
                while time.perf_counter() - got < milliseconds / 1e3:
                    weight = torch.tanh(weight @ weight)  # a step's work: kernels that release the interpreter
                if step > start:  # the first batch was not prefetched
                    waited, worked = waited + got - began, worked + time.perf_counter() - began
            shares.append(waited / worked)
        print(f"waiting, {tokens:6,} tokens a step of {milliseconds:3} ms: {min(shares):.2%} of a step")
        worst = max(worst, min(shares))
    return worst


def main() -> int:
    """Measure each; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail if a ratio is below its floor")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        corruption, gather, wait = span_corruption(), reader(Path(folder)), waiting(Path(folder))
    good = corruption >= 8 and gather >= 5 and wait <= 0.01
    return 0 if good or not arguments.check else 1


if __name__ == "__main__":
    sys.exit(main())
