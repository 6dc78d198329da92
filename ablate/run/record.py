"""What record.json says of a run: the one place that knows its keys, their types and their units."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from ablate.run.json_object import OPTIONAL, DamagedJSON, JSONObject
from ablate.run.score import Score

SCHEMA = 1  # of record.json; raised when a key changes its meaning

RUNNING, DONE, DIVERGED, FAILED, PREEMPTED = "running", "done", "diverged", "failed", "preempted"
STATES = (RUNNING, DONE, DIVERGED, FAILED, PREEMPTED)
FINISHED = (DONE, DIVERGED)  # a divergence is a result
LARGEST_LOSS = 1e9  # nats a token; what is above has diverged, or is no loss
LARGEST = 2**53  # of any other number: up to there every reader of JSON takes it for the same
LARGEST_COUNT = 1e30  # of operations
OF_THE_REPORT = ("kind", "settings")  # keys that a line of records.jsonl has besides those of record.json
STARTING = "starting"  # in progress.json, the phase of a run, begun or resumed, that has not yet taken a step


class NewerRecord(DamagedJSON):
    """A record that may be whole, but is of a version that knows more: it is not to be replaced."""


@dataclass(frozen=True, kw_only=True)
class Git(JSONObject):
    """The state of the source tree; nulls outside a repository."""

    sha: str | None = None  # the commit, 40 hex digits
    dirty: bool | None = None  # whether tracked files differ from it


@dataclass(frozen=True, kw_only=True)
class Hardware(JSONObject):
    """Where the run was trained."""

    device: str | None = None  # its name, "NVIDIA H100 80GB HBM3"; of a CPU that of the processor
    kind: str | None = None  # cuda or cpu
    devices: int | None = None  # how many of them, over all nodes
    processor: str | None = None
    cores: int | None = None  # logical, of the machine


@dataclass(frozen=True, kw_only=True)
class Data(JSONObject):
    """The corpus after tokenization."""

    name: str | None = None
    sha256: str | None = None  # of the prepared corpus, 64 hex digits
    tokens: int | None = None  # in the training split
    validation_tokens: int | None = None
    documents: int | None = None  # in the training split
    validation_documents: int | None = None
    vocab_size: int | None = None
    python: str | None = None  # the version whose standard library is the text; null for other texts
    skipped: int | None = None  # documents that could not be read


@dataclass(frozen=True, kw_only=True)
class Parameters(JSONObject):
    """Learned numbers."""

    total: int | None = None
    non_embedding: int | None = None  # without embeddings and logits
    active: int | None = None  # those that act on any one token


@dataclass(frozen=True, kw_only=True)
class Timing(JSONObject):
    """A row's part in a sweep's timing pass, in which all rows were measured in turns, round by round."""

    began: str  # when the pass did, UTC: rounds of different passes do not belong together
    rounds: tuple[float, ...]  # steps per second, from the first round on
    other_load: tuple[float, ...] = ()  # cores that other processes kept busy meanwhile; empty where it is not known
    load_before: float | None = None  # the same, before the pass began


@dataclass(frozen=True, kw_only=True)
class StepsPerSecond(JSONObject):
    """Optimizer steps per second."""

    median: float | None = None  # over the steps of the run, warm-up, evaluation and checkpoints left out
    p25: float | None = None  # the quartiles
    p75: float | None = None
    exclusive: float | None = None  # from the sweep's timing pass, with no other run under way: the rounds' median
    timing: Timing | None = field(default=None, metadata=OPTIONAL)  # what `exclusive` is from; older records lack it


@dataclass(frozen=True, kw_only=True)
class Loss(JSONObject):
    """Held-out cross-entropy."""

    early: float | None = None  # nats per target token, after `early_step` steps
    final: float | None = None  # the same after `final_step` steps, the last
    early_step: int | None = None
    final_step: int | None = None
    bits_per_byte: float | None = None  # of text, after `final_step` steps
    early_bits_per_byte: float | None = None
    tokens: int | None = None  # targets that the loss is a mean over
    bytes: int | None = None  # of text in them


@dataclass(frozen=True, kw_only=True)
class Spike(JSONObject):
    """A step at which the loss, or the gradient norm, rose far above that of the steps before."""

    step: int
    what: str  # loss or gradient norm
    value: float
    deviations: float  # standard deviations above the mean of the last 128 steps


@dataclass(frozen=True, kw_only=True)
class Spikes(JSONObject):
    """What was unsteady about the training: steps at least six deviations (or trainer.skip_spikes) above the mean."""

    count: int
    skipped: int  # how many of them trained nothing, as trainer.skip_spikes has it
    first_step: int
    largest: Spike


@dataclass(frozen=True, kw_only=True)
class Record(JSONObject):
    """A run: its request, what it was made with, what it cost, how it ended.

    The order of the fields is that of the keys in record.json. None is what is not known (yet).
    """

    schema: int
    sweep: str
    context: str = field(default="", metadata=OPTIONAL)  # of the sweep, where it has several
    row: str  # the label
    overrides: tuple[str, ...] = ()
    command: str = ""  # what a person types to make it again
    seed: int
    identity: str | None = None  # 16 hex digits: what names the result (ablate.config.identity); known with the text
    identity_schema: int = field(default=1, metadata=OPTIONAL)  # of `identity`; older records do not say it
    code: Mapping[str, str] | None = None  # modules outside this project that the config names: hash of their source
    status: str  # one of STATES
    reason: str = ""  # why it failed or diverged, or the signal that stopped it
    versions: Mapping[str, str] | None = None  # of Python and of the packages that compute
    git: Git | None = None
    hardware: Hardware | None = None
    data: Data | None = None
    parameters: Parameters | None = None
    ops_paper: float | None = None  # multiply-accumulates of a forward pass over the global batch, as papers count them
    flops_per_step: float | None = None  # forward and backward
    tokens_per_step: int | None = None  # input tokens of the global batch
    steps_per_second: StepsPerSecond | None = None
    tokens_per_second: float | None = None  # input tokens
    mfu: float | None = None  # model FLOP utilisation, 0 to 1; null for a device whose peak is not known
    peak_memory_bytes: int | None = None  # of the GPU where there is one, else resident
    data_wait_fraction: float | None = None  # the part of the steps' time spent waiting for data, 0 to 1
    loss: Loss | None = None
    step: int | None = None  # optimizer steps taken
    finished: str | None = None  # when the last attempt ended: UTC, as `now` writes it
    downstream: Mapping[str, float] = field(default_factory=dict)  # higher is better, by task
    rounded: tuple[str, ...] = field(default=(), metadata=OPTIONAL)  # numbers of a preset that the shape has only about
    scores: Mapping[str, Score] = field(default_factory=dict, metadata=OPTIONAL)  # of evaluations, by name
    scores_failed: Mapping[str, str] = field(
        default_factory=dict, metadata=OPTIONAL
    )  # evaluations, and why they failed
    scores_missed: Mapping[str, str] = field(
        default_factory=dict, metadata=OPTIONAL
    )  # points of training that an evaluation was to be taken at and has no score of, and why
    tags: tuple[str, ...] = ()  # the axes that the overrides choose on, as group:option
    seconds: float | None = None  # of wall time, over all attempts
    attempts: int | None = None
    started: str | None = None  # when the first attempt began: UTC
    spikes: Spikes | None = field(default=None, metadata=OPTIONAL)  # of the training loss; absent where there was none
    micro_batch: int | None = field(default=None, metadata=OPTIONAL)  # sequences a device took at once, where it was
    # halved as the memory did not suffice
    decided: Mapping[str, str] = field(default_factory=dict, metadata=OPTIONAL)  # keys asked to be auto: value, by what
    rebuilt: str = field(default="", metadata=OPTIONAL)  # why and from what, where the run's own record was damaged
    checksum: str | None = field(default=None, compare=False, metadata=OPTIONAL)  # SHA-256 of all other keys

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The record that `content` describes; raises `DamagedJSON` where that cannot be a record of this version.

        Records of earlier versions have no checksum, and are held against the bounds of their numbers alone.
        """
        schema = content.get("schema")
        if isinstance(schema, (int, float)) and schema > SCHEMA:
            raise NewerRecord(f"has schema {schema!r:.40}; this version reads up to {SCHEMA}")
        if content.get("checksum") is not None and content["checksum"] != checksum(content):
            raise DamagedJSON("damaged: its checksum differs")
        record = super().from_json(content)
        if record.status not in STATES:
            raise NewerRecord(f"status must be one of {', '.join(STATES)}, and is {record.status!r:.60}")
        _check_numbers(record)
        if record.status == DONE:
            record._check_done()
        return record

    def _check_done(self) -> None:
        if self.final_loss is None:
            raise DamagedJSON("says done, but has no final loss")
        last = self.loss.final_step if self.loss else None
        if self.step is not None and last is not None and self.step < last:
            raise DamagedJSON(f"says done, but after {self.step} of {last} steps")

    def with_checksum(self) -> Self:
        """The record as it is written, with the checksum of its other content."""
        return replace(self, checksum=checksum(self.to_json()))

    @property
    def final_loss(self) -> float | None:
        """Held-out nats per token after the last step."""
        return self.loss.final if self.loss else None

    @property
    def data_sha256(self) -> str | None:
        """Of the prepared corpus."""
        return self.data.sha256 if self.data else None

    @property
    def exclusive_speed(self) -> float | None:
        """Steps per second, measured with no other run under way."""
        return self.steps_per_second.exclusive if self.steps_per_second else None

    @property
    def speed_rounds(self) -> tuple[float, ...]:
        """Steps per second in each round of the timing pass; empty where they are not known."""
        timing = self.steps_per_second.timing if self.steps_per_second else None
        return timing.rounds if timing else ()


def checksum(content: Mapping[str, Any]) -> str:
    """The SHA-256 of a record's JSON, in any order; a line of records.jsonl has that of its record."""
    counted = {key: value for key, value in content.items() if key not in ("checksum", *OF_THE_REPORT)}
    text = json.dumps(counted, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def is_loss(value: float) -> bool:
    """Whether a number can be a cross-entropy: 0 or more, and small enough to calculate with."""
    return 0 <= value <= LARGEST_LOSS


def _check_numbers(part: JSONObject, where: str = "") -> None:
    """Refuse numbers that nothing in a record can be: negative ones, and those too large to calculate with."""
    for name, value in vars(part).items():
        if isinstance(value, JSONObject):
            _check_numbers(value, f"{where}{name}.")
        elif isinstance(value, (int, float)):
            largest = LARGEST_COUNT if name in ("ops_paper", "flops_per_step") else LARGEST
            if isinstance(part, Loss) and name in ("early", "final"):
                largest = LARGEST_LOSS
            if not 0 <= value <= largest:
                raise DamagedJSON(f"{where}{name} must be from 0 to {largest:g}, and is {value!r:.40}")
    if isinstance(part, Timing):
        _check_timing(part)
    for task, value in getattr(part, "downstream", {}).items():
        if not abs(value) <= LARGEST_COUNT:
            raise DamagedJSON(f"downstream.{task} must be a finite number, and is {value!r:.40}")


def _check_timing(timing: Timing) -> None:
    """Refuse speeds and loads that cannot be calculated with."""
    if not all(0 < speed <= LARGEST for speed in timing.rounds):
        raise DamagedJSON("steps_per_second.timing.rounds must be above 0")
    if not all(0 <= load <= LARGEST for load in timing.other_load):
        raise DamagedJSON("steps_per_second.timing.other_load must be 0 or more")


def now() -> str:
    """The time, UTC, as records have it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
