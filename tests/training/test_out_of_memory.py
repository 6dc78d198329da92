"""A step that does not fit into the memory: what is said of it, and the one more try with half the micro-batch."""

import json
import resource
from pathlib import Path

import pytest
import torch

from ablate.config import compose
from ablate.run.folder import RunFolder
from ablate.training import module, out_of_memory, processes
from ablate.training import run as train
from ablate.training.out_of_memory import Room, Shortage, explained, halved
from tests.training.standin import folder_of, in_child, run

PLAIN = "dropout=0"
CUDA = (
    "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79.10 GiB of which 1.00 GiB is free."
)


@pytest.fixture
def short(monkeypatch):
    """`short(n)`: the first `n` steps with all sequences at once find no memory; the micro-batches that were tried."""

    whole, tried, limit = module.Training._backward, [], []

    def install(most):
        limit.append(most)

        def backward(self, batches, step):
            size = len(batches[0]["targets"])
            if not tried or tried[-1] != size:
                tried.append(size)
            if size > limit[-1]:
                raise torch.cuda.OutOfMemoryError(CUDA)
            return whole(self, batches, step)

        monkeypatch.setattr(module.Training, "_backward", backward)
        return tried

    return install


def losses(overrides):
    lines = folder_of(overrides).metrics.read_text().splitlines()[1:]
    return [float(line.split(",")[2]) for line in lines]


def test_the_micro_batch_is_halved_once_and_the_losses_are_the_same_to_rounding(asked, short):
    whole = run(asked(PLAIN, "sweep=whole"))
    tried = short(4)
    found = run(asked(PLAIN))
    assert tried == [8, 4] and (found.status, found.micro_batch) == ("done", 4)
    assert losses(asked(PLAIN)) == pytest.approx(losses(asked(PLAIN, "sweep=whole")), rel=1e-4)
    assert found.loss.final == pytest.approx(whole.loss.final, rel=1e-4)
    assert found.identity == whole.identity and whole.micro_batch is None
    folder = folder_of(asked(PLAIN))
    assert json.loads(folder.record.read_text())["micro_batch"] == 4
    assert "tried once more with trainer.micro_batch=4" in folder.log.read_text()
    assert run(asked(PLAIN)) == found and run(asked(PLAIN, "trainer.micro_batch=2")) == found, "the same run"


def test_no_more_than_once(asked, short):
    tried = short(2)
    found = run(asked(PLAIN))
    assert tried == [8, 4] and found.status == "failed" and found.micro_batch == 4
    assert found.reason.startswith("out of memory: a step with trainer.micro_batch=4 needs about")
    assert "by estimate" in found.reason
    assert "Traceback" not in folder_of(asked(PLAIN)).log.read_text()


def test_a_later_attempt_begins_with_what_was_found(asked, short):
    tried = short(2)
    assert run(asked(PLAIN)).micro_batch == 4
    del short(4)[:]
    assert run(asked(PLAIN)).status == "done" and tried == [4]


@pytest.mark.parametrize("option", ["row=dropped", "norm=batchnorm_encoder"])
def test_a_run_that_would_be_another_is_refused_with_what_fits(asked, short, option, monkeypatch):
    monkeypatch.setattr(Room, "shortage", lambda room, error: Shortage(10**9, 6 * 10**8, 0, ""))
    tried = short(4)
    found = run(asked(option, *([PLAIN] if "norm" in option else [])))  # dropout=0.1 where nothing is said
    assert tried == [8] and found.status == "failed" and found.micro_batch is None
    assert "trainer.micro_batch=8 needs about 1.0 GB, and there are 600 MB; by estimate trainer.micro_batch=" in (
        found.reason
    )


def test_only_where_a_step_has_met_it(asked, monkeypatch):
    from ablate.evaluation import heldout

    def fails(*_):
        raise MemoryError("no room")

    monkeypatch.setattr(heldout, "summed", fails)
    found = run(asked(PLAIN))
    assert found.status == "failed" and found.micro_batch is None


def test_the_memory_of_the_machine(asked):
    """A real lack of memory, in a process whose address space has a limit."""
    big = (PLAIN, "shape.d_ff=4096", "shape.batch_tokens=131072", "shape.steps=2")

    def limit():
        lines = Path("/proc/self/status").read_text().splitlines()
        used = 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmSize:"))
        resource.setrlimit(resource.RLIMIT_AS, (used + 700 * 2**20, resource.RLIM_INFINITY))

    assert in_child(asked(*big), limit) == 1
    found = folder_of(asked(*big)).read()
    assert found.status == "failed" and found.micro_batch == 4096
    assert found.reason.startswith("out of memory: a step with trainer.micro_batch=4096 needs about")


def test_what_would_fit():
    cfg = compose(["shape=nano", "trainer.micro_batch=16"])
    need = out_of_memory.footprint(cfg).of(16)
    said = explained(cfg, Shortage(need, need * 2 // 3, 0, ""))
    assert "trainer.micro_batch=8 fits" in said and "other processes" not in said
    said = explained(cfg, Shortage(need, need // 50, 2 * need, ""))
    assert "by estimate not even one sequence at once fits" in said and "held by other processes" in said
    count = out_of_memory.footprint(cfg)
    again = out_of_memory.footprint(compose(["shape=nano", "trainer.recompute=true"]))
    one = compose(["shape=nano", "trainer.micro_batch=1"])
    room = (count.of(1) + again.of(1)) // 2
    assert "trainer.recompute=true trainer.micro_batch=1 fits" in explained(one, Shortage(count.of(1), room, 0, ""))


def test_what_cannot_be_counted_does_not_hide_the_rest(monkeypatch):
    def fails(cfg):
        raise RuntimeError("no such operator on the meta device")

    monkeypatch.setattr(out_of_memory, "footprint", fails)
    said = explained(compose(["trainer.micro_batch=16"]), Shortage(3 * 10**9, 2 * 10**9, 0, ""))
    assert said == (
        "out of memory: a step with trainer.micro_batch=16 needs about 3.0 GB, and there are 2.0 GB; "
        "a smaller trainer.micro_batch needs less"
    )


@pytest.mark.parametrize(("micro", "half"), [(8, 4), (9, 3), (5, 1), (1, None)])
def test_half(micro, half):
    cfg = compose([f"shape.batch_tokens={360 * 64}", "shape.length=64", f"trainer.micro_batch={micro}"])
    assert halved(cfg) == half


@pytest.mark.parametrize(
    ("message", "size"),
    [(CUDA, 2.5 * 2**30), ("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4096 bytes. Error", 4096),
     ("HIP out of memory. Tried to allocate 20.00 MiB", 20 * 2**20), ("no room", 0)],
)  # fmt: skip
def test_the_size_of_what_was_asked_for(message, size):
    assert out_of_memory._asked_for(RuntimeError(message)) == size


def test_several_processes_are_begun_anew_by_the_one_that_starts_them(asked, monkeypatch):
    found, launched = asked(PLAIN, "trainer.devices=2"), []

    def launch(cfg, job, path):
        launched.append(RunFolder(path).read().micro_batch)
        folder = RunFolder(path)
        (folder.path / "said").write_text("")
        reason = f"{out_of_memory.WORDS} trainer.micro_batch=4 needs about 2.0 GB"
        from dataclasses import replace

        folder.write(replace(folder.read(), status="failed", reason=reason))
        return 1

    monkeypatch.setattr(processes, "launch", launch)
    made = train.run(compose(found), found, "ablate train")
    assert launched == [None, 2] and made.status == "failed" and made.micro_batch == 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_real_one_of_a_gpu():
    room = Room("cuda")
    with pytest.raises(torch.cuda.OutOfMemoryError) as caught:
        torch.empty(2**50, device="cuda")
    found = room.shortage(caught.value)
    assert found.needed > found.room > 0


def test_the_room_of_a_gpu(monkeypatch):
    free, total, own = 10, 100, 20
    for name, value in (("mem_get_info", (free, total)), ("memory_reserved", own), ("memory_allocated", 25)):
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    room = Room("cuda")
    assert (room.bytes, room.others) == (30, 70)
    found = room.shortage(torch.cuda.OutOfMemoryError("Tried to allocate 16 bytes"))
    assert found == Shortage(41, 30, 70, "Tried to allocate 16 bytes")
