"""The package as Python code uses it."""

from __future__ import annotations

import json
import subprocess
import sys
import typing

import pytest

import ablate
from tests.report.synthetic import Maker
from tests.training import standin

TINY = [word for word in standin.TINY if not word.startswith(("row=", "dropout="))]


def test_importing_the_package_loads_nothing_heavy():
    program = "import sys, ablate; dir(ablate); print(*sorted({'torch', 'hydra', 'pandas', 'yaml'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_its_names():
    assert {"UserError", "build", "compose", "records", "train"} <= set(ablate.__all__) <= set(dir(ablate))
    assert all(getattr(ablate, name) for name in ablate.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'bild'"):
        ablate.bild  # noqa: B018


@pytest.mark.parametrize("name", ["build", "compose", "records", "train"])
def test_every_function_is_explained_and_typed(name):
    function = getattr(ablate, name)
    assert "UserError" in function.__doc__
    assert "return" in function.__annotations__ and isinstance(function, typing.Callable)


def test_a_config_becomes_a_model_and_its_loss():
    import torch

    config = ablate.compose([*TINY, "norm=rmsnorm"])
    assert config.norm._target_ == "ablate.model.norm.RMSNorm" and "norm=rmsnorm" in config.row
    model, loss_fn = ablate.build(config)
    ids = torch.randint(3, standin.VOCABULARY, (2, 16), generator=torch.Generator().manual_seed(0))
    batch = {"encoder_ids": ids, "decoder_ids": ids[:, :8], "targets": ids[:, 1:9]}
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(20):
        loss = loss_fn(batch)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[0] == pytest.approx(model.__class__.__call__(ablate.build(config)[0], batch)[0].item())
    assert losses[-1] < losses[0] / 2


def test_the_loss_is_the_one_that_is_trained_on():
    """With what a row adds to it: experts have a loss for their balance."""
    import torch

    config = ablate.compose([*TINY, "feedforward=switch", "feedforward.pattern=[experts]"])
    model, loss_fn = ablate.build(config)
    ids = torch.randint(3, standin.VOCABULARY, (2, 16), generator=torch.Generator().manual_seed(0))
    batch = {"encoder_ids": ids, "decoder_ids": ids[:, :8], "targets": ids[:, 1:9]}
    model.eval()
    assert loss_fn(batch).item() > model(batch)[1].mean().item() + 1e-3


def test_a_run_and_the_table_of_its_sweep(tmp_path, monkeypatch):
    standin.install(monkeypatch)
    monkeypatch.chdir(tmp_path)
    overrides = standin.TINY
    record = ablate.train(overrides)
    assert record["status"] == "done" and record["command"].startswith("ablate train shape.d_model=16 ")
    (file,) = tmp_path.glob("runs/adhoc/tiny/seed-0/record.json")
    assert json.loads(file.read_text()) == record
    assert ablate.train(overrides) == record
    frame = ablate.records("runs/adhoc")
    assert frame[["row", "seed", "status"]].values.tolist() == [["tiny", 0, "done"]]
    assert frame.final_loss[0] == record["loss"]["final"]
    monkeypatch.chdir(tmp_path / "runs" / "adhoc")
    assert ablate.records(".").equals(frame)


def test_one_run_of_a_sweep(tmp_path, monkeypatch):
    standin.install(monkeypatch)
    monkeypatch.chdir(tmp_path)
    record = ablate.train(["sweep=axes", "row=RMS Norm", *TINY, "trainer.steps=5"])
    assert (record["sweep"], record["row"], record["seed"]) == ("axes", "RMS Norm", 0)
    assert "norm=rmsnorm" in record["overrides"]


def test_a_run_in_other_hands(tmp_path, monkeypatch):
    from ablate.config import compose

    standin.install(monkeypatch)
    asked = standin.overrides(tmp_path)
    with (
        standin.folder_of(asked).lock(),
        pytest.raises(ablate.UserError, match=f"{compose(asked).sweep}/tiny/seed-0 is in use"),
    ):
        ablate.train(asked)


def test_the_records_of_a_report(tmp_path):
    from ablate.report.analysis import gathering, records_file

    maker = Maker(tmp_path)
    maker.add("RMS Norm", "norm", ["norm=rmsnorm"])
    maker.write_sweep()
    for seed in range(2):
        maker.run(maker.baseline, seed)
        maker.run("RMS Norm", seed, ["norm=rmsnorm"], final=4.5)
    found = gathering.collect(maker.name, maker.runs, maker.sweeps)
    records_file.write(found, tmp_path / "report")
    frame = ablate.records(tmp_path / "report")
    assert frame.equals(found.frame()) and len(frame) == 4
    assert set(frame.section) == {"baseline", "norm"}


@pytest.mark.parametrize(
    "call, told",
    [
        (lambda: ablate.compose(["norm=rmsnom"]), "norm=rmsnom: unknown option; did you mean 'rmsnorm'?"),
        (lambda: ablate.compose("norm=rmsnorm"), "norm=rmsnorm: overrides are a list, as in ['norm=rmsnorm']"),
        (lambda: ablate.train("norm=rmsnorm"), "norm=rmsnorm: overrides are a list"),
        (lambda: ablate.compose(None), "None: overrides are a list, as in ['norm=rmsnorm']"),
        (lambda: ablate.build(["norm=rmsnorm"]), "ablate.build takes a config that ablate.compose has made"),
        (lambda: ablate.train(["rmsnorm"]), "rmsnorm: ablate.train takes overrides"),
        (lambda: ablate.train(["--cfg"]), "--cfg: unknown flag"),
        (lambda: ablate.train(["norm=batchnorm"]), "norm=batchnorm takes its statistics over all tokens"),
        (lambda: ablate.train(["sweep=axes", "row=SwiGlu"]), "no row 'SwiGlu' in axes; did you mean 'SwiGLU'?"),
        (lambda: ablate.records("nothing"), "nothing: neither a report (records.jsonl) nor the runs of a sweep"),
    ],
)
def test_a_mistake_is_a_user_error(call, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ablate.UserError) as caught:
        call()
    assert told in str(caught.value) and not list(tmp_path.iterdir())
