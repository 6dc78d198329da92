"""What the C library is told of memory."""

import ctypes
from types import SimpleNamespace

import pytest

from ablate import allocator
from ablate.sweep import fork_server


@pytest.fixture
def told(monkeypatch):
    """What `mallopt` is called with."""
    calls = {}
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace(mallopt=calls.__setitem__))
    for name in allocator.OPTIONS:
        monkeypatch.delenv(name, raising=False)
    return calls


def test_a_run_by_itself_keeps_memory_as_those_of_a_sweep_do(told):
    allocator.keep_large_blocks()
    assert told == {-3: 1 << 30, -1: (1 << 31) - 1, -2: 1 << 26}
    assert set(map(str, told.values())) == {fork_server.ENVIRONMENT[name] for name in allocator.OPTIONS}


def test_what_a_person_sets_holds(told, monkeypatch):
    monkeypatch.setenv("MALLOC_TOP_PAD_", "0")
    allocator.keep_large_blocks()
    assert told.keys() == {-3, -1}


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace())
    allocator.keep_large_blocks()


def test_the_c_library_takes_the_options(monkeypatch):
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        pytest.skip("it is about glibc")
    assert all(mallopt(number, value) == 1 for number, value in allocator.OPTIONS.values())
