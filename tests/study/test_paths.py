"""The folders of a sweep are those of its runs, however their names are written."""

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ablate.config import compose_resolved
from ablate.errors import UserError
from ablate.study.paths import Paths


def quoted(name):
    """A value in the quotes of Hydra's grammar."""
    ending = len(name) - len(name.rstrip("\\"))
    name = name.replace("\\'", "\\\\'").replace("'", "\\'") if ending == 0 else name.replace("'", "\\'") + "\\" * ending
    return f"'{name}'"


NAMES = ["a b", "a'b", 'a"b', "a,b", "a=b", "a\\b", "ü", "$x", "{x}", "[x]", "a:b", "#x", "~", "%", "-", "a\\'b", "x\\"]


def of_driver_and_run(text):
    """The folder as the driver and as the run reads it, or the refusal of both."""
    found = []
    for reading in (Paths.of, lambda words: Paths(**compose_resolved(words)["paths"])):
        try:
            found.append(Path(reading([text]).runs).as_posix())
        except UserError as error:
            found.append(type(error))
    return found


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("write", [quoted, str, lambda name: f'"{name}"', lambda name: name.replace(" ", "\\ ")])
def test_the_driver_reads_a_folder_as_the_run_does(name, write):
    driver, run = of_driver_and_run(f"paths.runs={write('/tmp/' + name + '/runs')}")
    assert driver == run


@pytest.mark.parametrize("name", NAMES)
def test_a_quoted_name_is_taken_as_it_is(name):
    assert Paths.of([f"paths.runs={quoted('/tmp/' + name + '/runs')}"]).runs.as_posix() == f"/tmp/{name}/runs"


@settings(max_examples=150, deadline=None)
@given(st.text("ab '\"\\,=[]{}():#~%ü$é/.", min_size=1, max_size=8))
@example("${[}")
def test_whatever_is_written_is_read_once(name):
    driver, run = of_driver_and_run(f"paths.runs=/tmp/x{name}y")
    assert driver == run


@pytest.mark.parametrize("value", ["123", "null", "[a,b]", "{a: 1}", "true", "''"])
def test_what_is_no_folder_is_refused(value):
    with pytest.raises(UserError, match="paths.runs"):
        Paths.of([f"paths.runs={value}"])


def test_a_command_without_runs_takes_folders_alone():
    assert Paths.only(["paths.reports=/tmp/r"]).reports == Path("/tmp/r")
    for text in ("norm=rmsnorm", "paths.report=/tmp/r", "paths.reports", "paths.reports="):
        with pytest.raises(UserError, match="only paths.runs, .* can be set here") as caught:
            Paths.only(["paths.runs=/tmp/runs", text])
        assert str(caught.value).startswith(f"{text}: ")
    with pytest.raises(UserError, match="did you mean 'paths.reports'"):
        Paths.only(["paths.report=/tmp/r"])
