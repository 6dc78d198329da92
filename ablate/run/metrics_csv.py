"""What metrics.csv says of a run, against which its record is held."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

from ablate.run import json_text
from ablate.run.record import DONE, Record

MOST_BYTES = 256 * 2**20  # of a file that is read
AS_PRINTED = 1e-6  # relative: a copy of the file may have fewer digits than the record


@dataclass(frozen=True)
class HeldOutLoss:
    """A held-out loss, in nats a token, and bits a byte where it was measured."""

    loss: float
    bits_per_byte: float | None


@dataclass(frozen=True)
class Metrics:
    """The held-out losses of a run by step, and the last step that it has a line of."""

    held_out: dict[int, HeldOutLoss]
    last: int

    @classmethod
    def read(cls, path: Path) -> Metrics | None:
        """The metrics in the file at `path`; None where there is none, or not one line that can be read."""
        try:
            lines = json_text.read_text(path, MOST_BYTES).replace("\0", "").splitlines()
        except (OSError, ValueError):
            return None
        held_out, last = {}, 0
        kept = [lines[0], *(line for line in lines[1:] if "validation" in line), lines[-1]] if lines else []
        try:
            for row in csv.DictReader(kept):
                try:
                    step, loss = int(row["step"]), float(row["loss"])
                except (KeyError, TypeError, ValueError):
                    continue
                last = max(last, step)
                if row.get("kind") == "validation":
                    held_out[step] = HeldOutLoss(loss, _number(row.get("bits_per_byte")))
        except csv.Error:
            return None
        return cls(held_out, last) if last else None


def contradiction(record: Record, path: Path) -> str:
    """How the metrics beside a finished run's record speak against it; empty where they do not, or say nothing."""
    if record.status != DONE or record.loss is None or (metrics := Metrics.read(path)) is None:
        return ""
    for name, step, loss in (
        ("a final", record.loss.final_step or record.step, record.loss.final),
        ("an early", record.loss.early_step, record.loss.early),
    ):
        found = metrics.held_out.get(step) if step is not None else None
        if found and loss is not None and not math.isclose(found.loss, loss, rel_tol=AS_PRINTED):
            return f"has {name} loss of {loss:.6g}, and {path.name} has {found.loss:.6g} at step {step}"
    if record.step is not None and metrics.last < record.step:
        return f"says done after {record.step} steps, and {path.name} ends at step {metrics.last}"
    return ""


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None
