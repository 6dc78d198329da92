"""Made-up task files in the layouts that are read, a tokenizer for them, and models that know nothing."""

from __future__ import annotations

import gzip
import json
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import torch

from ablate.config import build_model, compose
from ablate.data.tokenizer import BPE
from ablate.data.vocabulary import trained
from ablate.evaluation.contract import Context
from ablate.evaluation.zero_shot.evaluation import ZeroShot
from tests.model.tiny import set_all

WORDS = ("the", "old", "cat", "bird", "sits", "sings", "on", "under", "green", "tree", "house", "and", "sleeps", "well")
VOCABULARY, SENTINELS = 560, 4
SHAPE = [
    "shape.d_model=16", "shape.n_layers=2", "shape.n_heads=2", "shape.head_dim=8", "shape.d_ff=16",
    f"shape.vocab_size={VOCABULARY}", f"tokenizer.sentinels={SENTINELS}", "shape.length=48", "shape.batch_tokens=96",
]  # fmt: skip
CAUSAL = ["topology=causal_decoder", "objective=causal"]
ITEMS = 6


def phrase(random, least=2, most=6):
    return " ".join(random.choice(WORDS, random.integers(least, most + 1)))


def rows(task: str, count: int = ITEMS) -> list[dict]:
    """Items of a task as its file has them."""
    random = np.random.default_rng(len(task))
    return [_row(task, random) for _ in range(count)]


def _row(task, random):
    text = lambda: phrase(random)  # noqa: E731
    label = lambda count: int(random.integers(count))  # noqa: E731
    choices = {"text": [text() for _ in range(4)], "label": ["A", "B", "C", "D"]}
    answer = "ABCD"[label(4)]
    made = {
        "boolq": lambda: {"question": text(), "passage": text(), "label": bool(label(2)), "idx": 1},
        "piqa": lambda: {"goal": text(), "sol1": text(), "sol2": text(), "label": label(2)},
        "social_iqa": lambda: {
            "context": text(), "question": text(), "answerA": text(), "answerB": text(), "answerC": text(),
            "label": str(1 + label(3)),
        },
        "hellaswag": lambda: {
            "ind": 1, "query": f"Sleeping: {text()}. {text()}. the cat", "label": label(4),
            "endings": [text() + "." for _ in range(4)],
        },
        "winogrande": lambda: {
            "sentence": f"{text()} _ {text()}.", "option1": "cat", "option2": "bird", "answer": str(1 + label(2)),
        },
        "arc_easy": lambda: {"id": "x", "question": text(), "choices": choices, "answerKey": answer},
        "arc_challenge": lambda: {"id": "x", "question": text(), "choices": choices, "answerKey": answer},
        "openbookqa": lambda: {"id": "x", "question_stem": text(), "choices": choices, "answerKey": answer},
        "nq_open": lambda: {"question": text(), "answer": [text(), text()]},
        "lambada_openai": lambda: {"text": text()},
        "wikitext": lambda: {"text": f"= Cats = \n \n {text()} @-@ <unk> . {' '.join(text() for _ in range(20))}"},
    }  # fmt: skip
    return made[task]()


FILES = {
    "boolq": "superglue/BoolQ/val.jsonl.gz",
    "piqa": "zeroshot/piqa.val_first900.jsonl",
    "social_iqa": "zeroshot/siqa.val_first950.jsonl",
    "hellaswag": "zeroshot/hellaswag.val_first2000.jsonl.gz",
    "winogrande": "zeroshot/winogrande.val_first634.jsonl",
    "arc_easy": "zeroshot/ARC-Easy.validation.jsonl",
    "arc_challenge": "zeroshot/ARC-Challenge.validation.jsonl",
    "openbookqa": "zeroshot/openbookqa.validation.jsonl",
    "nq_open": "zeroshot/nq_open.val_first1800.jsonl",
    "lambada_openai": "zeroshot/lambada_openai.first2500.jsonl.gz",
    "wikitext": "corpus/wikitext2-valid.jsonl.gz",
}


def write(folder: Path, task: str, content: list | None = None) -> Path:
    """A task's file; `content`: objects, or lines as they are."""
    path = folder / FILES[task]
    path.parent.mkdir(parents=True, exist_ok=True)
    content = rows(task) if content is None else content
    lines = [line if isinstance(line, str) else json.dumps(line) for line in content]
    text = "".join(line + "\n" for line in lines)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@cache
def tokenizer():
    """Trained on the words of the items."""
    random = np.random.default_rng(0)
    return BPE(VOCABULARY, SENTINELS, 100_000).make([phrase(random, 20, 30) + ". Question Answer:" for _ in range(30)])


@dataclass
class Corpus:
    """What an evaluation asks of a corpus."""

    sha256: str = "f" * 64
    layout: object = field(default_factory=lambda: trained(VOCABULARY, SENTINELS))
    text_ids: np.ndarray = field(default_factory=lambda: np.arange(3, 500))

    @property
    def tokenizer(self):
        return tokenizer()


def config(*options):
    return compose([*SHAPE, *(options or CAUSAL)])


def model_of(cfg):
    """A model whose weights are large enough to have opinions."""
    model = build_model(cfg).eval()
    set_all(model, (0.3,))
    return model


def context(cfg, folder: Path, **changes) -> Context:
    """What an evaluation of one process is given."""
    folder.mkdir(exist_ok=True)
    given = {
        "config": cfg, "corpus": Corpus(), "heldout": lambda tokens, seed: [], "device": torch.device("cpu"), "rank": 0,
        "world_size": 1, "precision": "fp32", "autocast": nullcontext, "seed": 0, "folder": folder,
        "stop": lambda: False, "total": lambda sums: sums,
    }  # fmt: skip
    return Context(**{**given, **changes})


def zero_shot(tasks, data, **changes) -> ZeroShot:
    """The evaluation with small settings."""
    settings = {
        "limit": None, "num_fewshot": None, "include_path": None, "form": "own", "length": 48, "batch_tokens": 512,
    }  # fmt: skip
    return ZeroShot(tasks=tasks, data=None if data is None else str(data), **{**settings, **changes})
