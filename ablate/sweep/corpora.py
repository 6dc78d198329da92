"""The texts of a sweep, each prepared once, before its runs."""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ablate.errors import UserError, is_full
from ablate.machine import gpu_memory
from ablate.run.files import read_json
from ablate.study.standing import can_refuse
from ablate.sweep.devices import runs_on_a_gpu
from ablate.sweep.preflight import RunRequest
from ablate.sweep.scheduler import last_line
from ablate.sweep.session import Session


@dataclass(frozen=True)
class Prepared:
    """The sha256 of each item's corpus, and the seconds that these have taken.

    refused: by row, why it cannot stand in the context, where there are several.
    """

    sha256: dict[RunRequest, str] = field(default_factory=dict)
    seconds: float = 0.0
    refused: dict[str, str] = field(default_factory=dict)


def prepare(
    session: Session, items: Sequence[RunRequest], folder: Path | None = None, *, texts: bool = True
) -> Prepared:
    """Build the model of each row, and make the corpora that are not there; without `texts` none is.

    Its log is kept in `folder`, without one beside the sweep's runs. Raises `UserError` where that fails, or where
    the model of a row cannot be built that may not be left out, and `OSError` where the disk of the log is full.
    """
    kinds: dict[str, list[RunRequest]] = {}
    for item in items:
        groups = [item.config[group] for group in ("data", "tokenizer")]
        kinds.setdefault(json.dumps(groups, sort_keys=True, default=str), []).append(item)
    folder = folder or session.paths.runs / session.sweep.name
    folder.mkdir(parents=True, exist_ok=True)
    result, log = folder / f".prepared-{os.getpid()}.json", folder / "prepare.log"
    log.unlink(missing_ok=True)
    job = {
        "rows": {item.run.row: item.config for item in items},
        "configs": [members[0].config for members in kinds.values() if texts],
        "result": str(result),
        "needed": [session.sweep.baseline] if can_refuse(session.sweep) else [*session.sweep.rows],
        "sharing": _sharing(session, items),
    }
    session.display.say(f"{session.sweep.name}: {'preparing the text' if texts else 'building the rows'}")
    handle = session.starters.forked.start(session.starters.program.prepare, job, log)
    latest = ""
    while (code := handle.poll()) is None:
        if session.interruption:
            handle.stop(signal.SIGKILL)  # what it writes is renamed into place at the end
        elif (line := last_line(log)) != latest:
            latest = line
            session.display.say(f"  {line}")
        time.sleep(0.1)
    if session.interruption:
        return Prepared()
    found = read_json(result)
    result.unlink(missing_ok=True)
    if code or "sha256" not in found:
        said = "\n".join(found.get("errors", ())) or last_line(log)
        if not said and is_full(folder):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
        raise UserError(said or f"the text could not be prepared; see {log}")
    for line in found.get("notes", ()):
        session.display.say(f"{session.sweep.name}: {line}")
    refused = found.get("refused", {})
    if not texts:
        return Prepared(refused=refused)
    hashes = found["sha256"]
    made = {item: sha256 for members, sha256 in zip(kinds.values(), hashes, strict=True) for item in members}
    return Prepared(made, found.get("texts", 0.0), refused)


def _sharing(session: Session, items: Sequence[RunRequest]) -> dict[str, int] | None:
    """The runs that share a GPU, and its bytes; None where each has its own, or nothing is known of it."""
    if session.options.slurm is not None:
        return None
    runs = runs_on_a_gpu([item.trainer for item in items], int(session.starters.jobs))
    size = gpu_memory() if runs > 1 else None
    return {"runs": runs, "bytes": size} if size else None
