"""The example of a package of variants: the README's files, listed and trained by the command, packed whole."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ablate.config import options
from tests.model.tiny import SHAPE

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "my_variants"
PACKAGE = "my_variants"
WORDS = "the cat sat on a mat and the dog lay by its side while rain fell".split()


def ablate(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """The command, started in `folder` as an installed one: Python itself does not look there for modules."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1", options.PLUGINS: PACKAGE}
    command = [sys.executable, "-m", "ablate", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=110)


@pytest.fixture
def folder(tmp_path):
    """A folder with the package in it, as beside one's own work."""
    shutil.copytree(EXAMPLE / PACKAGE, tmp_path / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_the_readme_shows_its_files():
    blocks = dict(re.findall(r"`(my_variants/\S+)`[^`]*```\w+\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL))
    assert sorted(blocks) == [f"{PACKAGE}/conf/norm/mean_absolute.yaml", f"{PACKAGE}/norms.py"]
    assert blocks == {name: (EXAMPLE / name).read_text() for name in blocks}


def test_is_listed_by_the_command(folder):
    done = ablate(folder, "options", "norm")
    assert done.returncode == 0, done.stderr
    assert re.search(r"mean_absolute +x / mean\|x\| \* g: mine", done.stdout)


@pytest.mark.timeout(120)
def test_trains_by_the_command(folder):
    choose = random.Random(0)
    (folder / "text.txt").write_text("\n\n".join(" ".join(choose.choices(WORDS, k=60)) for _ in range(200)))
    shape = [f"shape.{key}={value}" for key, value in {**SHAPE, "vocab_size": 640, "batch_tokens": 64}.items()]
    text = ["data=local", "data.files=text.txt", "evaluation.heldout.tokens=64", "trainer.steps=2"]
    done = ablate(folder, "train", "norm=mean_absolute", *text, *shape)
    assert done.returncode == 0, done.stderr
    (record,) = folder.glob("runs/adhoc/*/seed-0/record.json")
    assert '"done"' in record.read_text()


def test_its_wheel_has_code_and_options(tmp_path):
    source = shutil.copytree(EXAMPLE, tmp_path / "source", ignore=shutil.ignore_patterns("__pycache__"))
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "-w", str(tmp_path), str(source)], check=True, capture_output=True, timeout=110)
    (wheel,) = tmp_path.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith(f"{PACKAGE}/")}
    files = {str(path.relative_to(EXAMPLE)) for path in (EXAMPLE / PACKAGE).rglob("*.*") if path.suffix != ".pyc"}
    assert packed == files
