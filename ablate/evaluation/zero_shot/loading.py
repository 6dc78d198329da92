"""From the names of tasks to lm-eval's tasks, with data from files, from the Hub, or as one's own task file says."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import itertools
import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.errors import UserError, nearest
from ablate.evaluation.zero_shot import local_tasks
from ablate.evaluation.zero_shot.local_tasks import Documents

OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_EVALUATE_OFFLINE")
EXAMPLES_SEED = 1234  # of the examples in a prompt: lm-eval's own


@dataclass(frozen=True)
class Loaded:
    """A task of lm-eval, ready to ask.

    docs: its test set, or the first of it; of: how many items that has altogether.
    documents, examples: the files of the test set and of the prompt's examples; None where lm-eval found the data.
    """

    name: str
    task: Any
    docs: list[dict[str, Any]]
    of: int
    documents: Documents | None
    examples: Documents | None


def version() -> str:
    """What scores, with its version."""
    return f"lm-eval {importlib.metadata.version('lm-eval')}"


def check_installed() -> None:
    """Raise `UserError` where lm-eval is not installed."""
    if importlib.util.find_spec("lm_eval") is None:
        raise UserError("evaluation=zero_shot needs lm-eval, which is not installed: pip install 'ablate[downstream]'")


class Tasks:
    """Where tasks come from.

    data: a folder with the files of those in `local_tasks`; None takes these, too, from the Hub, and knows all others
    of lm-eval. include_path: a folder of task files, which say themselves where their data is; they go first.
    """

    def __init__(self, data: Path | None, include_path: Path | None, num_fewshot: int | None):
        self.data, self.include_path, self.num_fewshot = data, include_path, num_fewshot
        for key, folder in (("data", data), ("include_path", include_path)):
            if folder is not None and not folder.is_dir():
                raise UserError(f"evaluation.zero_shot.{key}={folder}: no such folder")
        self._read: dict[str, tuple[Documents, Documents | None]] = {}  # test set and examples, by the task
        self.included = {} if include_path is None else _task_files(include_path)

    def check(self, names: Sequence[str]) -> None:
        """Raise `UserError` for what can be known to be missing without lm-eval, which takes seconds to import."""
        missing = []
        for name in names:
            if name in self.included or self.data is None:
                continue
            if name not in local_tasks.TASKS:
                known = [*self.included, *local_tasks.TASKS]
                raise UserError(
                    f"evaluation.zero_shot.tasks={name}: no task whose data may be files{nearest(name, known)} "
                    f"(there are {', '.join(known)}; with data=null any of lm-eval, from the Hub)"
                )
            if local_tasks.find(name, self.data) is None:
                missing.append(name)
        if missing:
            there = [name for name in names if name not in missing]
            choose = f"choose evaluation.zero_shot.tasks=[{','.join(there)}], or " if there else ""
            looked = ", ".join(f"{local_tasks.TASKS[name].files[0]}*.jsonl" for name in missing)
            raise UserError(
                f"evaluation.zero_shot.data={self.data}: has no file for {', '.join(missing)} (looked for {looked}); "
                f"{choose}add the files"
            )

    def read(self, names: Sequence[str]) -> None:
        """Read what there is of these tasks here, the files of their data and their task files; raises `UserError`.

        Of others it is looked up whether lm-eval has them.
        """
        for name in names:
            if name in self.included:
                _check_metrics(name, self.included[name])
            elif self.data is not None:
                self._documents(name)
            elif name not in local_tasks.TASKS:
                _check_known(name)

    def load(self, name: str, limit: int | None = None) -> list[Loaded]:
        """The task of a name, with its first `limit` items; several tasks where it is the name of a group.

        Raises `UserError`, or what lm-eval raises.
        """
        check_installed()
        with _quiet():
            if name in self.included:
                return [self._made(task, limit) for task in self._included(name)]
            if self.data is None:
                return [self._made(task, limit) for task in self._of_the_hub(name)]
            documents, examples = self._documents(name)
            return [self._made(self._with_documents(name, documents, examples), limit, documents, examples)]

    def _documents(self, name: str) -> tuple[Documents, Documents | None]:
        assert self.data is not None
        if name in self._read:
            return self._read[name]
        path = local_tasks.find(name, self.data)
        if path is None:
            raise UserError(f"evaluation.zero_shot.data={self.data}: has no file for {name}")
        train = local_tasks.find(name, self.data, train=True) if self.num_fewshot else None
        found = local_tasks.read(name, path), local_tasks.read(name, train) if train else None
        self._read[name] = found
        return found

    def _with_documents(self, name: str, documents: Documents, examples: Documents | None) -> Any:
        """lm-eval's task with these documents as its validation set, and examples of its prompts from `examples`."""
        from datasets import Dataset
        from lm_eval import tasks

        sets = {"validation": Dataset.from_list(documents.rows)}
        if examples:
            sets["train"] = Dataset.from_list(examples.rows)
        changes = {
            "custom_dataset": lambda **settings: sets,
            "validation_split": "validation",
            "training_split": "train" if examples else None,
            "test_split": None,
        }
        folder = Path(tasks.__file__).parent / local_tasks.TASKS[name].folder
        manager = tasks.TaskManager(include_path=str(folder), include_defaults=False)
        # lm-eval changes keys of a task file for the members of a group, here of one that has this member alone
        (task,) = manager.load([{"group": "ablate", "task": [{"task": name, **changes}]}])["tasks"].values()
        return task

    def _included(self, name: str) -> list[Any]:
        from lm_eval.tasks import TaskManager

        _check_metrics(name, self.included[name])
        return _loaded(TaskManager(include_path=str(self.include_path), include_defaults=False), name)

    def _of_the_hub(self, name: str) -> list[Any]:
        from lm_eval import tasks

        if name in local_tasks.TASKS:  # without reading the thousands of other task files
            folder = Path(tasks.__file__).parent / local_tasks.TASKS[name].folder
            return _loaded(tasks.TaskManager(include_path=str(folder), include_defaults=False), name)
        return _loaded(_check_known(name), name)

    def _made(
        self, task: Any, limit: int | None, documents: Documents | None = None, examples: Documents | None = None
    ) -> Loaded:
        task.set_fewshot_seed(EXAMPLES_SEED)
        if self.num_fewshot is not None and task.get_config("num_fewshot") != 0:  # 0: the task file allows no others
            task.set_config("num_fewshot", self.num_fewshot)
        name = str(task.config.task)
        docs = getattr(task, "task_docs", None)  # lm-eval processes them again at each look at `eval_docs`
        docs = task.eval_docs if docs is None else docs
        if not len(docs):
            raise UserError(f"{name}: its test set is empty")
        return Loaded(name, task, list(itertools.islice(docs, limit)), len(docs), documents, examples)


def _check_known(name: str) -> Any:
    """lm-eval's manager of all of its tasks; raises `UserError` where none has this name."""
    from lm_eval.tasks import TaskManager

    manager = TaskManager()
    if name not in manager.all_tasks:
        like = nearest(name, manager.all_tasks, 0.7)
        raise UserError(f"evaluation.zero_shot.tasks={name}: {version()} has no such task{like}")
    return manager


def _loaded(manager: Any, name: str) -> list[Any]:
    return [*manager.load([name])["tasks"].values()]


def _task_files(folder: Path) -> dict[str, Path]:
    """The task files below a folder by the name of their task or group; YAML's own tags are not resolved."""
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.yaml")):
        for key in ("task", "group"):
            if match := re.search(
                rf"^{key}:[ \t]*[\"']?([^\s\"'\[#]+)", path.read_text(encoding="utf-8"), re.MULTILINE
            ):
                found.setdefault(match[1], path)
    return found


def _check_metrics(name: str, path: Path) -> None:
    """Raise `UserError` for a metric that lm-eval has not: it would score it as nothing, or ask the Hub."""
    importlib.import_module("lm_eval.api.metrics")  # which registers them
    from lm_eval.api import registry

    text = path.read_text(encoding="utf-8")
    if re.search(r"^process_results:", text, re.MULTILINE):
        return  # it computes them itself
    known = sorted(registry.metric_registry.keys())
    for number, line in enumerate(text.splitlines(), 1):
        match = re.match(r"\s*-?\s*metric:\s*[\"']?([\w.+-]+)[\"']?\s*(?:#.*)?$", line)
        if match and match[1] not in known:
            raise UserError(f"{path}:{number}: {name}: unknown metric {match[1]!r}{nearest(match[1], known)}")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without lm-eval's notes on its own defaults, and without the bars of `datasets`."""
    loggers = [logging.getLogger(name) for name in ("lm_eval", "datasets")]
    levels = [logger.level for logger in loggers]
    from datasets.utils import disable_progress_bars, enable_progress_bars, is_progress_bar_enabled

    had_bars = is_progress_bar_enabled()
    disable_progress_bars()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if had_bars:
            enable_progress_bars()


def go_offline() -> None:
    """Keep the libraries of the Hub from asking it, as far as they are not imported yet; what a user set stays."""
    if "huggingface_hub" not in sys.modules:
        for name in OFFLINE:
            os.environ.setdefault(name, "1")
