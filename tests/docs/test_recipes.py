"""The recipes of CONTRIBUTING.md, put together as one package: each option composes, builds and trains."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from ablate.config import compose, options
from ablate.errors import UserError
from ablate.report.analysis import gathering
from ablate.report.analysis.judge import judge
from ablate.report.render.plots import drawing
from tests.docs.texts import PACKAGE, ROOT, recipes, write_text
from tests.model.tiny import SHAPE, batch_for, overrides, tiny, train_step
from tests.report.synthetic import Maker

KINDS = ("norm", "position", "attention", "objective", "optimizer", "evaluation", "plot", "column")


def train(folder: Path, *given: str) -> dict[str, Any]:
    """Two steps by the command; the record."""
    write_text(folder / "text.txt", words=400, paragraphs=60)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), options.PLUGINS: PACKAGE}
    shape = [f"shape.{key}={value}" for key, value in {**SHAPE, "vocab_size": 640, "batch_tokens": 64}.items()]
    text = ["data=local", "data.files=text.txt", "evaluation.heldout.tokens=64", "trainer.steps=2", "trainer=cpu"]
    command = [sys.executable, "-m", "ablate", "train", *shape, *text, *given]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    (record,) = folder.glob("runs/adhoc/*/seed-0/record.json")
    return json.loads(record.read_text())


def test_there_is_one_of_each_kind():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    headings = re.findall(r"^### (?:A|An) (\w+)$", text.partition("## Recipes")[2], re.MULTILINE)
    assert tuple(headings) == KINDS
    shown = {name.split("/")[2] for name in recipes() if name.endswith(".yaml")}
    assert shown == {"norm", "position", "attention", "objective", "optimizer", "evaluation"}


def test_the_norm_is_the_example():
    shown = recipes()
    for name in ("my_variants/norms.py", "my_variants/conf/norm/mean_absolute.yaml"):
        assert shown[name] == (ROOT / "examples" / "my_variants" / name).read_text()


@pytest.mark.parametrize("topology", ["encoder_decoder", "causal_decoder"])
@pytest.mark.parametrize("option", ["norm=mean_absolute", "position=log_distance", "attention=dilated"])
def test_parts_of_a_model_train_a_step(plugin, option, topology):
    model = tiny(option, f"topology={topology}")
    assert any(module.__module__.startswith(PACKAGE) for module in model.modules())
    assert torch.isfinite(train_step(model, batch_for(model, padded=True)))
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in model.parameters())


def test_the_position_is_what_it_says(plugin):
    model = tiny("position=log_distance", "topology=causal_decoder", "position.start=2.0")
    (position,) = {module for module in model.modules() if type(module).__name__ == "LogDistance"}
    found = position.bias(torch.zeros(1, SHAPE["n_heads"], 3, SHAPE["head_dim"]), None)
    at = torch.arange(3)
    torch.testing.assert_close(found[0, 0], -2.0 * torch.log1p((at[:, None] - at[None, :]).abs().float()))


def test_the_attention_looks_at_every_second_token(plugin):
    model = tiny("attention=dilated", "topology=causal_decoder", "position=none").eval()
    batch = batch_for(model)
    with torch.no_grad():
        before = model.logits(batch)
        batch["decoder_ids"][:, 3] = (batch["decoder_ids"][:, 3] + 1) % 100 + 2
        changed = (model.logits(batch) - before).abs().amax((0, 2)) > 1e-6
    assert changed.tolist() == [at >= 3 and at % 2 == 1 for at in range(len(changed))]


def test_the_optimizer_takes_a_step_of_its_rate(plugin):
    cfg = compose(overrides("optimizer=lion", "schedule=cosine", "optimizer.weight_decay=0.0"))
    from my_variants.optimizers import Lion

    parameter = torch.nn.Parameter(torch.tensor([1.0, -1.0]))
    parameter.grad = torch.tensor([0.5, -3.0])
    settings = {key: cfg.optimizer[key] for key in ("beta1", "beta2", "weight_decay")}
    optimizer = Lion([{"params": [parameter]}], lr=0.1, **settings)
    optimizer.step()
    torch.testing.assert_close(parameter.detach(), torch.tensor([0.9, -0.9]))
    torch.testing.assert_close(optimizer.state[parameter]["momentum"], 0.01 * parameter.grad)


@pytest.mark.timeout(120)
def test_a_run_with_optimizer_evaluation_and_parts(plugin):
    given = ["norm=mean_absolute", "position=log_distance", "attention=dilated", "optimizer=lion", "schedule=cosine"]
    record = train(plugin, *given, "evaluation=[heldout,accuracy]", "evaluation.accuracy.tokens=64")
    assert record["status"] == "done"
    assert 0 <= record["downstream"]["accuracy"] < 0.5


def test_the_evaluation_counts_what_it_says(plugin):
    from my_variants.evaluations import Accuracy

    targets = torch.tensor([[1, 2, 3], [0, 0, 0]])
    batches = [{"targets": targets, "weights": torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])}, {"targets": targets}]
    context = SimpleNamespace(
        device="cpu",
        heldout=lambda tokens, seed: batches,
        check_stop=lambda: None,
        on_device=dict,
        autocast=nullcontext,
        total=lambda sums: sums,
    )
    always_two = SimpleNamespace(logits=lambda batch: torch.eye(4)[torch.full_like(targets, 2)])
    score = Accuracy(tokens=1, seed=0).evaluate(always_two, context)["accuracy"]
    assert (score.value, score.items) == (2 / 10, 10)


@pytest.mark.timeout(120)
def test_a_run_with_the_objective(plugin):
    assert train(plugin, "topology=causal_decoder", "objective=word_dropout")["status"] == "done"


def test_what_is_out_of_range_is_refused(plugin):
    with pytest.raises(UserError, match=r"objective.probability=1.5: must be above 0 and below 1"):
        compose(overrides("topology=causal_decoder", "objective=word_dropout", "objective.probability=1.5"))


def test_the_objective_hides_inputs_and_no_targets(plugin):
    from my_variants.objectives import WordDropout

    layout = SimpleNamespace(pad_id=0, mask_id=99, text_size=90)
    objective = WordDropout(layout, ("decoder",), False, length=50, probability=0.2)
    windows = np.random.default_rng(0).integers(1, 90, (40, 50))
    batch = objective.apply(windows, np.random.default_rng(1))
    inputs, hidden = batch["decoder_ids"], batch["decoder_ids"] == 99
    assert (batch["targets"] == windows).all() and (inputs[:, 0] == 0).all()
    assert (inputs[:, 1:][~hidden[:, 1:]] == windows[:, :-1][~hidden[:, 1:]]).all()
    assert 0.15 < hidden.mean() < 0.25


def test_the_plot_is_drawn(tmp_path):
    maker = Maker(tmp_path)
    maker.add("RMS Norm", "norm", ["norm=rmsnorm"])
    maker.write_sweep()
    for seed in range(2):
        maker.run(maker.baseline, seed)
        maker.run("RMS Norm", seed, ["norm=rmsnorm"], final=4.5)
    judged = judge(gathering.collect(maker.name, maker.runs, maker.sweeps))
    names: dict[str, object] = {}
    exec(recipes()["ablate/report/render/plots/memory.py"], names)
    with drawing.style():
        name, _, figure = names["memory"](judged)
        drawing.save(figure, tmp_path / name)
    assert (tmp_path / "memory.png").read_bytes().startswith(b"\x89PNG")


def test_every_glossary_entry_is_in_order():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Glossary")[2]
    terms = re.findall(r"^\| ([^|]+?) \|", text, re.MULTILINE)[1:]
    assert len(terms) > 40 and terms == sorted(terms, key=str.casefold)
