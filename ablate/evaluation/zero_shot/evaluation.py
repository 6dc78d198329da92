"""Zero-shot tasks: `evaluation=zero_shot`.

All tasks are loaded before the first one is scored, so that a mistake in a file is known at once. The outcomes of each
task are written to a file as soon as they are known; an evaluation that was interrupted goes on with the next task.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from omegaconf import DictConfig
from torch import Tensor

from ablate.config import identity
from ablate.data import objective
from ablate.data.prompt import Prompt
from ablate.duration import duration
from ablate.errors import UserError
from ablate.evaluation.averages import mean_of
from ablate.evaluation.contract import Context, Evaluation, Partial, check_writes
from ablate.evaluation.likelihood import Scorer, Share
from ablate.evaluation.weights_hash import hash_of_weights
from ablate.evaluation.zero_shot import loading, local_tasks
from ablate.evaluation.zero_shot.loading import Loaded, Tasks
from ablate.model.build import Model
from ablate.ranges import COUNT, Ranges, check, one_of, whole
from ablate.run import outcomes
from ablate.run.outcomes import Outcomes
from ablate.run.score import Score

if TYPE_CHECKING:
    from ablate.evaluation.zero_shot.language_model import LanguageModel
    from ablate.evaluation.zero_shot.scoring import Asked

AVERAGE = "zero_shot"
OWN, PLAIN = "own", "plain"
PAUSE = 10.0  # seconds between two lines of progress
NO_WHOLE_TEXT = "an encoder-decoder has no perplexity of a whole text"


class ZeroShot(Evaluation):
    """The scores of lm-eval's tasks, their average accuracy as `zero_shot`, and each item's outcome in a file.

    The options are described in conf/evaluation/zero_shot.yaml.
    """

    ranges: ClassVar[Ranges] = {
        "limit": COUNT,
        "num_fewshot": whole(0, 1000),
        "form": one_of("own", "plain"),
        "length": COUNT,
        "batch_tokens": COUNT,
    }

    def __init__(
        self,
        *,
        tasks: Sequence[str] | str,
        data: str | None,
        limit: int | None,
        num_fewshot: int | None,
        include_path: str | None,
        form: str,
        length: int,
        batch_tokens: int,
    ):
        settings = {"limit": limit, "num_fewshot": num_fewshot, "form": form, "length": length}
        check(type(self), "evaluation.zero_shot", **settings, batch_tokens=batch_tokens)
        self.names = [*dict.fromkeys([tasks] if isinstance(tasks, str) else tasks)]
        if not self.names or not all(isinstance(name, str) for name in self.names):
            raise UserError(f"evaluation.zero_shot.tasks={tasks}: must be a list of names of tasks")
        self.limit, self.form, self.length, self.batch_tokens = limit, form, length, batch_tokens
        self.settings = settings
        self.tasks = Tasks(_path(data), _path(include_path), num_fewshot)
        self.tasks.check(self.names)
        loading.check_installed()

    def check(self, config: DictConfig) -> None:
        """Raise `UserError` for a model that does not write, and for tasks that cannot be asked, as far as that is
        known without asking the Hub: their files are read."""
        check_writes(config, AVERAGE)
        self.tasks.read(self.names)

    def evaluate(self, model: Model, context: Context) -> dict[str, Score] | Partial:
        """The scores; a task that fails is named, and the scores of the others are kept."""
        if self.tasks.data is not None:
            loading.go_offline()
        return _Session(self, model, context).run()


@dataclass(frozen=True)
class Planned:
    """A task that is loaded: what is asked, the hash of its outcomes, what its scores' source says."""

    loaded: Loaded
    items: list[Asked]
    key: str
    source: dict[str, Any]

    @property
    def size(self) -> int:
        """About how much there is to read, in characters."""
        return sum(len(str(text)) for item in self.items for request in item.requests for text in request.args[:2])


class _Session:
    """One evaluation of one model."""

    def __init__(self, options: ZeroShot, model: Model, context: Context):
        self.options, self.model, self.context = options, model, context
        self.failed: dict[str, str] = {}
        self.left_out: dict[str, str] = {}
        self.progress = _Progress(context)
        self.model_key = (identity(context.config, context.corpus.sha256), hash_of_weights(model))
        self.language_model = self._language_model()

    def run(self) -> dict[str, Score] | Partial:
        """Load every task, then ask one after the other."""
        planned = [one for name in self.options.names for one in self._part(name, partial(self._planned, name)) or ()]
        self.progress.sizes = {one.loaded.name: one.size for one in planned}
        scores: dict[str, Score] = {}
        for one in planned:
            self.context.check_stop()
            found = self._part(one.loaded.name, partial(self._scored, one))
            scores.update(found or {})
        if not scores and not self.failed:
            raise UserError("; ".join(f"{name}: {why}" for name, why in self.left_out.items()))
        scores.update(self._average(scores))
        return Partial(scores, self.failed) if self.failed else scores

    def _part(self, name: str, do: Callable[[], Any]) -> Any:
        """What `do` returns; None where it fails, which is kept under the name of the task."""
        found, reason = self.context.attempted(do)
        if reason:
            self.failed[name] = reason
        return found

    def _language_model(self) -> LanguageModel:
        from ablate.evaluation.zero_shot.language_model import LanguageModel, plain

        context, options = self.context, self.options
        layout = context.corpus.layout
        prompt: Callable[[Sequence[int]], Prompt] = objective.build(context.config, context.corpus).prompt
        if options.form == PLAIN and prompt(()).encoder is not None:
            prompt = plain(layout.pad_id, layout.eos_id)
        scorer = Scorer(
            self.model,
            length=options.length,
            batch_tokens=options.batch_tokens,
            padding=layout.pad_id,
            autocast=context.autocast,
            share=Share(context.rank, context.world_size, context.total),
            between=self.progress,
        )
        return LanguageModel(scorer, context.tokenizer, prompt, layout.eos_id)

    def _planned(self, name: str) -> list[Planned]:
        """The tasks of a name; none where the model is not of a kind that can be asked."""
        from ablate.evaluation.zero_shot import scoring

        planned = []
        for loaded in self.options.tasks.load(name, self.options.limit):
            self.context.check_stop()
            if loaded.task.OUTPUT_TYPE == "loglikelihood_rolling" and self.language_model.has_encoder:
                self.left_out[loaded.name] = NO_WHOLE_TEXT
                self.context.say(f"{AVERAGE}: {loaded.name} is left out: {NO_WHOLE_TEXT}")
                continue
            items = scoring.asked(loaded)
            source = _source(self.options, loaded, items)
            parts = [self.model_key, source, self.options.settings, self.context.precision]
            planned.append(Planned(loaded, items, outcomes.key_of(parts), source))
        return planned

    def _scored(self, planned: Planned) -> dict[str, Score]:
        """The scores of a task, asked or kept; what cannot be a score is kept as failed."""
        name, folder = planned.loaded.name, self.context.folder
        kept = outcomes.kept(folder, name, planned.key) if self.context.rank == 0 else None
        if self.context.any_process(kept is not None):
            text = _from_first(self.context, "" if kept is None else _as_text(kept.scores, kept.failed))
            scores, failed = _from_text(text)
        else:
            scores, failed = self._asked(planned)
        self.progress.done(name)
        self.failed |= failed
        return scores

    def _asked(self, planned: Planned) -> tuple[dict[str, Score], dict[str, str]]:
        from ablate.evaluation.zero_shot import scoring

        name, model = planned.loaded.name, self.language_model
        model.begin()
        self.progress.begin(name)
        result = scoring.score(planned.loaded, planned.items, model)
        source = {**planned.source, **_comparability(planned, self.options, model)}
        source["outcomes_sha256"] = outcomes.sha256(result.items)
        scores = {key: replace(score, source={**score.source, **source}) for key, score in result.scores.items()}
        if self.context.rank == 0:
            found = Outcomes(name, planned.key, result.items, scores, result.failed)
            outcomes.write(self.context.folder, found)
        return scores, dict(result.failed)

    def _average(self, scores: Mapping[str, Score]) -> dict[str, Score]:
        """The mean accuracy of all tasks that have one, if none of the tasks has failed: else it would be of others."""
        parts = {name: score for name, score in scores.items() if score.source.get("task") == name}
        if self.failed or len(parts) < 2:
            return {}
        comparable = all(score.source["comparable"] for score in parts.values())
        source: dict[str, Any] = {"tasks": [*parts], "comparable": comparable}
        if not comparable:
            source["not_comparable_because"] = "tasks that it is the mean of are not"
        if self.left_out:
            source["left_out"] = self.left_out
        return {AVERAGE: mean_of(parts, source)}


class _Progress:
    """A line every ten seconds: which task, how far it is, about how long the others will take."""

    def __init__(self, context: Context):
        self.context = context
        self.sizes: dict[str, int] = {}
        self.finished: list[str] = []
        self.task = ""
        self.read, self.spent = 0, 0.0  # characters that were asked, and the seconds that it took
        self.began = self.said = time.monotonic()

    def begin(self, task: str) -> None:
        """Another task is asked."""
        self.task, self.began = task, time.monotonic()

    def __call__(self, done: int, of: int) -> None:
        """So many of a task's questions are answered."""
        self.context.check_stop()
        now = time.monotonic()
        if now < self.said + PAUSE or not self.task:
            return
        self.said = now
        part = done / of * self.sizes[self.task]
        left = sum(size for task, size in self.sizes.items() if task not in self.finished) - part
        rate = (self.read + part) / max(self.spent + now - self.began, 1e-9)
        eta = f", about {duration(left / rate)} left" if rate else ""
        number = f"{len(self.finished) + 1} of {len(self.sizes)}"
        self.context.say(f"{AVERAGE}: {self.task} ({number}): {done:,} of {of:,} answers{eta}")

    def done(self, task: str) -> None:
        """A task is scored; one that was scored by an earlier attempt says nothing of the speed."""
        self.finished.append(task)
        if self.task == task:
            self.read += self.sizes[task]
            self.spent += time.monotonic() - self.began
        self.task = ""


def _source(options: ZeroShot, loaded: Loaded, items: Sequence[Asked]) -> dict[str, Any]:
    """What a task is asked with, known before it is."""
    config, documents = loaded.task.config, loaded.documents
    split = config.test_split or config.validation_split
    source: dict[str, Any] = {
        "task": loaded.name,
        "scorer": loading.version(),
        "task_version": str(loaded.task.VERSION),
        "num_fewshot": config.num_fewshot or 0,
        "form": options.form,
        "split": split,
        "part": f"first {len(items)} of {loaded.of}" if len(items) < loaded.of else f"all {loaded.of}",
        "prompts_sha256": _hash_of_prompts(items),
        "outcomes": outcomes.file_name(loaded.name),
    }
    if documents:
        source |= {"file": documents.path.name, "sha256": documents.sha256}
    else:
        source |= {"data": str(config.dataset_path), "data_name": config.dataset_name}
    if loaded.examples:
        source |= {"examples_file": loaded.examples.path.name, "examples_sha256": loaded.examples.sha256}
    return source


def _comparability(planned: Planned, options: ZeroShot, model: LanguageModel) -> dict[str, Any]:
    """Whether the figure may stand beside published ones, and why not."""
    loaded, reasons = planned.loaded, []
    local = local_tasks.TASKS.get(loaded.name) if loaded.documents else None
    if local and local.published_split != planned.source["split"]:
        reasons.append(f"published figures are of the {local.published_split} split")
    elif local and loaded.of != local.items:
        reasons.append(f"the file has {loaded.of} of {local.items} items")
    if local and local.note:
        reasons.append(local.note)
    if len(planned.items) < loaded.of:
        reasons.append(f"limit={options.limit}")
    if local and planned.source["num_fewshot"] and not loaded.examples:
        reasons.append("the examples in its prompts are from the test set itself")
    if model.inputs.cut:
        reasons.append(f"{model.inputs.cut} of {model.inputs.asked} inputs were longer than {model.length} tokens")
    if model.has_encoder and options.form == OWN:
        reasons.append("the prompt has the form that the model was trained on")
    found: dict[str, Any] = {"length": model.length, "comparable": not reasons}
    return {**found, "not_comparable_because": "; ".join(reasons)} if reasons else found


def _path(name: str | None) -> Path | None:
    return None if name is None else Path(name)


def _hash_of_prompts(items: Sequence[Asked]) -> str:
    asked = [[request.args for request in item.requests] for item in items]
    return hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()


def _as_text(scores: Mapping[str, Score], failed: Mapping[str, str]) -> str:
    return json.dumps([{name: score.to_json() for name, score in scores.items()}, dict(failed)])


def _from_text(text: str) -> tuple[dict[str, Score], dict[str, str]]:
    scores, failed = json.loads(text)
    return {name: Score.from_json(score) for name, score in scores.items()}, failed


def _from_first(context: Context, text: str) -> str:
    """The text that the first process has, in all of them."""
    content = list(text.encode())
    size = int(context.total(torch.tensor([len(content)], device=context.device))[0])
    sent: Tensor = torch.zeros(size, dtype=torch.long, device=context.device)
    if context.rank == 0:
        sent += torch.tensor(content, device=context.device)
    return bytes(context.total(sent).tolist()).decode()
