"""The run that a config describes, where it is there already: answered without torch, which takes seconds to import."""

from __future__ import annotations

from omegaconf import DictConfig

from ablate.config import evaluations, resolved
from ablate.config.batch import share
from ablate.errors import UserError
from ablate.run import match
from ablate.run.folder import RunFolder
from ablate.run.record import DONE, FINISHED, Record


def find(cfg: DictConfig, folder: RunFolder) -> Record | None:
    """The record of a run that is finished, with every score that `cfg` asks for; None where anything is left to do.

    Also None where anything is to be said that needs the text, or is wrong with the folder. Raises `Busy` where another
    process works on the run, and `UserError` where its weights are gone and it lacks scores.
    """
    if not _is_finished(folder):
        return None
    share(cfg)
    sha256 = _prepared_sha256(cfg)
    if sha256 is None:
        return None
    with folder.lock():
        record = folder.examine().record if _is_finished(folder) else None
        if record is None or match.changes(folder, record, cfg, sha256) or missing(cfg, folder, record):
            return None
        return None if points_missing(cfg, folder, record) else record


def missing(cfg: DictConfig, folder: RunFolder, record: Record) -> list[str]:
    """The evaluations that a finished run lacks; raises `UserError` where its weights, which they need, are gone."""
    found = evaluations.missing(resolved(cfg), record.to_json()) if record.status == DONE else []
    if found and not folder.weights.exists():
        raise UserError(
            f"{folder.path} is done without {', '.join(found)} (or with other settings of it), "
            f"and its weights are gone (keep_checkpoints=none, or deleted); "
            f"choose {evaluations.GROUP} without it, or move that folder away to train again"
        )
    return found


def points_missing(cfg: DictConfig, folder: RunFolder, record: Record) -> dict[str, list[int]]:
    """The points of training, by evaluation, whose scores a finished run lacks, or whose lack it does not name."""
    if record.status != DONE:
        return {}
    has_weights = lambda step: folder.checkpoint(step).exists()  # noqa: E731
    return evaluations.points_missing(resolved(cfg), record.to_json(), has_weights)


def _is_finished(folder: RunFolder) -> bool:
    record = folder.examine().record
    return record is not None and record.status in FINISHED


def _prepared_sha256(cfg: DictConfig) -> str | None:
    """The hash of the corpus of `cfg`; None where it is not prepared."""
    from ablate.data.corpus_request import corpus_request
    from ablate.data.manifest import MANIFEST, read_manifest

    folder = corpus_request(cfg).folder
    return str(read_manifest(folder)["sha256"]) if (folder / MANIFEST).exists() else None
