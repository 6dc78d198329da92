"""Checkpoints that are whole or not there.

    checkpoints/step-00000120.ckpt           the state after 120 steps
    checkpoints/step-00000120.ckpt.sha256    written before the checkpoint takes its place
    checkpoints/step-00000060.ckpt ...       the one before stays until the next

A file is written beside its final place, synced, and renamed. Before it is read its checksum is compared; where that
fails the one before is taken, and said so. Nothing in a checkpoint is ever executed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ablate.run.files import atomic_file, atomic_write, sha256
from ablate.training.lightning import CheckpointIO

KEPT = 2
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
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return content
    except Exception as error:  # a foreign file whose checksum is right: whatever unpickling refuses
        raise CheckpointError(f"{path} is not a checkpoint: {str(error).splitlines()[0]}") from None


def damage(path: Path) -> str:
    """What is wrong with a file that `save` wrote; empty where it is whole."""
    try:
        expected = _checksum(path).read_text().strip()
    except OSError:
        return "has no checksum"
    try:
        found = sha256(path)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return "" if found == expected else "is damaged: its checksum is not the one written with it"


def remove(path: Path) -> None:
    """Delete a file and its checksum."""
    path.unlink(missing_ok=True)
    _checksum(path).unlink(missing_ok=True)


class CheckpointFolder:
    """The checkpoints of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def at(self, step: int) -> Path:
        """Where the checkpoint after `step` steps goes."""
        return self.path / f"step-{step:08d}.ckpt"

    def all(self) -> list[Path]:
        """Every checkpoint, the newest first, whole or not."""
        found = [(int(match[1]), path) for path in self.path.glob("*") if (match := _NAME.fullmatch(path.name))]
        return [path for _, path in sorted(found, reverse=True)]

    def newest(self, warn: Callable[[str], None], set_aside: bool = True) -> Path | None:
        """The newest whole checkpoint, or None where there is none at all.

        A damaged one is named by `warn` and, by the process that writes, set aside; raises `CheckpointError` where all
        are damaged.
        """
        damaged: list[Path] = []
        for path in self.all():
            problem = damage(path)
            if not problem:
                for other in (
                    damaged if set_aside else ()
                ):  # out of the way, so that it is not kept in place of a whole one
                    other.rename(other.with_name(f"{other.name}.damaged"))
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
                checksum.unlink()

    def clear(self) -> None:
        """Delete all of them."""
        for path in self.all():
            remove(path)


def _checksum(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")
