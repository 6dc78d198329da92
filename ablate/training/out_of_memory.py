"""A training step for which the memory is not enough: what it needed, what is there, and what would fit."""

from __future__ import annotations

import contextlib
import gc
import re
import resource
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from ablate.config.batch import share
from ablate.errors import causes, is_out_of_memory
from ablate.footprint import Footprint, divisors, footprint

WORDS = "out of memory: a step with"
ASKED = re.compile(r"(?:allocate|allocate:) ([\d.]+) ?(bytes|[KMGT]i?B)")
UNITS = {"b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
OTHERS_SHARE = 0.1  # of a GPU, held by other processes, from which that is said


@dataclass(frozen=True)
class Shortage:
    """A step that did not fit: bytes that it needed at least, those that were there, and those that others hold."""

    needed: int
    room: int
    others: int
    why: str


class Room:
    """The memory of one device that a training may take, measured before it takes any."""

    def __init__(self, device_type: str) -> None:
        self.is_gpu = device_type == "cuda"
        self.others = 0
        if self.is_gpu:
            free, total = torch.cuda.mem_get_info()
            own = torch.cuda.memory_reserved()
            self.bytes, self.others = free + own, total - free - own
        else:
            self.before = _resident()
            self.bytes = min(_left_for_process())

    def shortage(self, error: BaseException) -> Shortage:
        """What `error`, raised for lack of memory in a step, says of it."""
        held = torch.cuda.memory_allocated() if self.is_gpu else _resident() - self.before
        needed = max(held + _asked_for(error), self.bytes)
        return Shortage(needed, self.bytes, self.others, " ".join(str(error).split())[:100] or type(error).__name__)


@contextlib.contextmanager
def noticed(room: Room, in_step: Callable[[], bool]) -> Iterator[list[Shortage]]:
    """While entered, a lack of memory in a step is no error: the list that is given has it afterwards.

    What the step had made is let go.
    """
    found: list[Shortage] = []
    try:
        yield found
    except Exception as error:
        if not (is_out_of_memory(error) and in_step()):
            raise
        found.append(room.shortage(error))
        for cause in causes(error):
            traceback.clear_frames(cause.__traceback__)


def give_back() -> None:
    """Free what a training has left behind."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def halved(cfg: DictConfig) -> int | None:
    """The largest micro-batch that is at most half of that of `cfg` and divides it; None where that is one sequence."""
    micro = share(cfg).micro_batch
    return max((one for one in divisors(micro) if one <= micro // 2), default=None)


def with_micro_batch(cfg: DictConfig, micro_batch: int) -> DictConfig:
    """The config of the same run with so many sequences at once."""
    changed = OmegaConf.merge(cfg, {"trainer": {"micro_batch": micro_batch}})
    assert isinstance(changed, DictConfig)
    return changed


def explained(cfg: DictConfig, shortage: Shortage) -> str:
    """A line on what a step of `cfg` needed, what is there, and what would fit."""
    micro = share(cfg).micro_batch
    try:
        count = footprint(cfg)
        needed = max(shortage.needed, count.of(micro))
        remedy = _remedy(cfg, count, needed / count.of(micro), shortage.room)
    except Exception:  # a part that cannot be counted must not hide what the run has died of
        needed, remedy = shortage.needed, "a smaller trainer.micro_batch needs less"
    others = f" ({_size(shortage.others)} are held by other processes)" if _is_shared(shortage) else ""
    return (
        f"{WORDS} trainer.micro_batch={micro} needs about {_size(needed)}, and there are "
        f"{_size(shortage.room)}{others}; {remedy}"
    )


def _remedy(cfg: DictConfig, count: Footprint, scale: float, room: int) -> str:
    """What fits into `room` bytes, where a step needs `scale` times what was counted."""
    shared = share(cfg)
    micro, each = shared.micro_batch, shared.sequences // shared.ranks
    smaller = [one for one in divisors(each) if one < micro]
    if fits := count.largest(smaller, room, scale):
        return f"by estimate trainer.micro_batch={fits} fits ({_size(count.of(fits) * scale)})"
    if not cfg.trainer.get("recompute"):
        again = OmegaConf.merge(cfg, {"trainer": {"recompute": True}})
        assert isinstance(again, DictConfig)
        less = footprint(again)
        if fits := less.largest([*smaller, micro], room, scale):
            words = f"trainer.recompute=true trainer.micro_batch={fits}"
            return f"by estimate {words} fits ({_size(less.of(fits) * scale)})"
    return f"by estimate not even one sequence at once fits ({_size(count.of(1) * scale)})"


def _is_shared(shortage: Shortage) -> bool:
    return shortage.others > OTHERS_SHARE * (shortage.room + shortage.others)


def _asked_for(error: BaseException) -> int:
    """The bytes of the allocation that failed, where a message says them."""
    for cause in causes(error):
        if match := ASKED.search(str(cause)):
            return round(float(match[1]) * UNITS[match[2][0].lower()])
    return 0


def _left_for_process() -> Iterator[int]:
    """What each limit of this system leaves to this process, in bytes."""
    with contextlib.suppress(OSError, StopIteration):
        yield _kilobytes(Path("/proc/meminfo"), "MemAvailable:")
    for root in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/memory")):
        for most, now in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            with contextlib.suppress(OSError, ValueError):  # "max" is no number: no limit
                yield max(0, int((root / most).read_text()) - int((root / now).read_text()))
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        with contextlib.suppress(OSError, StopIteration):
            yield max(0, limit - _kilobytes(Path("/proc/self/status"), "VmSize:"))
    yield 2**62


def _resident() -> int:
    try:
        return _kilobytes(Path("/proc/self/status"), "VmRSS:")
    except (OSError, StopIteration):
        return 0


def _kilobytes(file: Path, name: str) -> int:
    lines = file.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
