"""`ablate evaluate RUN ...`: scores of finished runs, on the weights that they kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate import termination
from ablate.cli import arguments
from ablate.errors import UserError, nearest, print_error
from ablate.naming import is_study_name
from ablate.run.folder import RunFolder, run_folders, run_path, seed_of
from ablate.run.record import DONE, Record
from ablate.terminal import say

if TYPE_CHECKING:
    from ablate.study.paths import Paths

HELP = """Score finished runs on the weights that they kept. Nothing is trained again.

usage: ablate evaluate RUN [RUN ...] evaluation=NAME [evaluation.NAME.KEY=VALUE ...] [paths.runs=FOLDER ...]

  ablate evaluate runs/axes/rms-norm/seed-0 evaluation=by_position
  ablate evaluate axes evaluation=by_position                        every finished run of a sweep
  ablate evaluate axes evaluation=[by_position,zero_shot] evaluation.zero_shot.limit=200

RUN is the folder of a run, one with runs below it, or the name of a sweep. The scores are added to the record of each
run, and `ablate report` shows them. What a run has by the same settings is not measured again; what was interrupted
goes on where it was. `ablate options evaluation` lists what there is, `ablate options evaluation=zero_shot` its keys.
One run is measured after the other; a sweep measures several at once:  ablate sweep axes evaluation=[heldout,zero_shot]

With evaluation.NAME.at=[0.125,1] a run takes the scores after an eighth of its training, too. A finished run has such
a score if it was trained with that, or kept a checkpoint of just that step; else the point stays empty and is named.

Exit codes: 0 all measured, 1 an evaluation failed, 2 a mistake in the command, 75 another process works on a run,
130 Ctrl-C, 143 SIGTERM or SIGHUP
"""
INCOMPLETE = 1  # the exit code where a run is left without a score


def run(words: list[str]) -> int:
    """Take the scores of every run that is named; returns the exit code of the first kind of failure."""
    given = arguments.sort(words)
    if not given.names:
        raise UserError("ablate evaluate takes at least one run or sweep, as in  ablate evaluate axes evaluation=NAME")
    from ablate.config import added_evaluations
    from ablate.study.paths import Paths

    of_paths = [word for word in given.overrides if word.startswith("paths.")]
    paths = Paths.only(of_paths)
    wanted = added_evaluations.chosen([word for word in given.overrides if word not in of_paths])
    folders = [folder for name in given.names for folder in _named(name, paths)]
    finished = _finished(list(dict.fromkeys(folders)))
    code, printed = 0, set[str]()

    def tell(mistake: object) -> None:
        """Print a mistake, once for all runs that have it."""
        if str(mistake) not in printed:
            print_error(mistake)
        printed.add(str(mistake))

    for number, folder in enumerate(finished, 1):
        place = f"[{number}/{len(finished)}] " if len(finished) > 1 else ""
        ended = _evaluate(folder, wanted, paths, place, tell)
        code = code or ended
        if ended in termination.EXIT_CODES:
            return ended
    return code


def _named(name: str, paths: Paths) -> list[Path]:
    """The folders of the runs that a word of the command means."""
    path = Path(name)
    if path.is_dir() and seed_of(path) is not None:
        return [path]
    found = [*run_folders(paths.runs, name), *run_folders(paths.runs, f"{name}/*")] if is_study_name(name) else []
    found = found or ([folder for folder in _below(path) if seed_of(folder) is not None] if path.is_dir() else [])
    if not found:
        sweeps = [folder.name for folder in paths.runs.glob("*")] if paths.runs.is_dir() else []
        raise UserError(f"{name}: no run, no folder with runs, and no sweep in {paths.runs}{nearest(name, sweeps)}")
    return found


def _below(path: Path) -> Iterator[Path]:
    """The folders of runs in the folder of a row, of a sweep or of all sweeps."""
    for pattern in ("seed-*", "*/seed-*", "*/*/seed-*"):
        yield from sorted(folder for folder in path.glob(pattern) if folder.is_dir())


def _finished(folders: Sequence[Path]) -> list[Path]:
    """Those that are done; says which others there are, and raises `UserError` where none is done."""
    states = {folder: _state(folder) for folder in folders}
    done = [folder for folder, state in states.items() if state == DONE]
    others = [f"{folder} ({state})" for folder, state in states.items() if state != DONE]
    if others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        line = f"not done, and without weights to score: {', '.join(others[:3])}{more}"
        if not done:
            raise UserError(line)
        print_error(line)
    return done


def _state(folder: Path) -> str:
    found = RunFolder(folder).examine()
    return found.problem or (found.record.status if found.record else "no record")


def _evaluate(folder: Path, wanted: dict[str, Any], paths: Paths, place: str, tell: Callable[[object], None]) -> int:
    """Take the scores that one run lacks; returns an exit code. `tell` prints what kept it from beginning."""
    from ablate.training import run as train

    ended: list[Record] = []

    def scored() -> Record:
        cfg = _config(RunFolder(folder), wanted, paths)
        before = RunFolder(folder).read()
        assert before is not None
        ended.append(train.run(cfg, list(before.overrides), before.command))
        return ended[-1]

    code = train.exit_code(scored, tell)
    for record in ended:
        say(f"{place}{record.sweep}: {record.row}, seed {record.seed}: {_described(record, wanted)}")
        code = code or (INCOMPLETE if _failures(record, wanted) else 0)
    return code


def _config(folder: RunFolder, wanted: dict[str, Any], paths: Paths) -> Any:
    """The config of a run with the evaluations that are asked for, and the folders as they are now."""
    from ablate.config import added_evaluations, restored

    content = folder.read_config()
    if content is None:
        raise UserError(f"{folder.path}: config.yaml is missing, so that its model cannot be built")
    where = folder.path.absolute()
    runs = where.parents[3 if "/" in str(content["sweep"]) else 2]  # a context has a folder of its own
    here = {**{name: str(path) for name, path in asdict(paths).items()}, "runs": str(runs)}
    content = added_evaluations.added({**content, "paths": {**content["paths"], **here}}, wanted)
    place = run_path(runs, content["sweep"], content["row"], content["seed"]["base"])
    if place != where:
        raise UserError(f"{folder.path} has the config of another run, of {place}; move it there")
    return restored(content)


def _described(record: Record, wanted: Mapping[str, Any]) -> str:
    """What a run has of the evaluations that were asked for."""
    scores = [
        f"{name} {score.value:.4g} {score.unit}"
        for name, score in record.scores.items()
        if score.source.get("evaluation") in wanted
    ]
    failed = [f"{part} failed: {reason}" for part, reason in _failures(record, wanted).items()]
    missed = [f"no score of {name} ({reason})" for name, reason in _points_missed(record, wanted).items()]
    return ", ".join([*scores, *failed, *missed]) or "nothing measured"


def _points_missed(record: Record, wanted: Mapping[str, Any]) -> dict[str, str]:
    """The points of training that were asked for and stay without a score, each with the reason."""
    from ablate.config import points

    steps = record.loss.final_step if record.loss else None
    asked = [(name, step) for name, content in wanted.items() for step in points.before_end(content, steps or 0)]
    return {
        key: reason
        for key, reason in record.scores_missed.items()
        if any(points.is_named(name, step, [key]) for name, step in asked)
    }


def _failures(record: Record, wanted: Iterable[str]) -> dict[str, str]:
    """The evaluations that were asked for and failed, or the parts of them that did, each with the reason."""
    from ablate.config import evaluations

    parts = [part for name in wanted for part in evaluations.failures_of(name, record.scores_failed)]
    return {part: record.scores_failed[part] for part in parts}
