"""Any task of lm-eval by its name, with data from the Hub: here from the cache of `datasets`, without a network."""

from __future__ import annotations

import datasets
import numpy as np
import pytest
from datasets.arrow_writer import ArrowWriter

from ablate.evaluation.contract import Partial
from tests.evaluation.zero_shot.made_up import CAUSAL, ITEMS, config, context, model_of, phrase, zero_shot

pytestmark = pytest.mark.slow  # lm-eval reads its thousands of task files


def write_cache(cache, name: str, splits: dict[str, list[dict]]) -> None:
    """A data set as `datasets` keeps it after it has been loaded once."""
    folder = cache / name.replace("/", "___") / "default" / "0.0.0" / ("0" * 40)
    folder.mkdir(parents=True)
    known = datasets.SplitDict(dataset_name=name.split("/")[-1])
    for split, rows in splits.items():
        table = datasets.Dataset.from_list(rows)
        with ArrowWriter(path=str(folder / f"{name.split('/')[-1]}-{split}.arrow"), features=table.features) as writer:
            for row in rows:
                writer.write(row)
            writer.finalize()
        known.add(datasets.SplitInfo(split, num_examples=len(rows)))
    datasets.DatasetInfo(
        features=table.features, config_name="default", dataset_name=name.split("/")[-1], splits=known
    ).write_to_directory(str(folder))


def questions(count: int) -> list[dict]:
    random = np.random.default_rng(count)
    names = ("question", "distractor1", "distractor2", "distractor3", "correct_answer", "support")
    return [{name: phrase(random) for name in names} for _ in range(count)]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


def test_a_task_by_name(cache, tmp_path):
    write_cache(cache, "allenai/sciq", {"train": questions(4), "validation": questions(3), "test": questions(ITEMS)})
    cfg = config(*CAUSAL)
    found = zero_shot(["sciq"], None, num_fewshot=1, limit=5).evaluate(model_of(cfg), context(cfg, tmp_path / "run"))
    assert not isinstance(found, Partial)
    assert {"sciq", "sciq_acc", "sciq_bits_per_byte", "sciq_margin"} <= found.keys()
    source = found["sciq"].source
    assert source["data"] == "allenai/sciq" and source["split"] == "test" and source["num_fewshot"] == 1
    assert source["part"] == f"first 5 of {ITEMS}" and found["sciq"].items == 5 and found["sciq"].chance == 25
    assert source["not_comparable_because"].startswith("limit=5")


def test_data_that_are_not_there(cache, tmp_path):
    cfg = config(*CAUSAL)
    found = zero_shot(["sciq"], None).evaluate(model_of(cfg), context(cfg, tmp_path / "run"))
    assert isinstance(found, Partial) and not found.scores
    assert "allenai/sciq" in found.failed["sciq"]


def test_an_unknown_name(cache, tmp_path):
    cfg = config(*CAUSAL)
    found = zero_shot(["scqi"], None).evaluate(model_of(cfg), context(cfg, tmp_path / "run"))
    assert "lm-eval" in found.failed["scqi"] and "no such task" in found.failed["scqi"]
