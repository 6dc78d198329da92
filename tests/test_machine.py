"""The cores that a process may use."""

import os

import pytest

from ablate import machine
from ablate.data import cpu_count


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """`groups(own, **files)`: eight cores, this process in the control groups `own`, with these files among them."""
    monkeypatch.setattr(machine, "CGROUPS", tmp_path)
    monkeypatch.setattr(machine, "OWN_CGROUP", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("RAYON_NUM_THREADS", raising=False)

    def write(own="", files=()):
        (tmp_path / "own").write_text(own)
        for name, text in dict(files).items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)

    return write


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("", {}, 8),
        ("0::/\n", {"cpu.max": "300000 100000\n"}, 3),
        ("0::/a/b\n", {"cpu.max": "max 100000", "a/cpu.max": "250000 100000", "a/b/cpu.max": "max 100000"}, 2),
        ("0::/a\n", {"a/cpu.max": "50000 100000"}, 1),
        ("4:cpu,cpuacct:/x\n0::/\n", {"cpu,cpuacct/x/cpu.cfs_quota_us": "400000\n",
                                       "cpu,cpuacct/x/cpu.cfs_period_us": "100000\n"}, 4),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ("nonsense\n0::/\n", {"cpu.max": "nonsense"}, 8),
    ],
)  # fmt: skip
def test_the_quota_of_each_control_group_above_the_process_counts(groups, own, files, expected):
    groups(own, files)
    assert machine.cores() == machine.threads() == cpu_count.cores() == expected


def test_the_environment_says_how_many_threads_compute(groups, monkeypatch):
    groups()
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert (machine.cores(), machine.threads(), cpu_count.cores()) == (8, 3, 3)
    monkeypatch.setenv("OMP_NUM_THREADS", "none")
    assert machine.threads() == 8


def test_the_memory_of_the_smallest_gpu(monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.gpu_memory() is None, "no driver here"
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 81559\necho 24576\n")
    program.chmod(0o755)
    assert machine.gpu_memory() == 24576 * 2**20
    program.write_text("#!/bin/sh\necho '[N/A]'\n")
    assert machine.gpu_memory() is None
