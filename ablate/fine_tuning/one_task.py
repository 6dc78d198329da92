"""Fine-tuning on one task: summaries, questions without a text to find the answer in, translation from scratch."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from ablate.config import build_model
from ablate.config.instantiation import fill
from ablate.evaluation.contract import Context
from ablate.fine_tuning.evaluation import FineTuning, Subject
from ablate.fine_tuning.validation import Names
from ablate.model.build import Model
from ablate.ranges import VOCABULARY, Ranges
from ablate.run.files import sha256
from ablate.tasks import readers, webquestions, wmt, xsum
from ablate.tasks.example import Example, Parts
from ablate.tasks.task import Task, checked, from_files, from_hub, recorded


class OneTask(FineTuning):
    """A task whose training and validation part are files in a folder `data`, or a data set `hub` of the Hub.

    train, validation: names of files below `data`, or patterns. Without `validation` a fifth of the training part,
    by a hash, is held out.
    """

    task: ClassVar[Task]

    def __init__(
        self,
        *,
        data: str,
        hub: str | None,
        train: str | Sequence[str],
        validation: str | Sequence[str] | None,
        **settings: Any,
    ):
        super().__init__(**settings)
        self.data, self.hub, self.training, self.validation = data, hub, train, validation

    def read(self) -> dict[str, tuple[Task, Parts]]:
        """The one task."""
        key = f"evaluation.{self.name}"
        parts = from_hub(self.task.examples, self.hub, self.task.subset, key) if self.hub else self.from_files(key)
        return {self.task.name: (self.task, checked(self.task.name, parts, key))}

    def from_files(self, key: str) -> Parts:
        """The parts that the files hold."""
        folder = Path(self.data)
        train = readers.named_files(folder, self.training, f"{key}.train")
        validation = self.validation and readers.named_files(folder, self.validation, f"{key}.validation")
        return from_files(self.task.examples, train, validation or None, folder)


class XSum(OneTask):
    """`xsum_rouge2`, ROUGE-2 in per cent, with `xsum_rouge1` and `xsum_rougeLsum`, and `xsum_loss`."""

    name = "xsum"
    task = xsum.TASK

    def names(self, task: str) -> Names:
        """xsum_rouge2, and the others by their metric."""
        metrics = {metric: f"xsum_{metric}" for metric in ("rouge1", "rouge2", "rougeLsum")}
        return Names("xsum_rouge2", metrics, "xsum_loss")


class WebQuestions(OneTask):
    """`webq_accuracy`: the exact matches with any of the answers, in per cent; and `webq_loss`."""

    name = "webquestions"
    task = webquestions.TASK

    def names(self, task: str) -> Names:
        """webq_accuracy."""
        return Names("webq_accuracy", {}, "webq_loss")


class WMTEnDe(OneTask):
    """`wmt_ende_bleu`, and `wmt_ende_loss`: a model of the same architecture, trained from scratch on translation.

    Its vocabulary of `vocab_size` ids is made by the run's kind of tokenizer from both sides of the training part.
    train, validation: names of pairs of files, such as newstest2013 for newstest2013.en and newstest2013.de; those in
    `tokenised` are of Moses' tokeniser, which is undone.
    """

    name = "wmt_en_de"
    task = wmt.TASK
    ranges: ClassVar[Ranges] = {"vocab_size": VOCABULARY}

    def __init__(self, *, tokenised: Sequence[str], vocab_size: int, **settings: Any):
        super().__init__(vocab_size=vocab_size, **settings)
        self.tokenised, self.vocab_size = frozenset(tokenised), vocab_size

    def names(self, task: str) -> Names:
        """wmt_ende_bleu."""
        return Names("wmt_ende_bleu", {}, "wmt_ende_loss")

    def from_files(self, key: str) -> Parts:
        """The pairs; a sentence that is in both parts stays in validation alone."""
        folder = Path(self.data)
        names = [self.training] if isinstance(self.training, str) else list(self.training)
        judged = [self.validation] if isinstance(self.validation, str) else list(self.validation or [])
        train, validation = self._pairs(folder, names, f"{key}.train"), self._pairs(folder, judged, f"{key}.validation")
        files = [folder / f"{name}.{language}" for name in [*names, *judged] for language in ("en", "de")]
        source = {
            "data": recorded(folder),
            "sha256": {file.name: sha256(file) for file in files},
            "split": ", ".join(judged),
            "detokenised": sorted(self.tokenised.intersection(names + judged)),
        }
        known = {example.passage for example in validation}
        return Parts([example for example in train if example.passage not in known], validation, source)

    def subject(self, model: Model, context: Context) -> Subject:
        """The architecture with first values of its own, and a vocabulary for both languages."""
        config = copy.deepcopy(context.config)
        config.dropout = self.settings.dropout
        config.shape.vocab_size = self.vocab_size
        made = fill(config, "tokenizer")
        (parts,) = [parts for _, parts in self.tasks.values()]
        return Subject(build_model(config), made.make(_both_sides(parts.train)), made.layout)

    def _pairs(self, folder: Path, names: Iterable[str], key: str) -> list[Example]:
        rows = (
            row for name in names for row in wmt.parallel(folder, name, is_tokenised=name in self.tokenised, key=key)
        )
        return self.task.examples(rows)


def _both_sides(examples: Sequence[Example]) -> Iterator[str]:
    """The text of pairs, source and target in turns."""
    for example in examples:
        yield example.inputs
        yield example.targets[0]
