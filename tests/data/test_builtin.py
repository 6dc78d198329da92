"""The text that every installation has."""

import os
import textwrap

import pytest

from ablate.data import builtin, docstrings
from ablate.data.builtin import Builtin
from ablate.data.data_faults import DataFaults
from ablate.errors import UserError
from tests import cpu_seconds


def test_units_of_a_file_are_its_module_and_its_classes(tmp_path):
    file = tmp_path / "a.py"
    file.write_text(
        textwrap.dedent('''
        """What this module is for, told in a sentence of English."""
        raise SystemExit("must not run")
        def f():
            """What the function gives to those who call it.

            >>> f()
            42

            Notes
            -----
            This is one paragraph of the notes that follow,
                with a second line.
            """
            def inner():
                """What stands inside of a function counts, too."""
        class A:
            """A class that is here to be read by a test."""
            def g(self):
                """A method of that class, and what it does."""
        ''')
    )
    assert docstrings.units_of(str(file)) == [
        [
            "What this module is for, told in a sentence of English.",
            "What the function gives to those who call it.",
            "Notes\nThis is one paragraph of the notes that follow,\nwith a second line.",
            "What stands inside of a function counts, too.",
        ],
        ["A class that is here to be read by a test.", "A method of that class, and what it does."],
    ]
    file.write_text("this is (no Python")
    assert docstrings.units_of(str(file)) == []


def test_repeated_paragraphs_stand_once():
    seen = set()
    first = "The axis along which the operation is done, counted from 0."
    near = "the axis along which the operation is done -- counted from 1"
    assert list(builtin._unseen([[first, "A short one."], [near, "A short one."]], seen)) == [
        [first, "A short one."],
        [],
    ]
    assert list(builtin._unseen([[first, "A short one."]], seen)) == [["A short one."]]


def test_documents_have_a_useful_length():
    unit = ["x" * 90] * 10
    documents = list(builtin._join(iter([unit, unit, ["y" * 300] * 40, ["z" * 100]])))
    assert len(documents[0]) >= builtin.USEFUL
    assert all(builtin.SHORTEST <= len(text) <= builtin.LONGEST + 1 for text in documents)
    assert "z" not in "".join(documents)


def test_the_standard_library_alone(monkeypatch):
    """Read without importing, the same with any number of processes, ordered by hash and cut off."""
    monkeypatch.setattr(Builtin, "_files", lambda self, faults: files(self, faults)[::12])
    faults = DataFaults()
    whole = list(Builtin(["no-such-package"], 10**9).documents(faults))
    assert faults.noted == {"package not installed": 1}
    assert sum(map(len, whole)) > 50_000 and len(set(whole)) == len(whole)
    monkeypatch.setenv("RAYON_NUM_THREADS", "3")
    part = list(Builtin([], 20_000).documents(DataFaults()))
    assert part == whole[: len(part)] and 20_000 <= sum(map(len, part)) < 30_000


files = Builtin._files


def test_versions_decide_the_fingerprint():
    fingerprint = Builtin(["numpy", "no-such-package"], 1000).fingerprint()
    assert fingerprint["packages"]["no-such-package"] is None and fingerprint["packages"]["numpy"]
    assert fingerprint["python"].startswith("3.")


def test_installed_packages_are_found_by_their_distribution():
    (folder,) = builtin._folders("hydra-core")
    assert folder.name == "hydra" and os.path.isdir(folder)
    assert all("/tests/" not in file for file in Builtin(["numpy"], 1)._files(DataFaults()))


def test_finding_the_files_is_quick():
    with cpu_seconds.at_most(20):
        assert len(Builtin(["torch", "sympy"], 1)._files(DataFaults())) > 2000


def test_a_reader_that_hangs_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(builtin, "READING", 0.01)
    with pytest.raises(UserError, match="^data=builtin: the docstrings were not read within"):
        list(builtin.Builtin([], 10_000).documents(DataFaults("fail")))
