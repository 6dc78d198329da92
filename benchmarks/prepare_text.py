"""How fast a corpus is prepared, beside SentencePiece that encodes the same text and keeps nothing, the two in turn.

tokenizing    a part's documents from the disk into shards on the disk, with their hashes
preparing     the same, and before it reading a JSON lines file, leaving out duplicates, dividing into parts
alone         `SentencePieceProcessor.encode(documents, num_threads=cores)`: lists of ids; or arrays of them

    python benchmarks/prepare_text.py [--file TEXT.jsonl] [--megabytes 8] [--rounds 66] [--check]

All take all cores (RAYON_NUM_THREADS, or OMP_NUM_THREADS, sets another number), with one Unigram of 32,000 pieces, or
as many as the text gives. Without a file the text is that of data=builtin. Printed are the medians of the ratios, round
by round, with the middle 95 % of medians drawn with replacement, of time on the clock and of the processor's time.
With --check it fails where tokenizing is below 0.75 of SentencePiece alone.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import sentencepiece

from ablate.config import compose
from ablate.data import build_corpus
from ablate.data.builtin import Builtin
from ablate.data.cpu_count import cores
from ablate.data.data_faults import DataFaults
from ablate.data.encoder import Encoder
from ablate.data.shards import Writer
from ablate.data.source import Local
from ablate.data.spool import Spool
from ablate.data.ticker import Ticker
from ablate.data.tokenizer import Unigram
from ablate.data.tokenizer_backends import Tokenizer
from ablate.data.unfinished import Journal

VOCABULARY = 32128  # ids, 100 of them sentinels and 28 unused
TRAINED_ON = 6_000_000  # characters
WARM_UP = 6  # rounds
FLOOR = 0.75
DRAWS = 2000


def measured(function: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the clock, and of the processor."""
    wall, processor = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - wall, time.process_time() - processor


def median(ratios: np.ndarray) -> str:
    """The median and the middle 95 % of those of samples drawn from it with replacement."""
    draws = np.random.default_rng(0).choice(ratios, (DRAWS, len(ratios)))
    low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
    return f"{np.median(ratios):.2f} [{low:.2f}, {high:.2f}]"


def texts_of(file: str | None, size: float) -> list[str]:
    """Documents of `size` characters in total, or of all that there are."""

    def documents() -> Iterator[str]:
        faults = DataFaults("skip")
        yield from Local([file]).documents(faults) if file else Builtin([], 10**8).documents(faults)

    found, total = [], 0
    for text in documents():
        found.append(text)
        total += len(text)
        if total >= size:
            break
    return found


def tokenizing(texts: list[str], tokenizer: Tokenizer, folder: Path) -> Callable[[], None]:
    """What writes the documents of a part as shards, from its spool."""
    layout = Unigram(VOCABULARY, 100, TRAINED_ON).layout
    spool = Spool(folder / "train.txt")
    for text in texts:
        spool.add(text.encode())
    spool.finish()

    def write() -> None:
        shutil.rmtree(place := folder / "tokens", ignore_errors=True)
        place.mkdir()
        encoder = Encoder(tokenizer, layout, ("train",), DataFaults(), Ticker(lambda line: None, "bench"))
        encoder.write(spool, Writer(place, "train", layout.dtype), Journal(place / "blocks.jsonl"))

    return write


def preparing(texts: list[str], tokenizer: Tokenizer, folder: Path) -> Callable[[], None]:
    """What prepares a corpus of these texts with this tokenizer."""
    (folder / tokenizer.file).write_bytes(tokenizer.content())
    (folder / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    corpora = folder / "corpora"
    given = ["data=local", f"data.files={folder / 'text.jsonl'}", "tokenizer=file", f"paths.data={corpora}"]
    config = compose([*given, f"tokenizer.file={folder / tokenizer.file}", f"shape.vocab_size={VOCABULARY}"])

    def prepare() -> None:
        shutil.rmtree(corpora, ignore_errors=True)
        build_corpus.prepare(config)

    return prepare


def main() -> int:
    """Measure; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--file", help="the text: what data=local reads")
    parser.add_argument("--megabytes", type=float, default=8.0, help="of text")
    parser.add_argument("--rounds", type=int, default=60 + WARM_UP)
    parser.add_argument("--check", action="store_true", help=f"fail if tokenizing is below {FLOOR}")
    arguments = parser.parse_args()
    texts = texts_of(arguments.file, arguments.megabytes * 1e6)
    tokenizer = Unigram(VOCABULARY, 100, TRAINED_ON).make(texts_of(arguments.file, TRAINED_ON))
    alone = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.content())
    tokens = sum(map(len, alone.encode(texts)))
    size = sum(len(text.encode()) for text in texts) / 1e6
    print(f"{size:.1f} MB in {len(texts):,} documents, {tokens:,} tokens of {tokenizer.size:,} pieces")
    print(f"{cores()} threads, load {os.getloadavg()[0]:.1f}, sentencepiece {sentencepiece.__version__}")
    with tempfile.TemporaryDirectory() as name:
        contestants = {
            "alone, lists": lambda: alone.encode(texts, num_threads=cores()),
            "alone, arrays": lambda: alone.encode(texts, num_threads=cores(), return_type="numpy"),
            "tokenizing": tokenizing(texts, tokenizer, Path(name)),
            "preparing": preparing(texts, tokenizer, Path(name)),
        }
        rounds = [[measured(function) for function in contestants.values()] for _ in range(arguments.rounds)]
    times = dict(zip(contestants, np.array(rounds[WARM_UP:]).transpose(1, 2, 0), strict=True))  # (2, rounds) each
    for which, seconds in times.items():
        wall, processor = np.median(seconds, axis=1)
        print(f"{which:14} {tokens / wall / 1e6:6.2f} M tokens/s, {tokens / processor / 1e6:6.2f} of processor time")
    for which in ("tokenizing", "preparing"):
        for other in ("alone, lists", "alone, arrays"):
            wall, processor = times[other] / times[which]
            print(f"{which} / {other}: {median(wall)}; of processor time {median(processor)}")
    good = np.median(times["alone, lists"][0] / times["tokenizing"][0]) >= FLOOR
    return 0 if good or not arguments.check else 1


if __name__ == "__main__":
    sys.exit(main())
