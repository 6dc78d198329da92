"""What is done of a corpus that is not whole yet, on disk, so that a process goes on where another was killed.

<folder>/                           the files of the corpus, as far as they are written
    unfinished/stages.json          which stages are finished, and what came out of them
    unfinished/train.txt            the documents of a part, until it is encoded, and the bytes of each in
    unfinished/train.lengths.npy
    unfinished/train.blocks.jsonl   a line for each block of documents whose tokens are written, with their hash

Everything here is checked before it is used, by its hash or its length; what is not whole is made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import ablate
from ablate.run.files import atomic_write, read_json

NAME = "unfinished"
LIBRARIES = ("tokenizers", "sentencepiece", "datasets", "numpy")  # other versions could give other tokens


class Unfinished:
    """The stages of preparing a corpus in `folder`."""

    def __init__(self, folder: Path):
        self.folder = folder / NAME
        self._file = self.folder / "stages.json"
        found = read_json(self._file)
        self._stages: dict[str, Any] = found.get("stages", {}) if found.get("made_by") == _versions() else {}

    def result(self, stage: str) -> dict[str, Any] | None:
        """What came out of a stage that is finished; None for any other."""
        return self._stages.get(stage)

    def finish(self, stage: str, result: dict[str, Any]) -> None:
        """A stage is finished, and its files are on the disk."""
        self._stages[stage] = result
        atomic_write(self._file, json.dumps({"made_by": _versions(), "stages": self._stages}))

    def restart(self) -> None:
        """Remove what there is, of the corpus, too."""
        self._stages = {}
        for path in self.folder.parent.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        self.folder.mkdir()

    def journal(self, part: str) -> Journal:
        return Journal(self.folder / f"{part}.blocks.jsonl")

    def remove(self) -> None:
        """The corpus is whole without this."""
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True)
class WrittenBlock:
    """Some documents whose tokens were written after those of the block before.

    long, marks: documents that were encoded in pieces, and U+2581 in the text. digest: of the tokens' bytes.
    """

    documents: int
    tokens: int
    long: int
    marks: int
    digest: str


class Journal:
    """The blocks of a part that were written, a line each; a line that is not whole is the last."""

    def __init__(self, file: Path):
        self._file = file

    def blocks(self) -> list[WrittenBlock]:
        found = []
        try:
            for line in self._file.read_bytes().splitlines():
                found.append(WrittenBlock(**json.loads(line)))
        except (OSError, ValueError, TypeError):
            pass  # none at all, or written halfway
        return found

    def keep(self, blocks: list[WrittenBlock]) -> None:
        """Only these were written."""
        atomic_write(self._file, "".join(map(_line, blocks)))

    def add(self, block: WrittenBlock) -> None:
        with open(self._file, "ab", buffering=0) as opened:
            opened.write(_line(block).encode())


def digest(data: Any) -> str:
    """The hash of a block's bytes, by which it is known again."""
    return hashlib.sha256(data).hexdigest()


def _line(block: WrittenBlock) -> str:
    return json.dumps(asdict(block)) + "\n"


def _versions() -> dict[str, str]:
    found = {"ablate": ablate.__version__}
    for name in LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
