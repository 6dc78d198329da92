"""The peers that pip cannot install beside ours: python -m benchmarks.contestants.sources

litgpt is installed into a folder of its own without its dependencies, whose pins clash with ours: it uses the torch and
the lightning that are here. nanoGPT and nanoT5 are on no package registry; git fetches one commit of each. All of them
go to `benchmarks/.peers/`; what is there already stays. The comparison leaves out those that are absent and says so.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).parents[1] / ".peers"
COMMITS = {
    "nanogpt": ("https://github.com/karpathy/nanoGPT", "3adf61e154c3fe3fca428ad6bc3818b27a3b8291"),
    "nanot5": ("https://github.com/PiotrNawrot/nanoT5", "1375b389d33ab4f34754a9fca62e4cfa1dd52379"),
}
INSTALLED = {"litgpt": "0.5.13"}
COMMAND = "python -m benchmarks.contestants.sources"


def has(name: str) -> bool:
    """Whether a peer is there."""
    return (FOLDER / name).is_dir()


def version(name: str) -> str:
    """What is fetched of a peer: a version, or the beginning of a commit."""
    return INSTALLED[name] if name in INSTALLED else COMMITS[name][1][:7]


def load(name: str, path: str) -> ModuleType:
    """A single file of a fetched peer as a module, without what its package imports."""
    spec = importlib.util.spec_from_file_location(f"{name}_source", FOLDER / name / path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def fetch(name: str) -> None:
    """Bring one peer; a fetch that fails or is interrupted leaves nothing that looks like one."""
    unfinished = FOLDER / f"{name}.unfinished"
    unfinished.mkdir(parents=True, exist_ok=True)
    how: Callable[[str, Path], None] = _install if name in INSTALLED else _checkout
    how(name, unfinished)
    unfinished.rename(FOLDER / name)


def _install(name: str, folder: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--upgrade"]
    subprocess.run([*pip, "--target", str(folder), f"{name}=={INSTALLED[name]}"], check=True)


def _checkout(name: str, folder: Path) -> None:
    address, commit = COMMITS[name]
    git = ["git", "-C", str(folder)]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "fetch", "--quiet", "--depth", "1", address, commit], check=True)
    subprocess.run([*git, "checkout", "--quiet", "FETCH_HEAD"], check=True)


def main() -> int:
    """Bring what is missing; returns 1 if one could not be had."""
    failed = []
    for name in (*INSTALLED, *COMMITS):
        if has(name):
            print(f"{name}: there already")
            continue
        try:
            fetch(name)
            print(f"{name}: {version(name)}")
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"{name}: {error}", file=sys.stderr)
            failed.append(name)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
