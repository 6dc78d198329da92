"""The evaluations of a config: which one belongs to training, and a hash for each of the others.

    evaluation:
      heldout: {part_of_training: true, tokens: 65536, ...}    part of the identity of the run
      by_position: {bins: 16, ...}                             can be added to a finished run, or left out

The mark is a key of the config, not of the class, because the config of a run on disk has to say by itself what the run
is: without the class, which may come from a package that is not installed here, and without importing torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from typing import Any

from ablate.config import instantiation, options, points

Tree = dict[str, Any]
GROUP, PART_OF_TRAINING = "evaluation", "part_of_training"
SCHEMA = 2  # raised when an evaluation of this package would no longer give the same scores


def of_training(chosen: Any) -> Any:
    """The content of the group without the evaluations that are not part of training."""
    if not isinstance(chosen, dict):
        return chosen
    return {name: content for name, content in chosen.items() if not isinstance(content, dict) or _is_part(content)}


def after_training(chosen: Tree) -> Tree:
    """The evaluations that are not part of training, by name."""
    return {name: content for name, content in chosen.items() if not _is_part(content)}


def with_those_of_training(config: Tree) -> Tree:
    """A plain config without the evaluations that cannot change the run itself."""
    return {**config, GROUP: of_training(config[GROUP])} if GROUP in config else config


def measured_in_training(chosen: Tree) -> Tree:
    """The class and the settings by which the loss of a run is measured.

    Configs from before evaluations had names hold the settings alone: those of the evaluation that is the default.
    """
    parts = [content for content in chosen.values() if _is_part(content)]
    if parts:
        return settings(parts[0])
    (name,) = _parts_among(options.listed(options.defaults()[GROUP]))
    target = options.added_by(GROUP, name)[name]["_target_"]
    return {"_target_": target, **{key: value for key, value in chosen.items() if not isinstance(value, dict)}}


def settings(content: Tree) -> Tree:
    """The class of an evaluation and its arguments: without the keys that say when it is taken."""
    return {key: value for key, value in content.items() if key not in (PART_OF_TRAINING, points.AT)}


def hashes(config: Tree, data_sha256: str) -> dict[str, str]:
    """The evaluations of a resolved config that are not part of training, each with the hash of what it measures."""
    return {name: _hash(content, data_sha256) for name, content in after_training(config[GROUP]).items()}


def missing(config: Tree, record: Tree) -> list[str]:
    """The evaluations of a resolved config whose scores a finished run has not all, or has by another hash."""
    sources = [score.get("source") or {} for score in (record.get("scores") or {}).values()]
    there = {(source.get("evaluation"), source.get("hash")) for source in sources}
    wanted = hashes(config, (record.get("data") or {}).get("sha256") or "")
    failed = record.get("scores_failed") or {}
    return [name for name, digest in wanted.items() if (name, digest) not in there or failures_of(name, failed)]


def points_before_end(config: Tree) -> dict[str, list[int]]:
    """The steps before the last after which each evaluation of a resolved config that has some is taken, by name."""
    steps = config["trainer"]["steps"]
    found = {name: [*points.before_end(one, steps)] for name, one in after_training(config[GROUP]).items()}
    return {name: at for name, at in found.items() if at}


def points_taken(config: Tree, record: Tree) -> dict[str, set[int]]:
    """The steps of training at which a run has scores of the evaluations of a resolved config, by name."""
    digests = hashes(config, (record.get("data") or {}).get("sha256") or "")
    found: dict[str, set[int]] = {name: set() for name in digests}
    for score in (record.get("scores") or {}).values():
        source = score.get("source") or {}
        if (name := source.get("evaluation")) in digests and source.get("hash") == digests[name]:
            found[name].update((score.get("history") or {}).get("xs") or ())
    return found


def points_missing(
    config: Tree, record: Tree, has_weights: Callable[[int], bool] = lambda step: False
) -> dict[str, list[int]]:
    """The points before its end at which a finished run has no scores of the evaluations of a resolved config, by name.

    A point that the record names is none of them: it stays empty, unless the weights of its step are there.
    """
    taken, named = points_taken(config, record), record.get("scores_missed") or {}
    found = {
        name: [
            step
            for step in steps
            if step not in taken[name] and (has_weights(step) or not points.is_named(name, step, named))
        ]
        for name, steps in points_before_end(config).items()
    }
    return {name: steps for name, steps in found.items() if steps}


def failure(name: str, part: str) -> str:
    """The key under which a record names the part of an evaluation that failed."""
    return f"{name}.{part}"


def failures_of(name: str, failed: Iterable[str]) -> list[str]:
    """Those keys of the failures of a record that are of this evaluation: of all of it, or of a part."""
    return [key for key in failed if key == name or key.startswith(failure(name, ""))]


def _hash(content: Tree, data_sha256: str) -> str:
    """16 hex digits: the options of an evaluation, the text, the schema, the code of others; not when it is taken."""
    measured = {key: value for key, value in content.items() if key != points.AT}
    described = {"config": measured, "data": data_sha256, "schema": SCHEMA, "code": instantiation.code(content)}
    text = json.dumps(described, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def problems(chosen: Tree) -> list[str]:
    """A line where not exactly one of the chosen evaluations is part of training."""
    parts = [name for name, content in chosen.items() if _is_part(content)]
    if len(parts) == 1:
        return []
    written = f"{GROUP}={options.written(list(chosen))}"
    if parts:
        return [f"{written}: {' and '.join(parts)} are both part of training; choose one of them"]
    fitting = " or ".join(sorted(_parts_among(options.groups()[GROUP])))
    return [f"{written}: none of them gives the loss of the run; add {fitting}"]


def hint(key: str) -> str:
    """The tail of an error line for a key `at` that an option does not have; empty for other keys."""
    group, _, rest = key.partition(".")
    option, _, last = rest.partition(".")
    if group != GROUP or last != points.AT or option not in options.groups()[GROUP]:
        return ""
    return f"; {option} cannot be taken on the way, as its file has no key {points.AT}"


def is_without_effect(override: str) -> bool:
    """Whether an override, as it is written, leaves the run itself as it is, and concerns other evaluations alone."""
    key, _, value = override.partition("=")
    group, _, rest = key.strip().partition(".")
    if group != GROUP:
        return False
    if rest:
        return not _parts_among([rest.partition(".")[0]])
    names = [name.strip(" '\"") for name in value.strip().removeprefix("[").removesuffix("]").split(",")]
    return _parts_among(names) == _parts_among(options.listed(options.defaults()[GROUP]))


def is_of_training(option: str) -> bool:
    """Whether the option of this name is part of training."""
    return bool(_parts_among([option]))


def _parts_among(names: Iterable[str]) -> set[str]:
    """Those of these options whose file says that they are part of training."""
    files = options.groups()[GROUP]
    return {name for name in names if name in files and _is_part(options.load(files[name]).get(name))}


def _is_part(content: Any) -> bool:
    return isinstance(content, dict) and content.get(PART_OF_TRAINING) is True
