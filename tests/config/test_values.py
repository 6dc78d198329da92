"""Ranges belong to the class that has the key: of the project, of a plugin, or of a section of the root."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys

import pytest
from hydra.utils import get_object

from ablate import ranges
from ablate.config import compose, options
from ablate.config.root import SECTIONS, Root
from ablate.config.values import declared
from ablate.errors import UserError
from tests.option_keys import keys_of

HEAVY = "\nraise AssertionError('imported')\n"
MODULE = """
from ablate import ranges
from ablate.model.attention import Attention
from ablate.ranges import PART, above as more_than


class Mine(Attention):
    ranges = {"share": PART, "slope": more_than(2), "kind": ranges.one_of("near", "far"), "deep.size": ranges.whole(3)}
    relations = {"reach": ranges.covers("objective.length")}
"""
OPTION = """# Mine
_target_: {package}.mine.Mine
n_heads: 6
n_kv_heads: 6
head_dim: 8
score_scale: 1.0
share: 0.5
slope: 3.0
kind: near
reach: 64
final: 2.0
rank: 0
base: 0.5
dropout: 3.0
deep:
  size: 4
inner:
  _target_: ablate.model.norm.RMSNorm
  eps: 1e-6
"""


@pytest.fixture
def plugin(write_plugin):
    return write_plugin({"mine.py": MODULE + HEAVY, "conf/attention/mine.yaml": OPTION})


def test_a_key_without_a_declared_range_is_free(plugin):
    assert compose(["attention=mine", "attention.rank=0", "attention.base=0.1"]).attention.final == 2.0


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("share=1.5", "attention.share=1.5: must be from 0 to 1"),
        ("slope=2", "attention.slope=2.0: must be above 2"),
        ("kind=nera", "attention.kind=nera: must be one of near, far; did you mean 'near'?"),
        ("deep.size=2", "attention.deep.size=2: must be a whole number, 3 or more"),
        ("reach=63", "objective.length=64 is longer than attention.reach=63"),
        ("head_dim=0", "attention.head_dim=0: must be a whole number, 1 or more"),
        ("n_kv_heads=4", "attention.n_heads=6 do not divide into attention.n_kv_heads=4 groups"),
        ("inner.eps=0", "attention.inner.eps=0.0: must be above 0"),
    ],
)
def test_a_plugins_class_declares_ranges_and_has_those_above_it(override, line, plugin):
    """Read from its source: the module cannot be imported."""
    with pytest.raises(UserError) as caught:
        compose(["attention=mine", f"attention.{override}"])
    assert str(caught.value) == line


def test_ranges_that_cannot_be_read_get_a_line(write_plugin):
    package = write_plugin({
        "mine.py": "class Mine:\n    ranges = {'eps': lambda value: value > 0}\n",
        "conf/norm/mine.yaml": "# Mine\n_target_: {package}.mine.Mine\neps: 1\n",
    })  # fmt: skip
    with pytest.raises(UserError) as caught:
        compose(["norm=mine"])
    assert str(caught.value) == (
        f"{package}.mine.Mine: ranges must be a dictionary of what ablate.ranges offers, such as {{'eps': POSITIVE}}"
    )


def test_the_source_says_what_the_class_says():
    targets = {
        target
        for files in options.groups().values()
        for path in files.values()
        for target in _targets(options.load(path))
    }
    assert len(targets) > 60
    for target in sorted(targets):
        made = get_object(target)
        for name in ("ranges", "relations"):
            by_class = ranges.declared(made, name) if isinstance(made, type) else {}
            by_source = declared(target, name)
            assert {key: _shown(one) for key, one in by_source.items()} == {
                key: _shown(one) for key, one in by_class.items()
            }
    assert set(declared("ablate.training.schedule.InverseSquareRootDecay", "ranges")) > {"peak", "decay"}


def _targets(tree):
    own = [tree["_target_"]] if "_target_" in tree else []
    return own + [target for inner in tree.values() if isinstance(inner, dict) for target in _targets(inner)]


def _shown(one):
    return one.wanted if isinstance(one, ranges.Range) else one.other


def test_the_sections_have_the_keys_of_their_options():
    for section, cls in SECTIONS.items():
        fields = {field.name for field in dataclasses.fields(cls)}
        assert fields >= set(cls.ranges), section
        if section in options.groups() and section != "data":
            for path in options.groups()[section].values():
                keys = set(options.load(path))
                needed = {field.name for field in dataclasses.fields(cls) if field.default is dataclasses.MISSING}
                if section == "shape":
                    assert needed <= keys <= (fields if "published" in keys else needed), path
                else:
                    assert keys == fields, path
    root = options.load(options.CONF / "config.yaml")
    assert {key for key, value in root.items() if not isinstance(value, dict) and key != "defaults"} == {
        field.name for field in dataclasses.fields(Root)
    }
    for path in options.groups()["data"].values():
        assert {field.name for field in dataclasses.fields(SECTIONS["data"])} <= set(options.load(path))


def test_nothing_heavy_is_imported_to_judge_a_config():
    code = "import sys; from ablate.config import compose; compose(['norm.eps=1e-3']); print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": "."}
    )
    assert done.stdout == "False\n", done.stderr


def option_classes():
    """Every class that an option of the project names, at any depth, with the keys that the option gives it."""
    from ablate.config import options

    def walk(content, where):
        if isinstance(content, dict):
            if isinstance(content.get("_target_"), str):
                yield content["_target_"], where
            for key, value in content.items():
                yield from walk(value, f"{where}.{key}")

    for group, files in options.groups().items():
        for option in files:
            path = options.CONF / group / f"{option}.yaml"
            yield from walk(options.load(path), f"{group}={option}")


@pytest.mark.parametrize(("target", "where"), sorted(set(option_classes())), ids=lambda word: word)
def test_a_range_is_of_a_key_that_the_class_has(target, where):
    """A range under a misspelt key would let anything in."""
    import importlib

    module, _, name = target.rpartition(".")
    made = getattr(importlib.import_module(module), name)
    known = keys_of(made)
    for table in ("ranges", "relations"):
        for key in getattr(made, table, {}):
            assert key.split(".")[0] in known, f"{target}.{table}: {key}"
