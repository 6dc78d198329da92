"""Made-up sweeps whose runs have scores with outcomes of items beside them, as evaluations leave them."""

import numpy as np

from ablate.evaluation.averages import mean_of
from ablate.run import outcomes
from ablate.run.folder import run_path
from ablate.run.outcomes import Item, Outcomes
from ablate.run.score import Score
from tests.report.synthetic import Maker

EVALUATION, HASH = "zero_shot", "0123456789abcdef"
ITEMS, SEEDS = 200, 3


class ScoredMaker(Maker):
    """Runs with tasks of right and wrong answers, `zero_shot`, the mean of their shares in per cent, and a margin.

    `easy` is how often the baseline is right in a task; a row's effects, by task, are added to that. Which items are
    right is up to how hard each is, what the row makes of it, and the run.
    """

    def __init__(self, root, easy=None, **options):
        super().__init__(root, **options)
        self.seeds = {"baseline": SEEDS, "rows": SEEDS}
        self.easy = easy or {"boolq": 0.6, "piqa": 0.7}
        self.chance = 50.0
        self.hardness = np.random.default_rng(0).random((len(self.easy), ITEMS))
        self.row(self.baseline, {}, [])

    def row(self, label, effects, overrides=None, *, seeds=SEEDS, changes=None, **settings):
        """Add a row; `changes` are what else its runs are given."""
        overrides = [f"norm={label.replace(' ', '-')}"] if overrides is None else overrides
        if label != self.baseline:
            self.add(label, "rows", overrides, **settings)
        for seed in range(seeds):
            self.scored_run(label, seed, effects, overrides, **(changes or {}))

    def scored_run(self, label, seed, effects, overrides, tasks=None, ids=None, final=None, **changes):
        """Write one run with its outcomes; `tasks` are those that it has."""
        found = {}
        for number, (task, easy) in enumerate(self.easy.items()):
            if tasks is not None and task not in tasks:
                continue
            rng = np.random.default_rng([number, seed, *map(ord, label)])
            of_row = np.random.default_rng([number, *map(ord, label)])
            lean = self.hardness[number] + 0.1 * of_row.normal(size=ITEMS) + 0.1 * rng.normal(size=ITEMS)
            right = (lean < easy + effects.get(task, 0.0)).astype(float)
            found |= self._outcomes(label, seed, task, right, ids)
        if len(found) > 2:
            parts = {task: found[task] for task in self.easy if task in found}
            found["zero_shot"] = mean_of(parts, {"evaluation": EVALUATION, "hash": HASH, "tasks": [*parts]})
        final = 5.0 + self.seed_effects[seed] + seed % 2 / 100 if final is None else final
        scores = {
            "scores": {name: score.to_json() for name, score in found.items()},
            "downstream": {name: score.value for name, score in found.items()},
        }
        return self.run(label, seed, overrides, final=final, **(scores | changes))

    def _outcomes(self, label, seed, task, right, ids):
        """The file of a task's outcomes, and its scores."""
        margins = right / 3 - 0.1
        items = tuple(
            Item(number if ids is None else ids[number], one, (), {task: 100 * one, f"{task}_margin": margin})
            for number, (one, margin) in enumerate(zip(right.tolist(), margins.tolist(), strict=True))
        )
        source = {"evaluation": EVALUATION, "hash": HASH, "task": task, "part": f"all {ITEMS}", "comparable": False}
        source |= {"not_comparable_because": "the files are made up", "outcomes": f"{task}.jsonl"}
        source["outcomes_sha256"] = outcomes.sha256(items)
        error = float(right.std(ddof=1) / np.sqrt(ITEMS))
        given = {"items": ITEMS, "source": source, "exploratory": True}
        scores = {
            task: Score(100 * float(right.mean()), "% right", True, standard_error=100 * error, chance=50.0, **given),
            f"{task}_margin": Score(float(margins.mean()), "bits", True, standard_error=error / 3, **given),
        }
        folder = self.evaluation(label, seed)
        folder.mkdir(parents=True, exist_ok=True)
        outcomes.write(folder, Outcomes(task, "a key", items, scores))
        return scores

    def evaluation(self, label, seed):
        """The folder of a run's outcomes."""
        return run_path(self.runs, self.name, label, seed) / "evaluation" / f"{EVALUATION}-{HASH}"
