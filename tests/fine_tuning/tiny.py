"""A tiny model with a tokenizer, tasks that it can learn in seconds, and a context without a run."""

import contextlib
import functools
import types

import torch

from ablate.config import build_model, compose, merge
from ablate.data.tokenizer import BPE
from ablate.evaluation.contract import Context
from tests.tasks import files

SHAPE = [
    "shape.d_model=32", "shape.n_layers=1", "shape.n_heads=2", "shape.head_dim=16", "shape.d_ff=64",
    "shape.vocab_size=640", "shape.length=32", "shape.batch_tokens=512", "trainer=cpu", "trainer.log_every=5",
]  # fmt: skip
SUPERGLUE = [
    "evaluation=[heldout,superglue]", "evaluation.superglue.steps=30", "evaluation.superglue.checkpoint_every=10",
    "evaluation.superglue.warmup_steps=5", "evaluation.superglue.tasks=[cb,copa]", "evaluation.superglue.min_items=8",
    "evaluation.superglue.target_length=8",
]  # fmt: skip
TOPOLOGIES = {
    "encoder_decoder": [],
    "prefix_decoder": ["topology=prefix_decoder"],
    "causal_decoder": ["topology=causal_decoder"],
}


@functools.cache
def tokenizer():
    """A tokenizer of the words of the tasks, and its layout."""
    made = BPE(640, 50, 10**6)
    words = [f"cb hypothesis: so premise: {row['premise']}" for row in files.cb(60)]
    return made.make([*words, "entailment contradiction neutral choice1 choice2 True False copa: premise"]), made.layout


def superglue(folder):
    """Two tasks of SuperGLUE in a folder."""
    files.write(folder / "CB" / "train.jsonl", files.cb(60))
    files.write(folder / "CB" / "val.jsonl", files.cb(12))
    files.write(folder / "COPA" / "train.jsonl.gz", files.copa(40))
    files.write(folder / "COPA" / "val.jsonl", files.copa(6))
    return folder


def model(cfg):
    """The model of a config, in evaluation mode."""
    return build_model(cfg).eval()


def context(cfg, folder, **changes):
    """What an evaluation is given, in one process."""
    folder.mkdir(parents=True, exist_ok=True)
    text, layout = tokenizer()
    corpus = types.SimpleNamespace(tokenizer=text, layout=layout, sha256="f" * 64)
    given = {
        "config": cfg, "corpus": corpus, "heldout": None, "device": torch.device("cpu"), "rank": 0, "world_size": 1,
        "precision": "fp32", "autocast": contextlib.nullcontext, "seed": 0, "folder": folder, "stop": lambda: False,
        "total": lambda sums: sums,
    }  # fmt: skip
    return Context(**{**given, **changes})


def evaluated(cfg, folder, **changes):
    """The scores of the one evaluation of a config beside the held-out loss."""
    from ablate.evaluation.build import build

    (evaluation,) = [one for name, one in build(cfg).items() if name != "heldout"]
    made = model(cfg)
    with torch.no_grad():
        return evaluation.evaluate(made, context(cfg, folder, **changes))


def composed(data, *more):
    """The config of a tiny run with two tasks of SuperGLUE in `data`."""
    return compose(merge([*SHAPE, *SUPERGLUE, f"evaluation.superglue.data={data}"], more))
