"""The process of one contestant: python -m benchmarks.contestants.worker SETTINGS

It makes the model, says that it is ready, and then reads lines from its standard input: a number asks for the training
step with that batch, and it answers when the step is done. It ends with the input. Answers are lines of JSON on the
standard output; whatever a library prints goes to the standard error.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from . import roster, sources
from .work import STANDARD, batch, quick

LEARNING_RATE, WEIGHT_DECAY, CLIP = 3e-4, 0.1, 1.0


def main() -> int:
    """Serve until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    settings = json.loads(sys.argv[1])
    serve(settings, sys.stdin, answers)
    return 0


def serve(settings: dict[str, Any], questions: TextIO, answers: TextIO) -> None:
    """Make the contestant of `settings` (family, name, compiled, quick, threads) and answer for it."""
    contestant = roster.find(settings["family"], settings["name"])
    import torch

    torch.set_flush_denormal(True)  # before there are threads, which inherit it
    torch.set_num_threads(settings["threads"])
    if contestant.package in sources.INSTALLED:
        sys.path.append(str(sources.FOLDER / contestant.package))
    work = STANDARD[settings["family"]]
    work = quick(work) if settings["quick"] else work
    module = importlib.import_module(f".{contestant.module}", __package__)
    from . import weights

    bare = memory("VmRSS")
    made = module.make(work, weights.draw(work), **contestant.options)
    parameters = list(made.model.parameters())
    optimizer = torch.optim.AdamW(
        parameters, lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=WEIGHT_DECAY, fused=True
    )
    loss_of = torch.compile(made.loss, dynamic=False) if settings["compiled"] else made.loss
    answer(answers, {"parameters": sum(parameter.numel() for parameter in parameters), "bare_bytes": bare})
    for question in questions:
        given = batch(work, int(question))
        began, began_cpu = time.perf_counter(), time.process_time()
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(given)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - began_cpu
        answer(
            answers,
            {
                "seconds": seconds,
                "cpu_seconds": cpu_seconds,
                "loss": loss.item(),
                "norm": norm.item(),
                "peak_bytes": memory("VmHWM"),
            },
        )
        del loss


def answer(answers: TextIO, content: dict[str, Any]) -> None:
    """Write one line."""
    print(json.dumps(content), file=answers, flush=True)


def memory(field: str) -> int:
    """Bytes of this process's resident memory: VmRSS now, VmHWM the most so far."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) * 1024
    except (OSError, StopIteration):  # not Linux: the most so far for both
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    sys.exit(main())
