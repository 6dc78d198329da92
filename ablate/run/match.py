"""Does this folder hold my run? One comparison and one wording, whoever asks."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig

from ablate.config.identity import (
    MICRO_BATCH,
    SCHEMA,
    code_changes,
    depends_on_micro_batch,
    differences,
    former_identity,
    identity,
    resolved,
    schema_reasons,
)
from ablate.errors import UserError
from ablate.run.folder import RunFolder
from ablate.run.record import Record
from ablate.text import shown

MOST = 6  # settings that are named; the others are counted


def changes(
    folder: RunFolder, record: Record | None, cfg: DictConfig | dict[str, Any], data_sha256: str | None = None
) -> str:
    """How the run in `folder`, whose record is `record`, differs from that of `cfg`; empty where it is the same.

    The identity decides, where the record has one; else config.yaml, where there is one. `data_sha256` is of the
    corpus that `cfg` trains on; without it the corpus is taken to be the record's.
    """
    if record and record.identity:
        sha256 = data_sha256 or record.data_sha256 or ""
        if record.identity == identity(cfg, sha256) or _is_former(folder, record, cfg, sha256):
            return ""
        if record.identity_schema != SCHEMA:
            reasons = schema_reasons(record.identity_schema, SCHEMA)
            age = "an older" if record.identity_schema < SCHEMA else "a newer"
            return f"made with {age} config schema (identity.SCHEMA {record.identity_schema}, now {SCHEMA}{reasons})"
    try:
        before = folder.read_config()
    except UserError as error:
        return str(error)
    phrases = [] if before is None else setting_changes(before, cfg)
    if record:
        phrases += [*code_changes(dict(record.code or {}), cfg), *data_changes(record, data_sha256)]
    if not phrases and record and record.identity:
        phrases = ["its identity differs"]
    return "; ".join(phrases)


def _is_former(folder: RunFolder, record: Record, cfg: DictConfig | dict[str, Any], sha256: str) -> bool:
    """Whether the record is of this run, from when the micro-batch, as it is written, belonged to every identity."""
    try:
        before = folder.read_config() or (resolved(cfg) if isinstance(cfg, DictConfig) else cfg)
    except UserError:
        return False
    written = (before.get("trainer") or {}).get("micro_batch")
    is_free = written is not None and not depends_on_micro_batch(cfg)
    return is_free and record.identity == former_identity(cfg, sha256, written)


def setting_changes(before: dict[str, Any], after: DictConfig | dict[str, Any]) -> list[str]:
    """A phrase for each setting that can change a result and differs between two configs, the first few by name."""
    phrases = [
        f"{key} was {shown(old)}, is {shown(new)}{_remedy(key, old)}" for key, old, new in differences(before, after)
    ]
    return phrases[:MOST] + ([f"{len(phrases) - MOST} more settings"] if len(phrases) > MOST else [])


def _remedy(key: str, old: Any) -> str:
    """What to set where a person may have changed another key, from which this one follows."""
    if key != MICRO_BATCH or old is None:
        return ""
    return f" (the sequences that a device takes at once; set {key}={old}, or as many devices as before)"


def data_changes(record: Record, data_sha256: str | None) -> list[str]:
    """A phrase, where the run was trained on another corpus than that with the hash `data_sha256`."""
    before = record.data_sha256
    if not before or not data_sha256 or before == data_sha256:
        return []
    return [f"it was trained on different data (data.sha256 was {before[:12]}, is {data_sha256[:12]})"]


def refusal(where: object, changes: str, remedy: str, runs: int = 1) -> str:
    """The line that refuses a folder, or several, because of `changes`, and says what helps."""
    count = "a run" if runs == 1 else f"{runs} runs"
    return f"{where} already contains {count} with a different configuration: {changes}; {remedy}"
