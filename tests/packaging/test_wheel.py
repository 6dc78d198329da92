"""The wheel, installed where there is no checkout: everything it needs is in it."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

import ablate

ROOT = Path(__file__).parents[2]
SOURCES = ("ablate", "conf", "sweeps", "pyproject.toml", "setup.py", "README.md", "LICENSE", "constraints.txt")
SMALL = [
    "shape.d_model=16", "shape.n_layers=1", "shape.n_heads=2", "shape.head_dim=8", "shape.d_ff=16",
    "shape.vocab_size=768", "shape.length=16", "shape.batch_tokens=64", "trainer.steps=2", "trainer=cpu",
    "data=local", "data.files=[text.txt]", "evaluation.heldout.tokens=64",
]  # fmt: skip


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of the working tree, built from a copy, so that nothing is left behind in it."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    checked([*command, str(source)], folder)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """An environment of its own with the wheel, which sees the installed packages but no checkout."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    scheme = {"base": str(folder / "venv"), "platbase": str(folder / "venv")}
    packages = Path(sysconfig.get_path("purelib", "venv", scheme))
    target = [sys.executable, "-m", "pip", "--python", str(folder / "venv" / "bin" / "python"), "install"]
    checked([*target, "--quiet", "--no-deps", "--no-index", str(wheel)], folder)
    (packages / "others.pth").write_text(f"{sysconfig.get_path('purelib')}\n")  # its own .pth files are not read
    return Here(folder / "venv" / "bin", folder, packages)


class Here:
    """An environment's programs, and a folder to call them in."""

    def __init__(self, programs: Path, folder: Path, packages: Path) -> None:
        self.programs, self.folder, self.packages = programs, folder, packages

    def __call__(self, *words: str, where: Path) -> str:
        """What `ablate WORDS` prints, called in the folder `where`."""
        return checked([str(self.programs / "ablate"), *words], where)


def checked(command, where):
    """The output of a command that has to succeed; the checkout is on no path of its."""
    env = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "ABLATE_PLUGINS")}
    done = subprocess.run(command, cwd=where, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def write_text(folder):
    choose = random.Random(0)
    words = ["".join(choose.choices("abcdefghijklmnop", k=choose.randint(2, 8))) for _ in range(300)]
    (folder / "text.txt").write_text("\n\n".join(" ".join(choose.choices(words, k=100)) for _ in range(300)))


def test_what_is_in_the_wheel(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("conf", "sweeps"):
        for path in (ROOT / folder).rglob("*.yaml"):
            assert f"ablate/{path.relative_to(ROOT).as_posix()}" in names
    for path in (ROOT / "ablate").rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            assert path.relative_to(ROOT).as_posix() in names
    about = f"ablate-{ablate.__version__}.dist-info"
    assert {name.partition("/")[0] for name in names} == {"ablate", about}
    assert f"{about}/licenses/LICENSE" in names


@pytest.mark.timeout(300)
def test_the_command_in_an_empty_folder(installed, tmp_path):
    told = checked([str(installed.programs / "python"), "-c", "import ablate; print(ablate.__file__)"], tmp_path)
    assert Path(told.strip()) == installed.packages / "ablate" / "__init__.py"
    assert "* layernorm" in installed("options", where=tmp_path)
    assert "223,043,328" in installed("cost", "shape=paper", where=tmp_path)
    assert "12 rows, 60 runs" in installed("plan", "axes", where=tmp_path)
    assert not list(tmp_path.iterdir())
    write_text(tmp_path)
    assert "seed 0: done, final loss" in installed("train", *SMALL, where=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"text.txt", "corpora", "runs"}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_an_environment_from_nothing(wheel, tmp_path):
    """With its dependencies, and nothing else: that none is missing."""
    venv.create(tmp_path / "venv", with_pip=True, symlinks=True)
    programs, work = tmp_path / "venv" / "bin", tmp_path / "work"
    pip = [str(programs / "python"), "-m", "pip"]
    checked([*pip, "install", "--quiet", str(wheel), "-c", str(ROOT / "constraints.txt")], tmp_path)
    checked([*pip, "check"], tmp_path)
    work.mkdir()
    write_text(work)
    here = Here(programs, work, tmp_path)
    (work / "sweeps").mkdir()
    (work / "sweeps" / "two.yaml").write_text(
        f"question: Does it run?\nbase: {SMALL}\nbaseline: Base\nrows: {{Base: [], RMS: [norm=rmsnorm]}}\n"
        "seeds: {baseline: 2, rows: 2}\n"
    )
    here("sweep", "two", "timing=0", where=work)
    assert (work / "reports" / "two" / "report.md").is_file()
