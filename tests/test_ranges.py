"""What a key may be: the ready ranges, and those of a class with the classes above it."""

from __future__ import annotations

import hydra
import pytest

from ablate import ranges
from ablate.config import options
from ablate.config.root import SECTIONS
from ablate.errors import UserError
from ablate.ranges import (
    AMOUNT,
    COUNT,
    DEPTH,
    FRACTION,
    PART,
    POSITIVE,
    PROPER_FRACTION,
    RATE,
    above,
    at_least,
    groups_of,
    one_of,
    or_auto,
    whole,
)
from tests.option_keys import keys_of

CASES = [
    (whole(1), [1, 7, 2.0], [0, -1, 1.5, True, "x", float("inf"), float("nan")], "must be a whole number, 1 or more"),
    (whole(0), [0, 3], [-1, 0.5], "must be a whole number, 0 or more"),
    (above(1), [1.5, 2], [1, 0, "2"], "must be above 1"),
    (at_least(1), [1, 1.5], [0.5], "must be 1 or more"),
    (POSITIVE, [1e-9], [0, -1, False], "must be above 0"),
    (FRACTION, [0.1, 1], [0, 1.1], "must be above 0 and at most 1"),
    (PROPER_FRACTION, [0.5], [0, 1], "must be above 0 and below 1"),
    (RATE, [0, 0.9], [1, -0.1], "must be at least 0 and below 1"),
    (PART, [0, 1], [1.1, -0.1], "must be from 0 to 1"),
    (one_of("fail", "skip"), ["fail"], [None], "must be one of fail, skip"),
]


@pytest.mark.parametrize(("one", "good", "bad", "line"), CASES, ids=[line for *_, line in CASES])
def test_ready_ranges(one, good, bad, line):
    assert [one.problem(value) for value in good] == [""] * len(good)
    assert [one.problem(value) for value in bad] == [line] * len(bad)
    assert one.choices or one.problem(None) == ""


@pytest.mark.parametrize("value", [10**20, 1e30, 10**400])
@pytest.mark.parametrize(
    ("one", "line"),
    [(COUNT, "1,000,000,000"), (AMOUNT, "1,000,000,000,000,000"), (DEPTH, "10,000"), (whole(0, 4096), "4,096")],
)
def test_a_number_that_nothing_can_hold(one, line, value):
    assert one.problem(value) == f"must be at most {line}"
    assert one.problem(float("inf")).startswith("must be a whole number")


EDGES = {  # the least and the most
    "seed.base": (0, 2**63 - 1), "seed.data": (0, 2**63 - 1),
    "seed.init": (0, 2**63 - 1), "seed.dropout": (0, 2**63 - 1),
    "shape.d_model": (1, 10**6), "shape.n_layers": (1, 10**4),
    "shape.n_heads": (1, 10**6), "shape.head_dim": (1, 10**6),
    "shape.d_ff": (1, 10**9), "shape.vocab_size": (1, 10**7), "shape.length": (1, 10**9),
    "shape.batch_tokens": (1, 10**15), "shape.steps": (1, 10**15),
    "shape.n_kv_heads": (1, 10**6), "shape.window": (1, 10**9), "shape.d_inner": (1, 10**6),
    "trainer.devices": (1, 1024), "trainer.nodes": (1, 10_000), "trainer.steps": (1, 10**15),
    "trainer.global_batch_tokens": (1, 10**15), "trainer.micro_batch": (1, 10**15), "trainer.threads": (1, 4096),
    "trainer.log_every": (1, 10**15), "trainer.evaluate_every": (1, 10**15), "trainer.checkpoint_every": (1, 10**15),
}  # fmt: skip


def test_the_whole_numbers_that_the_root_takes():
    """Those at the edges are legal, those beyond are not, and every key of a whole number is here."""
    found = {f"{path}.{key}": one for path, cls in SECTIONS.items() for key, one in ranges.declared(cls).items()}
    assert {key for key, one in found.items() if "a whole number" in one.wanted} == set(EDGES)
    for key, (least, most) in EDGES.items():
        assert found[key].problem(least) == found[key].problem(most) == "", key
        assert found[key].problem(least - 1) and found[key].problem(most + 1), key


def test_a_key_that_may_be_auto():
    threads, kind = or_auto(whole(1, 8)), or_auto(one_of("none", "model"))
    assert threads.problem("auto") == threads.problem(8) == kind.problem("auto") == kind.problem("none") == ""
    assert threads.problem(0) == threads.problem(None) == "must be auto or a whole number, 1 or more"
    assert threads.problem("atuo") == "must be auto or a whole number, 1 or more; did you mean 'auto'?"
    assert threads.problem(9) == "must be at most 8"
    assert kind.problem("modl") == "must be one of auto, none, model; did you mean 'model'?"


def test_no_number_is_infinite():
    for one in (above(1), at_least(1), POSITIVE):
        assert one.problem(float("inf")) == "must be a finite number" and one.problem(float("nan"))


def test_the_nearest_word_is_offered():
    assert one_of("fail", "skip").problem("skp") == "must be one of fail, skip; did you mean 'skip'?"


class Above:
    ranges = {"eps": POSITIVE, "n": whole(1)}  # noqa: RUF012
    relations = {"n": groups_of("m")}  # noqa: RUF012


class Below(Above):
    ranges = {"n": whole(2)}  # noqa: RUF012


def test_a_class_has_the_ranges_of_those_above_it():
    assert [ranges.declared(Below)[key].wanted for key in ("eps", "n")] == ["above 0", "a whole number, 2 or more"]
    ranges.check(Below, "group", n=2, m=4, other=-3)
    with pytest.raises(UserError, match="^group.n=1: must be a whole number, 2 or more$"):
        ranges.check(Below, "group", n=1)
    with pytest.raises(UserError, match="^group.m=3 do not divide into group.n=2 groups$"):
        ranges.check(Below, "group", n=2, m=3)


def _classes(content):
    """The classes that an option's YAML names, at any depth."""
    if isinstance(content, dict):
        if "_target_" in content:
            yield hydra.utils.get_object(content["_target_"])
        for value in content.values():
            yield from _classes(value)


def test_a_range_is_of_a_key_that_its_class_has():
    """A misspelt one would be held against nothing."""
    files = (path for group in options.groups().values() for path in group.values())
    classes = {one for path in files for one in _classes(options.load(path)) if isinstance(one, type)}
    assert len(classes) > 50
    for one in (*classes, *SECTIONS.values()):
        assert set(ranges.declared(one)) | set(ranges.declared(one, "relations")) <= keys_of(one), one
