"""Checkpoints that are whole or not there.

    checkpoints/step-00000120.ckpt           the state after 120 steps
    checkpoints/step-00000120.ckpt.sha256    written before the checkpoint takes its place
    checkpoints/step-00000060.ckpt ...       the one before stays until the next

A file is written beside its final place, synced, and renamed. Before it is read its checksum is compared, and whether
it holds what a run saves; where that fails the one before is taken, and said so. Nothing in a checkpoint is ever
executed, and no link is followed.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ablate.run.files import atomic_file, atomic_write, sha256
from ablate.run.folder import checkpoint_name
from ablate.training.lightning import CheckpointIO

KEPT = 2
SAVED = ("state_dict", "callbacks", "run")  # mappings in every checkpoint of a run
_NAME = re.compile(r"step-(\d{8,})\.ckpt")


class CheckpointError(Exception):
    """No checkpoint can be trusted."""


class AtomicCheckpointIO(CheckpointIO):
    """Lightning's door to files: atomic and checksummed on the way out, compared and unexecuted on the way in."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Path | str, storage_options: Any = None) -> None:
        """Write `checkpoint` to `path`, its checksum first."""
        save(checkpoint, Path(path))

    def load_checkpoint(
        self, path: Path | str, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read the checkpoint at `path`, tensors and plain containers only; raises `CheckpointError`."""
        return load(Path(path))

    def remove_checkpoint(self, path: Path | str) -> None:
        """Delete the checkpoint at `path`."""
        remove(Path(path))


def save(content: dict[str, Any], path: Path) -> None:
    """Write tensors and plain containers to `path`, atomically, with a checksum beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        torch.save(content, file)
        file.flush()
        atomic_write(_checksum(path), sha256(file.name) + "\n")


def load(path: Path) -> dict[str, Any]:
    """Read what `save` wrote, onto the CPU; raises `CheckpointError` where it is not as it was written."""
    if problem := damage(path):
        raise CheckpointError(f"{path} {problem}")
    return _unpickled(path)


def damage(path: Path) -> str:
    """What is wrong with a file that `save` wrote; empty where it is whole."""
    for file, what in ((path, "is"), (_checksum(path), "has a checksum that is")):
        if file.is_symlink():
            return f"{what} a symbolic link"
    try:
        expected = _checksum(path).read_bytes().strip()
    except OSError:
        return "has no checksum"
    try:
        found = sha256(path)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return "" if found.encode() == expected else "is damaged: its checksum is not the one written with it"


def _unpickled(path: Path, mmap: bool = False) -> dict[str, Any]:
    """The tensors and plain containers in a file; with `mmap` its tensors are not read before they are used."""
    try:
        content: object = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # a foreign file whose checksum is right: whatever unpickling refuses
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path} is not a checkpoint: {reason}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is not a checkpoint: it holds a {type(content).__name__}")
    return content


def remove(path: Path) -> None:
    """Delete a file and its checksum, or what stands in their places."""
    for place in (path, _checksum(path)):
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)


class CheckpointFolder:
    """The checkpoints of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def at(self, step: int) -> Path:
        """Where the checkpoint after `step` steps goes."""
        return self.path / checkpoint_name(step)

    def all(self) -> list[Path]:
        """Every checkpoint, the newest first, whole or not."""
        found = [(int(match[1]), path) for path in self.path.glob("*") if (match := _NAME.fullmatch(path.name))]
        return [path for _, path in sorted(found, reverse=True)]

    def newest(self, warn: Callable[[str], None], *, set_aside: bool) -> Path | None:
        """The newest whole checkpoint, or None where there is none at all.

        A damaged one is named by `warn` and, where the process is the one that writes, `set_aside`; raises
        `CheckpointError` where all are damaged.
        """
        damaged: list[Path] = []
        for path in self.all():
            problem = damage(path) or _foreign(path)
            if not problem:
                if set_aside:
                    _set_aside(damaged)
                return path
            warn(f"checkpoint {path} {problem}; going back to the one before")
            damaged.append(path)
        if damaged:
            raise CheckpointError(f"no checkpoint in {self.path} is whole; delete them to begin the run anew")
        return None

    def prune(self) -> None:
        """Keep the newest and the one before it."""
        for path in self.all()[KEPT:]:
            remove(path)
        for checksum in self.path.glob("*.ckpt.sha256"):
            if not checksum.with_suffix("").exists():
                remove(checksum.with_suffix(""))

    def remove_after(self, step: int) -> None:
        """Delete those of later steps."""
        for path in self.all():
            if int(path.stem.removeprefix("step-")) > step:
                remove(path)

    def clear(self) -> None:
        """Delete all of them."""
        for path in self.all():
            remove(path)


def _foreign(path: Path) -> str:
    """Why a file whose checksum is right is not what a run saves; empty where it is."""
    try:
        content = _unpickled(path, mmap=True)
    except CheckpointError as error:
        return str(error).removeprefix(f"{path} ")
    lacking = [key for key in SAVED if not isinstance(content.get(key), dict)]
    return f"is not a checkpoint: it has no {' and no '.join(lacking)}" if lacking else ""


def _set_aside(damaged: list[Path]) -> None:
    """Move them out of the way, so that none is kept in place of a whole one."""
    for path in damaged:
        target = path.with_name(f"{path.name}.damaged")
        remove(target)
        path.rename(target)
        remove(path)  # its checksum


def _checksum(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")
