"""A package of someone else, written into the test's folder and named in ABLATE_PLUGINS."""

from __future__ import annotations

import itertools

import pytest

from ablate.config import options

NUMBERS = itertools.count()


@pytest.fixture
def write_plugin(tmp_path, monkeypatch):
    """`write_plugin({"means.py": text, "conf/norm/mean.yaml": text})`: a package of these files; its name.

    {package} in a YAML stands for the name, which is new each time, because Python keeps what it imported.
    """

    def write(files: dict[str, str]) -> str:
        name = f"other_{next(NUMBERS)}"
        for path, text in {"__init__.py": "", **files}.items():
            file = tmp_path / name / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text.replace("{package}", name) if path.endswith(".yaml") else text)
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setenv(options.PLUGINS, name)
        return name

    return write
