"""A finished run that is asked for again, and a refused one."""

import json
import subprocess
import sys

import pytest

from ablate.cli import run

TEXT = "\n\n".join(f"{number} is one more than {number - 1}, said the clock." for number in range(2000))
NEW = (
    "import json, sys; from ablate.cli import run; code = run(json.loads(sys.argv[1])); "
    "print(code, 'torch' in sys.modules)"
)


@pytest.fixture
def words(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT)
    return ["train", "data=local", "data.files=[text.txt]", "trainer=cpu", "trainer.steps=1", "row=mine"]


def test_it_is_answered_without_torch_and_only_where_it_is_the_same_run(words, tmp_path, capsys):
    assert run(words) == 0
    record = tmp_path / "runs" / "adhoc" / "mine" / "seed-0" / "record.json"
    before = record.read_bytes()
    answered = subprocess.run([sys.executable, "-c", NEW, json.dumps(words)], capture_output=True, text=True)
    assert answered.stdout.endswith("0 False\n") and "done, final loss" in answered.stdout, answered.stderr
    assert record.read_bytes() == before
    capsys.readouterr()
    assert run([*words, "norm=rmsnorm"]) == 2 and "already contains a run" in capsys.readouterr().err
    (tmp_path / "text.txt").write_text(TEXT + " More.")
    assert run(words) == 2 and "trained on different data" in capsys.readouterr().err
    assert record.read_bytes() == before


@pytest.mark.parametrize("change", ["data.files=[none.txt]", "objective=causal", "trainer.global_batch_tokens=100"])
def test_a_refused_run_leaves_no_folder(words, tmp_path, change):
    words = [change if word.partition("=")[0] == change.partition("=")[0] else word for word in words]
    assert run([*words, *{change} - {*words}]) == 2
    assert not (tmp_path / "runs").exists()
