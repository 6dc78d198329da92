"""The evaluations of a run: what they are given, how each is kept, and what becomes of one that fails.

    while it trains     the one that is part of training, at its steps      -> loss {early, final, ...} of the record
                        others, at the points that their key `at` names     -> the histories of their scores
    after its end       each of the others, once                            -> downstream, scores, scores_failed
    later               those that a finished run lacks, on its weights     -> the same

What an evaluation found is kept (`kept_scores.py`) from the moment it is known, so that an attempt that is stopped or
killed loses no more than the evaluation under way.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from omegaconf import DictConfig

from ablate.config import evaluations, points, resolved
from ablate.config.batch import share
from ablate.data.batches import Batches
from ablate.data.corpus import Corpus
from ablate.evaluation.build import build
from ablate.evaluation.contract import (
    Batch,
    Context,
    Partial,
    StopRequested,
    evaluating,
)
from ablate.model.build import Model
from ablate.run.folder import RunFolder
from ablate.run.score import COLUMNS, SPREAD, STEP, Curve, Score
from ablate.training.collectives import any_process, check_stop, leaving_together, sum_over_processes
from ablate.training.kept_scores import KeptScores
from ablate.training.unchanged import unchanged

NAME = re.compile(r"[\w.-]+")  # of a score: it becomes a column
WHOLE = ""  # the part of an evaluation that has failed where all of it has
PAST = "the run was past it, and kept no weights of that step"


@dataclass
class Scored:
    """What the evaluations of a run came to: scores by name, and why an evaluation, or a part of one, has none.

    missed: why there is no score at a point of training, by `points.name`.
    """

    scores: dict[str, Score] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    missed: dict[str, str] = field(default_factory=dict)
    stopped: bool = False  # by a signal, before all of them were through

    def add(self, evaluation: str, found: Partial) -> None:
        """Take what an evaluation found, or name it as failed where another has a score of the same name."""
        if taken := sorted(found.scores.keys() & self.scores.keys()):
            owner = self.scores[taken[0]].source["evaluation"]
            self.failed[evaluation] = f"its score {taken[0]} has the name of a score of {owner}"
            return
        self.scores.update(found.scores)
        for part, why in found.failed.items():
            self.failed[evaluation if part == WHOLE else evaluations.failure(evaluation, part)] = why

    def of(self, evaluation: str) -> dict[str, Score]:
        """The scores of one evaluation."""
        return {name: score for name, score in self.scores.items() if score.source["evaluation"] == evaluation}

    def described(self, evaluation: str) -> str:
        """What an evaluation came to, in a line."""
        if evaluation in self.failed:
            return f"failed: {self.failed[evaluation]}"
        failed = [f"{part} failed: {self.failed[part]}" for part in evaluations.failures_of(evaluation, self.failed)]
        missed = [
            f"no score {point.removeprefix(evaluation).strip()} ({why})"
            for point, why in self.missed.items()
            if points.is_of(point, [evaluation])
        ]
        mine = self.of(evaluation).items()
        return ", ".join([*(f"{name} {score.value:.4g} {score.unit}" for name, score in mine), *failed, *missed])

    def fields(self) -> dict[str, Any]:
        """Keys of the record; those that hold nothing are left out."""
        fields = {
            "downstream": {name: score.value for name, score in self.scores.items()},
            "scores": {name: score.to_json() for name, score in self.scores.items()},
            "scores_failed": dict(self.failed),
            "scores_missed": dict(self.missed),
        }
        return {key: content for key, content in fields.items() if content}


class Scoring:
    """The evaluations that a config chooses: the one of training, and those after it."""

    def __init__(self, cfg: DictConfig, corpus: Corpus, batches: Batches, folder: RunFolder, identity: str) -> None:
        self.cfg, self.corpus, self.batches = cfg, corpus, batches
        made = build(cfg)
        self.hashes = evaluations.hashes(resolved(cfg), corpus.sha256)
        self.points = evaluations.points_before_end(resolved(cfg))  # steps by the name of an evaluation
        self.kept = KeptScores(folder.path / "evaluation", identity, self.hashes)
        self.after = {name: made[name] for name in self.hashes}
        (self.of_training,) = (evaluation for name, evaluation in made.items() if name not in self.hashes)

    def context(
        self, device: torch.device, rank: int, world_size: int, stop: Callable[[], bool] = lambda: False
    ) -> Context:
        """What every evaluation of this process is given; the folder is still that of all of them."""
        return Context(
            config=self.cfg,
            corpus=self.corpus,
            heldout=lambda *drawn: self._heldout(*drawn)[rank::world_size],
            device=device,
            rank=rank,
            world_size=world_size,
            precision=self.cfg.trainer.precision,
            autocast=autocast(self.cfg.trainer.precision, device.type),
            seed=self.cfg.seed.base,
            folder=self.kept.path,
            stop=lambda: stop() and world_size == 1,  # processes have to leave together
            total=sum_over_processes if world_size > 1 else lambda sums: sums,
            any_process=lambda flag: flag if world_size == 1 else any_process(flag, device),
        )

    @functools.lru_cache(maxsize=1)  # noqa: B019
    def _heldout(self, tokens: int, seed: int, *length: int) -> list[Batch]:
        """The held-out batches, cut as the training batches are: no other shape to compile, no more memory."""
        slices, count = [], share(self.cfg).count
        for batch in self.batches.evaluation(tokens, seed, *length):
            size = -(-len(batch["targets"]) // count)
            parts = {name: tensor.split(size) for name, tensor in batch.items()}
            slices += [dict(zip(parts, tensors, strict=True)) for tensors in zip(*parts.values(), strict=True)]
        return slices

    def score(
        self,
        model: Model,
        context: Context,
        is_requested: Callable[[], bool],
        say: Callable[[str], None],
        known: Mapping[str, Partial] = MappingProxyType({}),
    ) -> Scored:
        """Run every evaluation after training that has not been run on this model; `is_requested`: to stop.

        One that fails is named with its reason, and the others go on. The model is left as it was. `known` says what
        some evaluations have found.
        """
        result = Scored()
        context = leaving_together(dataclasses.replace(context, say=say), is_requested)
        try:
            for name in self.after:
                check_stop(context, is_requested)
                result.add(name, known[name] if name in known else self._found(name, model, context))
                self._add_history(name, result)
                say(f"evaluation {name}: {result.described(name)}")
        except StopRequested:
            result.stopped = True
        return result

    def score_at(
        self,
        step: int,
        model: Model,
        context: Context,
        is_requested: Callable[[], bool],
        say: Callable[[str], None],
    ) -> bool:
        """Run every evaluation that is to be taken after `step`, before the last, and has not been.

        The model, and the random numbers that follow, are left as they were. False where it was requested to stop
        before all were through.
        """
        context = leaving_together(dataclasses.replace(context, say=say), is_requested)
        try:
            for name, steps in self.points.items():
                if step in steps:
                    check_stop(context, is_requested)
                    taken = Scored()
                    taken.add(name, self._found(name, model, context, step))
                    say(f"evaluation {points.name(name, step)}: {taken.described(name)}")
        except StopRequested:
            return False
        return True

    def steps_of_points(self) -> list[int]:
        """The steps before the last after which an evaluation is taken."""
        return sorted({step for steps in self.points.values() for step in steps})

    def lacks(self, step: int) -> bool:
        """Whether an evaluation that is to be taken after `step` has not been, or not all of it."""
        found = [self.kept.read(name, step) for name, steps in self.points.items() if step in steps]
        return any(one is None or one.failed for one in found)

    def _found(self, name: str, model: Model, context: Context, step: int | None = None) -> Partial:
        """What an evaluation has found, or finds now, after `step` or after the last one."""
        kept = self.kept.read(name, step) if context.rank == 0 else None
        if context.any_process(kept is not None and not kept.failed):
            return kept or Partial({}, {})
        found, reason = context.attempted(lambda: self._evaluated(name, model, context, step))
        found = found or Partial({}, {WHOLE: reason})
        if context.rank == 0 and not (found.failed and step is None):  # what fails in the end is tried again later
            self.kept.write(name, found, step)
        return found

    def _evaluated(self, name: str, model: Model, context: Context, step: int | None) -> Partial:
        """What one evaluation finds."""
        with unchanged(model), evaluating(model):
            torch.manual_seed(context.seed)  # whatever ran before it
            context = dataclasses.replace(context, folder=self.kept.folder(name, step))
            found = self.after[name].evaluate(model, context)
        if not isinstance(found, Partial):
            found = Partial(found, {})
        if found.failed and not found.scores:
            return found
        return Partial(_checked(found.scores, {"evaluation": name, "hash": self.hashes[name]}), found.failed)

    def _add_history(self, name: str, result: Scored) -> None:
        """Give the scores of an evaluation their values at the points before the end; name those that have none."""
        found = {step: self.kept.read(name, step) for step in self.points.get(name, ())}
        there: set[float] = set()  # steps of histories that are known already
        for key, score in result.of(name).items():
            history = dict(zip(score.history.xs, score.history.ys, strict=True)) if score.history else {}
            there |= history.keys()
            history |= {step: one.scores[key].value for step, one in found.items() if one and key in one.scores}
            if history:
                history[int(self.cfg.trainer.steps)] = score.value
                steps = sorted(history)
                curve = Curve(STEP, tuple(steps), tuple(history[step] for step in steps))
                result.scores[key] = dataclasses.replace(score, history=curve)
        for step, one in found.items():
            if one is None and step not in there:
                result.missed[points.name(name, step)] = PAST
            for part, why in one.failed.items() if one else ():
                result.missed[points.name(name, step, part)] = why


def autocast(precision: str, device_type: str) -> Callable[[], AbstractContextManager]:
    """The context in which a model calculates."""
    if precision == "fp32":
        return nullcontext
    return functools.partial(torch.autocast, device_type, dtype=torch.bfloat16)


def _checked(scores: Any, source: Mapping[str, str]) -> dict[str, Score]:
    """The scores with their source; raises ValueError or TypeError for what cannot be recorded."""
    if not isinstance(scores, dict) or not scores or not all(isinstance(score, Score) for score in scores.values()):
        raise TypeError("it must return a dictionary with at least one score")
    for name, score in scores.items():
        if not NAME.fullmatch(str(name)):
            raise ValueError(f"{name!r} cannot name a score: letters, digits and . _ - only")
        if name in COLUMNS:
            raise ValueError(f"{name!r} cannot name a score: reports have a column of that name")
        if name.endswith(SPREAD):
            raise ValueError(f"{name!r} cannot name a score: reports give the spread of a score under such a name")
        if not score.is_finite:
            raise ValueError(f"{name} was {score.value}")
        json.dumps(score.to_json(), allow_nan=False)
    return {name: dataclasses.replace(score, source={**score.source, **source}) for name, score in scores.items()}
