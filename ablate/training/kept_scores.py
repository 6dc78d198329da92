"""What the evaluations of a run have found, kept from the moment it is known until the record says it.

    evaluation/zero_shot-<hash>/scores.json                   after the last step
    evaluation/zero_shot-<hash>/step-00000125/scores.json     on the way, after 125 steps

The hash is that of what is measured, so a point of training that is added later finds the others where they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ablate.evaluation.contract import Partial
from ablate.run.files import atomic_write, read_json
from ablate.run.folder import step_name
from ablate.run.score import Score

FILE = "scores.json"


class KeptScores:
    """The scores of one run in its `folder`: those of an evaluation by its name, and a step before the last, if any."""

    def __init__(self, folder: Path, identity: str, hashes: Mapping[str, str]) -> None:
        self.path, self.identity, self.hashes = folder, identity, hashes

    def folder(self, name: str, step: int | None = None) -> Path:
        """The folder of an evaluation, made if it is not there."""
        folder = self._place(name, step)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def write(self, name: str, found: Partial, step: int | None = None) -> None:
        """Keep what was found."""
        content = {
            "identity": self.identity,
            "scores": {key: score.to_json() for key, score in found.scores.items()},
            **({"failed": dict(found.failed)} if found.failed else {}),
        }
        atomic_write(self.folder(name, step) / FILE, json.dumps(content, indent=1, allow_nan=False) + "\n")

    def read(self, name: str, step: int | None = None) -> Partial | None:
        """What was found of this very run; None where there is nothing, or what is there is damaged."""
        content = read_json(self._place(name, step) / FILE)
        if content.get("identity") != self.identity:
            return None
        try:
            scores = {key: Score.from_json(score) for key, score in content["scores"].items()}
            return Partial(scores, {str(part): str(why) for part, why in content.get("failed", {}).items()})
        except (AttributeError, KeyError, TypeError, ValueError):
            return None

    def _place(self, name: str, step: int | None) -> Path:
        folder = self.path / f"{name}-{self.hashes[name]}"
        return folder if step is None else folder / step_name(step)
