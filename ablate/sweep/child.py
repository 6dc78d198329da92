"""What happens in a job's own process: prepare the text, train a run, or time a row.

Each function takes what the driver sent (JSON) and returns an exit code. `python -m ablate.sweep.child module:function
JSON` calls one in a fresh interpreter.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from ablate.errors import UserError, print_error
from ablate.run.files import atomic_write
from ablate.terminal import say


def train(job: dict[str, Any]) -> int:
    """Train or resume the run of `job` {"config", "overrides", "command"}; its record says how it ended."""
    from ablate.config import restored
    from ablate.training import run

    cfg = restored(job["config"])
    code = run.exit_code(lambda: run.run(cfg, job["overrides"], job["command"]))
    if "SLURM_JOB_ID" in os.environ and code in run.EXIT_CODES.values():
        run.tell_mirrored(cfg)  # Slurm kills whatever is left when the job ends
    return code


def prepare(job: dict[str, Any]) -> int:
    """Prepare the corpus of each config in `job` {"rows", "configs", "result", "needed", "sharing"}.

    The hashes go to the file `result` as {"sha256": [...], "notes": [line, ...], "texts": seconds}, or
    {"errors": [line, ...]} where it refuses. The notes are on rows whose runs do not fit on a GPU beside one another,
    as "sharing" has it. First the model of each row is built without memory, and what its evaluations need is looked
    for, so that a row that cannot be trained or scored is refused before any run begins. With "needed", rows that
    cannot be built and are not among these are {"refused": {row: line}}, and hinder no other.
    """
    from ablate.config import build_model, restored
    from ablate.data import build_corpus

    errors: list[UserError] = []
    refused: dict[str, str] = {}
    checked: set[str] = set()
    for row, config in job["rows"].items():
        try:
            build_model(restored(config), device="meta")
        except UserError as error:
            if row in job.get("needed", job["rows"]):
                errors.append(error.of(row))
            else:
                refused[row] = "; ".join(str(error).splitlines())
            continue
        try:
            _check_evaluations(config, checked)
        except UserError as error:
            errors.append(error.of(row))
    hashes = []
    began = time.monotonic()
    try:
        if not errors:
            hashes = [build_corpus.prepare(restored(config), progress=say).sha256 for config in job["configs"]]
    except UserError as error:
        errors.append(error)
    lines = "\n".join(map(str, errors))
    print_error(lines)
    texts = time.monotonic() - began
    rows = {row: config for row, config in job["rows"].items() if row not in refused}
    notes = [] if errors else _notes_on_memory(rows, job.get("sharing"))
    result: dict[str, Any] = {"sha256": hashes, "notes": notes, "texts": texts} | (
        {"refused": refused} if refused else {}
    )
    result = {"errors": lines.splitlines()} if errors else result
    atomic_write(Path(job["result"]), json.dumps(result))
    return UserError.exit_code if errors else 0


def _notes_on_memory(rows: dict[str, Any], sharing: dict[str, int] | None) -> list[str]:
    """A line for each row of which `sharing["runs"]` do not fit on a GPU of `sharing["bytes"]`, by estimate."""
    from ablate.config import restored
    from ablate.config.batch import share
    from ablate.footprint import footprint

    if not sharing:
        return []
    notes = []
    for row, config in rows.items():
        cfg = restored(config)
        try:
            needed = footprint(cfg).of(share(cfg).micro_batch)
        except (RuntimeError, NotImplementedError):  # a part that cannot be counted: no estimate, and no obstacle
            continue
        runs, size = sharing["runs"], sharing["bytes"]
        if runs * needed > size:
            fit = size // needed
            remedy = f"jobs_per_device={fit} fits" if fit else "not even one fits: a smaller trainer.micro_batch would"
            notes.append(
                f"{row}: by estimate a run needs {needed / 1e9:.1f} GB, {runs} on a device {runs * needed / 1e9:.1f} "
                f"GB, and it has {size / 1e9:.1f} GB; {remedy}"
            )
    return notes


def _check_evaluations(config: dict[str, Any], checked: set[str]) -> None:
    """Raise `UserError` for evaluations that a row cannot have; those `checked` for another are not checked again."""
    from ablate.config import restored
    from ablate.evaluation.build import build

    key = json.dumps([config[group] for group in ("evaluation", "topology", "trainer")], sort_keys=True, default=str)
    if key not in checked:
        checked.add(key)
        build(restored(config))


def measure(job: dict[str, Any]) -> int:
    """Train the row of `job` {"config", "scratch", "seconds", "result"} for moments; its speed goes to `result`."""
    from ablate.config import restored
    from ablate.training import processes, run

    speed = run.measure(restored(job["config"]), job["scratch"], job["seconds"])
    if processes.is_main():
        atomic_write(Path(job["result"]), json.dumps({"steps_per_second": speed["median"]}))
    return 0


def try_out(job: dict[str, Any]) -> int:
    """Train the run of `job` {"config", "scratch", "seconds", "asked", "result"} for moments, for a forecast.

    "asked" is when the driver started it, by `time.monotonic()`; how long it took to begin goes to `result`, too.
    """
    from ablate.config import restored
    from ablate.run.folder import RunFolder
    from ablate.training import processes, speed

    trial = speed.try_out(restored(job["config"]), RunFolder(job["scratch"]), job["seconds"])
    if processes.is_main():
        found = dataclasses.asdict(trial)
        start = found.pop("began") - job["asked"]
        atomic_write(Path(job["result"]), json.dumps({"start": start, **found}))
    return 0


def main() -> int:
    """Call the function that the command line names."""
    from ablate.orphans import die_with_agent
    from ablate.sweep.fork_server import call

    die_with_agent()
    return call(sys.argv[1], json.loads(sys.argv[2]), log=None)


if __name__ == "__main__":
    sys.exit(main())
