"""`ablate diff RUN RUN`: in which settings two runs differ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ablate.cli import arguments
from ablate.errors import UserError

HELP = """Say in which settings two runs differ: only those that can change a result.

usage: ablate diff RUN RUN          a run is its folder, or SWEEP/ROW/SEED

  ablate diff "axes/Vanilla Transformer/0" "axes/RMS Norm/0"
"""


def run(words: list[str]) -> int:
    """Print a line for each setting that differs."""
    from ablate.config import differences

    asked = arguments.sort(words)
    if len(asked.rest) != 2:
        raise UserError(f"ablate diff takes two runs, and was given {len(asked.rest)}")
    one, other = (_folder(word) for word in asked.rest)
    rows = [
        *differences(_config(one), _config(other)),
        *(
            (key, _record(one).get(key), _record(other).get(key))
            for key in ("data", "versions")
            if _record(one).get(key) != _record(other).get(key)
        ),
    ]
    width = max((len(key) for key, _, _ in rows), default=0)
    for key, first, second in rows:
        print(f"{key:{width}}  {_shown(first)}  ->  {_shown(second)}")
    if not rows:
        print("no setting differs that can change a result")
    return 0


def _folder(word: str) -> Path:
    places = [Path(word)]
    sweep, slash, rest = word.partition("/")
    row, _, seed = rest.rpartition("/")
    if slash and row and seed.isdecimal():
        from ablate.run.folder import run_path

        places.append(run_path("runs", sweep, row, int(seed)))
    for place in places:
        if (place / "config.yaml").is_file():
            return place
    raise UserError(f"{word}: no run lies there (no config.yaml in {' or '.join(map(str, places))})")


def _config(folder: Path) -> dict[str, Any]:
    from ablate.run.folder import RunFolder

    return RunFolder(folder).read_config() or {}


def _record(folder: Path) -> dict[str, Any]:
    """What the record says of text and versions; empty where there is none yet."""
    from ablate.run.files import read_json

    record = read_json(folder / "record.json")
    return {"data": (record.get("data") or {}).get("sha256"), "versions": record.get("versions")}


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
