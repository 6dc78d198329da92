"""`evaluation=zero_shot` on made-up task files: scores, outcomes, failures, interruptions, processes."""

from __future__ import annotations

import dataclasses
import json
import math
import threading

import numpy as np
import pytest
import torch
from lm_eval import evaluator

from ablate.errors import UserError
from ablate.evaluation.contract import FailedElsewhere, Partial, StopRequested
from ablate.evaluation.likelihood import Scorer
from ablate.evaluation.zero_shot import loading
from ablate.evaluation.zero_shot.language_model import LanguageModel
from ablate.evaluation.zero_shot.local_tasks import TASKS
from ablate.run import outcomes
from tests.evaluation.zero_shot.made_up import CAUSAL, ITEMS, config, context, model_of, rows, write, zero_shot

CHOICES = ["boolq", "piqa", "social_iqa", "hellaswag", "winogrande", "arc_easy", "arc_challenge", "openbookqa"]
PREFIX = ["topology=prefix_decoder", "objective=prefix"]
SPANS = ["topology=encoder_decoder", "objective=span_corruption", "objective.mean_span=6", "objective.length=32"]
SPLIT = ["topology=encoder_decoder", "objective=prefix"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    for task in TASKS:
        write(folder, task)
    return folder


@pytest.fixture
def taken(tmp_path, data):
    """`taken(tasks, options, ...)`: what the evaluation finds of a model."""

    def take(tasks, options=CAUSAL, folder="outcomes", given=None, **settings):
        cfg = config(*options)
        made = zero_shot(tasks, settings.pop("data", data), **settings)
        return made.evaluate(model_of(cfg), context(cfg, tmp_path / folder, **(given or {})))

    return take


def test_every_task_gives_its_scores(taken, tmp_path):
    found = taken([*TASKS])
    assert not isinstance(found, Partial)
    accuracies = [name for name in TASKS if name != "wikitext"]
    assert {*accuracies, "zero_shot"} <= found.keys()
    for task in CHOICES:
        assert {f"{task}_bits_per_byte", f"{task}_margin"} <= found.keys()
    assert {"nq_open_bits_per_byte", "lambada_openai_perplexity", "lambada_openai_bits_per_byte"} <= found.keys()
    assert {f"wikitext_{name}" for name in ("word_perplexity", "byte_perplexity", "bits_per_byte")} <= found.keys()
    chances = {"boolq": 50, "piqa": 50, "social_iqa": 100 / 3, "winogrande": 50, "nq_open": 0, "lambada_openai": 0}
    for name in accuracies:
        score = found[name]
        assert score.unit == "% right" and 0 <= score.value <= 100 and score.items == ITEMS
        assert score.chance == pytest.approx(chances.get(name, 25))
        assert score.source["task"] == name and score.source["scorer"].startswith("lm-eval 0.")
        assert (score.source["comparable"] is False and "items" in score.source["not_comparable_because"]) or name in (
            "arc_easy", "arc_challenge", "openbookqa", "lambada_openai",
        )  # fmt: skip
    average = found["zero_shot"]
    assert average.value == pytest.approx(np.mean([found[name].value for name in accuracies]))
    assert average.chance == pytest.approx(np.mean([found[name].chance for name in accuracies]))
    errors = [found[name].standard_error for name in accuracies]
    assert average.standard_error == pytest.approx(math.sqrt(sum(error**2 for error in errors)) / len(errors))
    assert [name for name, score in found.items() if not score.exploratory] == ["zero_shot"]
    assert average.source["tasks"] == average.source["mean_of"] == accuracies
    assert average.items == ITEMS * len(accuracies)
    assert found["hellaswag"].source["metric"] == "acc_norm" and found["hellaswag_acc"].source["metric"] == "acc"
    assert "<unk>" in found["wikitext_bits_per_byte"].source["not_comparable_because"]
    assert "test split" in found["arc_easy"].source["not_comparable_because"]


def test_outcomes_have_no_text_and_add_up_to_the_scores(taken, tmp_path):
    found = taken(["hellaswag", "nq_open"])
    for task in ("hellaswag", "nq_open"):
        kept = outcomes.read(tmp_path / "outcomes" / f"{task}.jsonl")
        assert [item.id for item in kept.items] == [*range(ITEMS)]
        assert found[task].source["outcomes"] == f"{task}.jsonl"
        assert found[task].source["outcomes_sha256"] == outcomes.sha256(kept.items)
        for name in (score for score in found if score.startswith(task)):
            values = [*kept.values(name).values()]
            assert np.mean(values) == pytest.approx(found[name].value)
            assert np.std(values, ddof=1) / math.sqrt(ITEMS) == pytest.approx(found[name].standard_error)
    text = (tmp_path / "outcomes" / "hellaswag.jsonl").read_text()
    for row in rows("hellaswag"):
        assert row["query"] not in text and row["endings"][0] not in text


def test_bits_per_byte_and_margin_by_hand(taken, tmp_path):
    taken(["piqa"])
    for item, row in zip(outcomes.read(tmp_path / "outcomes" / "piqa.jsonl").items, rows("piqa"), strict=True):
        rates = [
            nats / math.log(2) / len(row[name].encode())
            for nats, name in zip(item.log_likelihoods, ("sol1", "sol2"), strict=True)
        ]
        right = row["label"]
        assert item.values["piqa_bits_per_byte"] == pytest.approx(-rates[right])
        assert item.values["piqa_margin"] == pytest.approx(rates[right] - rates[1 - right])
        best = int(
            np.argmax(
                [nats / len(row[name]) for nats, name in zip(item.log_likelihoods, ("sol1", "sol2"), strict=True)]
            )
        )
        assert item.right == float(best == right)


def test_lm_eval_itself_finds_the_same_with_our_language_model(taken, data):
    found = taken([*TASKS])
    cfg = config(*CAUSAL)
    model = model_of(cfg)
    given = context(cfg, data)
    from ablate.data import objective

    scorer = Scorer(model, length=48, batch_tokens=100)
    ours = LanguageModel(scorer, given.tokenizer, objective.build(cfg, given.corpus).prompt, given.corpus.layout.eos_id)
    tasks = {name: loading.Tasks(data, None, None).load(name)[0].task for name in TASKS}
    results = evaluator.evaluate(ours, {"tasks": tasks}, bootstrap_iters=0, log_samples=False)["results"]
    compared = 0
    for task, metrics in results.items():
        for key, value in metrics.items():
            metric, comma, _ = key.partition(",")
            if comma and not metric.endswith("_stderr"):
                name = next(
                    one for one in (task, f"{task}_{metric}") if one in found and found[one].source["metric"] == metric
                )
                scale = 100 if found[name].unit == "% right" else 1
                assert found[name].value == pytest.approx(scale * value, rel=1e-5), (task, metric)
                compared += 1
    assert compared > 15


@pytest.mark.parametrize("options", [PREFIX, SPANS, SPLIT], ids=["prefix", "spans", "split"])
def test_other_models(options, taken):
    said = []
    found = taken(["piqa", "nq_open", "lambada_openai", "wikitext"], options, given={"say": said.append})
    assert {"piqa", "nq_open", "lambada_openai", "zero_shot"} <= found.keys() and not isinstance(found, Partial)
    left_out = options is not PREFIX
    assert ("wikitext_bits_per_byte" in found) != left_out
    if left_out:
        assert found["zero_shot"].source["left_out"] == {
            "wikitext": "an encoder-decoder has no perplexity of a whole text"
        }
        assert any("wikitext is left out" in line for line in said)
        assert "form" in found["piqa"].source["not_comparable_because"]
    with_plain = taken(["piqa"], options, folder="plain", form="plain")
    assert (with_plain["piqa_bits_per_byte"].value != found["piqa_bits_per_byte"].value) == left_out


def test_a_model_that_cannot(taken):
    with pytest.raises(UserError, match="cannot write"):
        taken(["piqa"], ["topology=encoder", "objective=masked"])
    with pytest.raises(UserError, match="wikitext: an encoder-decoder has no perplexity"):
        taken(["wikitext"], SPANS)


def test_a_failing_task_loses_nothing_else(taken, tmp_path):
    for task in ("piqa", "boolq", "arc_easy"):
        write(tmp_path / "mine", task)
    bad = write(tmp_path / "mine", "boolq", [rows("boolq")[0], {"question": "a"}])
    found = taken(["piqa", "boolq", "arc_easy"], data=tmp_path / "mine")
    assert isinstance(found, Partial)
    assert found.failed == {"boolq": f"{bad}:2: has no field 'label'"}
    assert {"piqa", "arc_easy"} <= found.scores.keys() and "zero_shot" not in found.scores


def test_a_finished_task_is_not_asked_again(taken, tmp_path, monkeypatch):
    asked = []
    original = LanguageModel.loglikelihood
    monkeypatch.setattr(
        LanguageModel, "loglikelihood", lambda self, requests: asked.append(len(requests)) or original(self, requests)
    )
    first = taken(["piqa", "boolq"])
    assert len(asked) == 2
    again = taken(["piqa", "boolq"])
    assert len(asked) == 2
    assert {name: score.to_json() for name, score in again.items()} == {
        name: score.to_json() for name, score in first.items()
    }
    path = tmp_path / "outcomes" / "piqa.jsonl"
    path.write_text(path.read_text().replace('"right": 1.0', '"right": 0.0'))  # damaged: it is asked again
    taken(["piqa", "boolq"])
    assert len(asked) == 3
    taken(["piqa", "boolq"], [*CAUSAL, "activation=gelu"])  # another model
    assert len(asked) == 5


def test_an_interrupted_evaluation_goes_on(taken, tmp_path):
    calls = iter(range(10**6))
    with pytest.raises(StopRequested):
        taken(["piqa", "boolq"], given={"stop": lambda: (tmp_path / "outcomes" / "piqa.jsonl").exists()})
    assert [path.name for path in (tmp_path / "outcomes").iterdir()] == ["piqa.jsonl"]
    before = (tmp_path / "outcomes" / "piqa.jsonl").stat().st_mtime_ns
    assert {"piqa", "boolq"} <= taken(["piqa", "boolq"]).keys()
    assert (tmp_path / "outcomes" / "piqa.jsonl").stat().st_mtime_ns == before
    assert next(calls) == 0


class Processes:
    """What processes do together, done by threads."""

    def __init__(self, count):
        self.count, self.barrier, self.given = count, threading.Barrier(count, timeout=60), [None] * count

    def _exchanged(self, rank, value):
        self.given[rank] = value
        self.barrier.wait()
        found = list(self.given)
        self.barrier.wait()
        return found

    def any_process(self, rank, flag):
        return any(self._exchanged(rank, flag))

    def total(self, rank, tensor):
        if self.any_process(rank, False):
            raise FailedElsewhere
        return sum(self._exchanged(rank, tensor))

    def run(self, do):
        found = [None] * self.count

        def one(rank):
            given = {
                "rank": rank, "world_size": self.count, "total": lambda tensor: self.total(rank, tensor),
                "any_process": lambda flag: self.any_process(rank, flag),
            }  # fmt: skip
            with torch.no_grad():
                found[rank] = do(rank, given)

        threads = [threading.Thread(target=one, args=(rank,)) for rank in range(self.count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        return found


def test_several_processes_give_the_same_scores(data, tmp_path):
    cfg = config(*CAUSAL)
    tasks = ["piqa", "nq_open", "wikitext"]

    def do(rank, given, folder="several"):
        made = zero_shot(tasks, data, batch_tokens=64)
        return made.evaluate(model_of(cfg), context(cfg, tmp_path / folder, **given))

    one = do(0, {}, "one")
    for found in Processes(2).run(do):
        assert {name: score.to_json() for name, score in found.items()} == {
            name: score.to_json() for name, score in one.items()
        }
    for found in Processes(2).run(do):  # kept by the first process
        assert {name: score.value for name, score in found.items()} == {
            name: score.value for name, score in one.items()
        }


def test_a_task_that_fails_in_one_process(data, tmp_path, monkeypatch):
    cfg = config(*CAUSAL)
    original = LanguageModel.loglikelihood

    def broken(self, requests):
        if self.scorer.share.rank == 1 and requests[0].task_name == "piqa":
            raise RuntimeError("no more memory for this")
        return original(self, requests)

    monkeypatch.setattr(LanguageModel, "loglikelihood", broken)

    def do(rank, given):
        return zero_shot(["piqa", "boolq"], data).evaluate(model_of(cfg), context(cfg, tmp_path / "two", **given))

    first, second = Processes(2).run(do)
    assert first.failed == {"piqa": "it failed in another process"}
    assert second.failed == {"piqa": "RuntimeError: no more memory for this"}
    assert "boolq" in first.scores and first.scores.keys() == second.scores.keys()


def test_limit_and_examples(taken, data, tmp_path):
    found = taken(["piqa"], limit=4)
    assert found["piqa"].items == 4 and found["piqa"].source["part"] == f"first 4 of {ITEMS}"
    assert "limit=4" in found["piqa"].source["not_comparable_because"]
    shots = taken(["piqa"], num_fewshot=2, folder="shots")
    assert shots["piqa"].source["num_fewshot"] == 2
    assert "from the test set itself" in shots["piqa"].source["not_comparable_because"]
    assert shots["piqa"].source["prompts_sha256"] != found["piqa"].source["prompts_sha256"]
    write(tmp_path / "mine", "boolq")
    train = tmp_path / "mine" / "superglue" / "BoolQ" / "train.jsonl"
    train.write_text("".join(json.dumps(row) + "\n" for row in rows("boolq")))
    with_train = taken(["boolq"], num_fewshot=1, data=tmp_path / "mine", folder="train")["boolq"].source
    assert (
        with_train["examples_file"] == "train.jsonl" and "test set itself" not in with_train["not_comparable_because"]
    )


MINE = """
task: mine
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{{{goal}}}} so"
doc_to_choice: "{{{{[sol1, sol2]}}}}"
doc_to_target: label
metric_list:
  - metric: {metric}
    aggregation: mean
    higher_is_better: true
"""


def own_task(tmp_path, metric="acc", content=None):
    folder = tmp_path / "my tasks"
    folder.mkdir()
    path = folder / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (rows("piqa") if content is None else content)))
    (folder / "mine.yaml").write_text(MINE.format(data=path, metric=metric))
    return folder


def test_task_files_of_ones_own(taken, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = own_task(tmp_path)
    found = taken(["mine", "piqa"], include_path=str(folder))
    assert {"mine", "mine_margin", "piqa", "zero_shot"} <= found.keys()
    assert found["mine"].source["split"] == "test" and found["mine"].source["comparable"] is True


def test_an_unknown_metric(taken, tmp_path):
    folder = own_task(tmp_path, metric="ac")
    found = taken(["mine", "piqa"], include_path=str(folder))
    assert found.failed == {"mine": f"{folder / 'mine.yaml'}:11: mine: unknown metric 'ac'; did you mean 'acc'?"}


def test_an_answer_outside_the_choices(taken, tmp_path):
    folder = own_task(tmp_path, content=[*rows("piqa"), {**rows("piqa")[0], "label": 2}])
    found = taken(["mine", "piqa"], include_path=str(folder))
    assert found.failed == {"mine": f"mine: item {ITEMS}: the answer 2 is none of its 2 choices"}


def test_options_that_are_refused(data, monkeypatch):
    for changes, words in (
        ({"form": "owm"}, "form=owm: must be one of own, plain; did you mean 'own'"),
        ({"limit": 0}, "limit=0"),
        ({"num_fewshot": -1}, "num_fewshot=-1"),
    ):
        with pytest.raises(UserError, match=words):
            zero_shot(["piqa"], data, **changes)
    with pytest.raises(UserError, match="list of names"):
        zero_shot([], data)
    monkeypatch.setattr(loading.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'ablate\[downstream\]'"):
        zero_shot(["piqa"], data)


def test_progress_has_the_time_left(taken, monkeypatch):
    from ablate.evaluation.zero_shot import evaluation

    monkeypatch.setattr(evaluation, "PAUSE", 0.0)
    said = []
    taken(["piqa", "hellaswag"], given={"say": said.append}, batch_tokens=64)
    assert any(line.startswith("zero_shot: piqa (1 of 2): ") for line in said)
    assert any("hellaswag (2 of 2)" in line and "left" in line for line in said)


def test_answers_longer_than_the_model_reads_are_asked_in_pieces(taken, tmp_path):
    long = {**rows("piqa")[0], "sol1": " ".join(["the cat sings"] * 20)}
    write(tmp_path / "mine", "piqa", [long])
    found = taken(["piqa"], data=tmp_path / "mine", length=8)
    assert math.isfinite(found["piqa_bits_per_byte"].value)
    assert "2 of 2 inputs were longer than 8 tokens" in found["piqa"].source["not_comparable_because"]
    assert dataclasses.replace(found["piqa"], value=1.0)
