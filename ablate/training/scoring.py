"""The evaluations of a run: what they are given, how each is kept, and what becomes of one that fails.

    while it trains     the one that is part of training, at its steps      -> loss {early, final, ...} of the record
    after its end       each of the others, once                            -> downstream, scores, scores_failed
    later               those that a finished run lacks, on its weights     -> the same

What an evaluation found is kept in `evaluation/<name>-<hash>/scores.json` from the moment it is known, so that an
attempt that is stopped or killed loses no more than the evaluation under way.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from ablate.config import evaluations, resolved
from ablate.config.batch import share
from ablate.data.batches import Batches
from ablate.data.corpus import Corpus
from ablate.evaluation.build import build
from ablate.evaluation.contract import (
    Batch,
    CollectiveError,
    Context,
    FailedElsewhere,
    Partial,
    StopRequested,
    evaluating,
)
from ablate.model.build import Model
from ablate.run.files import atomic_write, read_json
from ablate.run.folder import RunFolder
from ablate.run.score import COLUMNS, SPREAD, Score

NAME = re.compile(r"[\w.-]+")  # of a score: it becomes a column
REQUEST = 2.0**-20  # what a process that is requested to stop adds to a sum; all of them together are less than 1


@dataclass
class Scored:
    """What the evaluations of a run came to: scores by name, and why an evaluation, or a part of one, has none."""

    scores: dict[str, Score] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    stopped: bool = False  # by a signal, before all of them were through

    def add(self, evaluation: str, scores: Mapping[str, Score]) -> None:
        """Take an evaluation's scores, or name it as failed where another has a score of the same name."""
        if taken := sorted(scores.keys() & self.scores.keys()):
            owner = self.scores[taken[0]].source["evaluation"]
            self.failed[evaluation] = f"its score {taken[0]} has the name of a score of {owner}"
        else:
            self.scores.update(scores)

    def described(self, evaluation: str) -> str:
        """What an evaluation came to, in a line."""
        if evaluation in self.failed:
            return f"failed: {self.failed[evaluation]}"
        failed = [f"{part} failed: {self.failed[part]}" for part in evaluations.failures_of(evaluation, self.failed)]
        mine = {name: score for name, score in self.scores.items() if score.source["evaluation"] == evaluation}
        return ", ".join([*(f"{name} {score.value:.4g} {score.unit}" for name, score in mine.items()), *failed])

    def fields(self) -> dict[str, Any]:
        """Keys of the record; those that hold nothing are left out."""
        fields = {
            "downstream": {name: score.value for name, score in self.scores.items()},
            "scores": {name: score.to_json() for name, score in self.scores.items()},
            "scores_failed": dict(self.failed),
        }
        return {key: content for key, content in fields.items() if content}


class Scoring:
    """The evaluations that a config chooses: the one of training, and those after it."""

    def __init__(self, cfg: DictConfig, corpus: Corpus, batches: Batches, folder: RunFolder, identity: str) -> None:
        self.cfg, self.corpus, self.batches, self.folder, self.identity = cfg, corpus, batches, folder, identity
        made = build(cfg)
        self.hashes = evaluations.hashes(resolved(cfg), corpus.sha256)
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
            folder=self.folder.path / "evaluation",
            stop=lambda: stop() and world_size == 1,  # processes have to leave together
            total=_sum_over_processes if world_size > 1 else lambda sums: sums,
            any_process=lambda flag: flag if world_size == 1 else _any_process(flag, device),
            stop_of_all=lambda: _stop_of_all(stop(), device),
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
        self, model: Model, context: Context, is_requested: Callable[[], bool], say: Callable[[str], None]
    ) -> Scored:
        """Run every evaluation after training that has not been run on this model; `is_requested`: to stop.

        One that fails is named with its reason, and the others go on. Weights and mode of the model are kept.
        """
        result = Scored()
        context = dataclasses.replace(context, say=say)
        try:
            for name in self.after:
                if context.any_process(is_requested()):
                    raise StopRequested
                self._score_one(name, model, context, result)
                say(f"evaluation {name}: {result.described(name)}")
        except StopRequested:
            result.stopped = True
        return result

    def _score_one(self, name: str, model: Model, context: Context, result: Scored) -> None:
        known = self._kept(name) if context.rank == 0 else None
        if context.any_process(known is not None):
            result.add(name, known or {})
            return
        found, reason = context.attempted(lambda: self._evaluated(name, model, context))
        if found is None:
            result.failed[name] = reason
            return
        result.failed.update({evaluations.failure(name, part): why for part, why in found.failed.items()})
        if context.rank == 0 and not found.failed:
            self._keep(name, found.scores)
        result.add(name, found.scores)

    def _evaluated(self, name: str, model: Model, context: Context) -> Partial:
        """What one evaluation finds; the model is left as it was."""
        before = {key: tensor.detach().cpu().clone() for key, tensor in model.state_dict().items()}
        torch.manual_seed(context.seed)  # whatever ran before it
        try:
            with evaluating(model):
                found = self.after[name].evaluate(model, dataclasses.replace(context, folder=self._folder(name)))
        finally:
            model.load_state_dict(before)
        if not isinstance(found, Partial):
            found = Partial(found, {})
        if found.failed and not found.scores:
            return found
        return Partial(_checked(found.scores, {"evaluation": name, "hash": self.hashes[name]}), found.failed)

    def _folder(self, name: str) -> Path:
        folder = self.folder.path / "evaluation" / f"{name}-{self.hashes[name]}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _keep(self, name: str, scores: Mapping[str, Score]) -> None:
        content = {"identity": self.identity, "scores": {key: score.to_json() for key, score in scores.items()}}
        atomic_write(self._folder(name) / "scores.json", json.dumps(content, indent=1, allow_nan=False) + "\n")

    def _kept(self, name: str) -> dict[str, Score] | None:
        """What an earlier attempt found of this very run; None where there is nothing."""
        content = read_json(self._folder(name) / "scores.json")
        if content.get("identity") != self.identity:
            return None
        try:
            return {key: Score.from_json(score) for key, score in content["scores"].items()}
        except (AttributeError, KeyError, TypeError, ValueError):  # damaged: it is taken again
            return None


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


def _any_process(flag: bool, device: torch.device) -> bool:
    return _all_reduced(torch.tensor(float(flag), device=device)).item() > 0


def _stop_of_all(is_requested: bool, device: torch.device) -> bool:
    """`Context.stop_of_all`: one that has failed meanwhile adds 1 by `Context.any_process`, a request to stop less."""
    met = _all_reduced(torch.tensor(REQUEST * is_requested, device=device)).item()
    if met >= 1:
        raise FailedElsewhere
    return met > 0


def _sum_over_processes(sums: Tensor) -> Tensor:
    """`Context.total` of several processes; raises `FailedElsewhere` where the evaluation has failed in another.

    One that has failed says so by `Context.any_process`, which the others meet here, before they wait for its sums.
    """
    if _any_process(False, sums.device):
        raise FailedElsewhere
    return _all_reduced(sums)


def _all_reduced(tensor: Tensor) -> Tensor:
    try:
        torch.distributed.all_reduce(tensor)
    except Exception as error:
        raise CollectiveError(str(error)) from error
    return tensor
