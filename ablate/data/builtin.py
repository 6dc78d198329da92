"""English text that every installation already has: the docstrings of Python and of the pinned dependencies."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ablate.data import docstrings
from ablate.data.cpu_count import cores
from ablate.data.data_faults import DataFaults
from ablate.data.file_hashes import Hashes, hash_files
from ablate.duration import duration
from ablate.errors import UserError
from ablate.orphans import die_with_parent

# Folders and files without documentation: tests, vendored copies, examples of wrong syntax.
SKIPPED = re.compile(
    r"(^|/)(tests?|testing|\w*_tests?|test_\w+|_vendor|vendored|idlelib|lib2to3|site-packages|pydoc_data)(/|\.py$)"
)
SHORTEST, USEFUL, LONGEST = 200, 1000, 8000  # characters of a document: dropped below, joined below, cut above
READING = 600.0  # seconds for one process to read its share of the files: it takes a few
REPEATED = 40  # letters from which a paragraph may occur only once in the corpus


class Builtin:
    """Docstrings as documents, read without importing: for demonstrations, never to compare machines.

    packages: distributions to read besides the standard library; those not installed are left out and listed in the
    manifest. characters: about how much text to keep.
    """

    def __init__(self, packages: Sequence[str], characters: int):
        self.packages, self.characters = list(packages), int(characters)

    def fingerprint(self, hashes: Hashes = hash_files) -> dict[str, Any]:
        """What determines the text: the versions of Python and of each package."""
        return {
            "source": "builtin",
            "python": platform.python_version(),
            "packages": {name: _version(name) for name in self.packages},
            "characters": self.characters,
        }

    def documents(self, faults: DataFaults) -> Iterator[str]:
        """Documents in the order of the hash of their text, until they have `characters`."""
        seen: set[bytes] = set()
        documents: list[str] = []
        for units in _read_all(self._files(faults)):
            documents.extend(_join(_unseen(units, seen)))
        documents.sort(key=lambda text: hashlib.sha256(text.encode()).digest())
        total = 0
        for text in documents:
            yield text
            total += len(text)
            if total >= self.characters:
                return

    def _files(self, faults: DataFaults) -> list[str]:
        """Source files in an order that does not depend on where they are installed."""
        folders = [Path(sysconfig.get_path("stdlib"))]
        for name in self.packages:
            if not (found := _folders(name)):
                faults.note("package not installed", name)
            folders.extend(found)
        files: list[str] = []
        for folder in folders:
            inside = (path.relative_to(folder).as_posix() for path in folder.rglob("*.py"))
            files.extend(str(folder / path) for path in sorted(inside) if not SKIPPED.search(path))
        return files


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _folders(distribution: str) -> list[Path]:
    """The folders of an installed distribution's own top-level packages; none if it is not installed."""
    try:
        files = importlib.metadata.files(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    inits = sorted((file for file in files if len(file.parts) == 2 and file.name == "__init__.py"), key=str)
    return [Path(file.locate()).parent for file in inits if not SKIPPED.search(file.parts[0] + "/")]


def _read_all(files: list[str]) -> list[list[list[str]]]:
    """The units of every file, in the order of the files; one process per core.

    The processes run a program of their own: they end with their input, even if this process dies, and import
    nothing of the package.
    """
    workers = cores()
    shares = [files[worker::workers] for worker in range(workers)]
    units: list[list[list[str]]] = [[] for _ in files]
    with ThreadPoolExecutor(workers) as pool:
        for worker, found in enumerate(pool.map(_read_share, shares)):
            units[worker::workers] = found
    return units


def _read_share(files: list[str]) -> list[list[list[str]]]:
    command = [sys.executable, "-P", "-W", "ignore", docstrings.__file__]
    try:
        finished = subprocess.run(
            command,
            input=json.dumps(files),
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=True,
            timeout=READING,
            preexec_fn=die_with_parent,
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"data=builtin: the docstrings were not read within {duration(READING)}") from None
    units: list[list[list[str]]] = json.loads(finished.stdout)
    return units


def _unseen(units: list[list[str]], seen: set[bytes]) -> Iterator[list[str]]:
    """The paragraphs that equal no earlier one up to case, digits and punctuation; short ones may recur elsewhere."""
    short: set[bytes] = set()
    for unit in units:
        fresh = []
        for paragraph in unit:
            letters = re.sub(r"[\W\d_]+", "", paragraph.lower())
            repeats = short if len(letters) < REPEATED else seen
            key = hashlib.blake2b(letters.encode(), digest_size=12).digest()
            if key not in repeats:
                repeats.add(key)
                fresh.append(paragraph)
        yield fresh


def _join(units: Iterator[list[str]]) -> Iterator[str]:
    """Documents of useful length from the units of one file."""
    document: list[str] = []
    size = 0
    for unit in units:
        for paragraph in unit:
            if document and size + len(paragraph) > LONGEST:
                yield "\n\n".join(document)
                document, size = [], 0
            document.append(paragraph[:LONGEST])
            size += len(paragraph) + 2
        if size >= USEFUL:
            yield "\n\n".join(document)
            document, size = [], 0
    if size >= SHORTEST:
        yield "\n\n".join(document)
