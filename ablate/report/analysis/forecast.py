"""A forecast of a size that had not run: what forecast.json says, and how right it was."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import ndtr

from ablate.report.analysis.results import Results, number
from ablate.report.analysis.verdicts import Verdicts
from ablate.run import json_text
from ablate.run.record import DONE

FILE = "forecast.json"  # in the folder of the report on the size
SCHEMA = 1
LEVEL = 0.95
FARTHEST = 16.0  # times the FLOPs of the largest size that ran: beyond, a forecast says so
_MOST_BYTES = 2**24


@dataclass(frozen=True)
class Predicted:
    """A value foreseen as it will be measured: mean, sd, and an interval that holds it with probability `LEVEL`."""

    mean: float
    sd: float
    low: float
    high: float

    def holds(self, value: float) -> bool:
        """Whether the interval holds a value."""
        return self.low <= value <= self.high

    def crps(self, value: float) -> float:
        """The continuous ranked probability score of a value, as of a normal distribution (Gneiting, Raftery 2007).

        In the unit of the value; smaller is better. Of a forecast that is certain it is the size of its error.
        """
        z = (value - self.mean) / self.sd
        density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        return self.sd * (z * (2 * float(ndtr(z)) - 1) + 2 * density - 1 / math.sqrt(math.pi))


@dataclass(frozen=True)
class RowForecast:
    """A row's difference from its control, in nats, and the logarithm of its gain in tokens where that was known.

    `last` and `last_gain` are those at the largest size that had run, NaN where it had none.
    """

    nats: Predicted
    last: float
    gain: Predicted | None = None
    last_gain: float = math.nan


@dataclass(frozen=True)
class Source:
    """A size that a forecast rests on; `sha256` is the `digest` of its runs."""

    context: str
    parameters: float
    tokens: float
    flops: float
    runs: int
    sha256: str


@dataclass(frozen=True)
class Forecast:
    """A forecast of the rows and of the baseline's loss at one size, called SWEEP/SIZE.

    `flops` are those of a run of its baseline there, `steps` its steps; `made` is when it was written, UTC.
    """

    context: str
    made: str
    steps: int
    flops: float
    baseline: Predicted
    rows: Mapping[str, RowForecast]
    rests_on: list[Source]

    @property
    def factor(self) -> float:
        """The FLOPs of a run over those at the largest size that had run."""
        return self.flops / max(source.flops for source in self.rests_on)

    @property
    def is_far(self) -> bool:
        """Whether the size is further away than forecasts were tried for."""
        return self.factor > FARTHEST

    def text(self) -> str:
        """The content of forecast.json; its last key is the checksum of the others."""
        content = {"schema": SCHEMA, "level": LEVEL, **_json(asdict(self))}
        content = content | {"factor": self.factor, "is_far": self.is_far}
        return json.dumps(content | {"sha256": _checksum(content)}, indent=1, ensure_ascii=False) + "\n"


def read(path: Path) -> Forecast:
    """The forecast in a file; raises `ValueError` for one that is damaged, or was changed after it was written."""
    content = json_text.parse(json_text.read_text(path, _MOST_BYTES))
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise ValueError("it is not a forecast of this version")
    if content.get("sha256") != _checksum({key: value for key, value in content.items() if key != "sha256"}):
        raise ValueError("it was changed after it was written: its checksum differs")
    rows = {
        label: RowForecast(
            Predicted(**row["nats"]),
            _number(row["last"]),
            Predicted(**row["gain"]) if row["gain"] else None,
            _number(row["last_gain"]),
        )
        for label, row in content["rows"].items()
    }
    sources = [Source(**source) for source in content["rests_on"]]
    names = ("context", "made", "steps", "flops")
    return Forecast(
        **{name: content[name] for name in names},
        baseline=Predicted(**content["baseline"]),
        rows=rows,
        rests_on=sources,
    )


def digest(results: Results) -> str:
    """The SHA-256 of which finished runs there are, rungs included, and of their final losses."""
    parts = {"": results, **{f"x{factor:g}": rung for factor, rung in sorted(results.rungs.items())}}
    lines = [
        "\t".join([part, record["row"], str(record["seed"]), str(record.get("identity")), repr(loss)])
        for part, found in parts.items()
        for record in found.records
        if record["status"] == DONE
        for loss in [number(record, "loss", "final")]
    ]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


@dataclass(frozen=True)
class Score:
    """How right a forecast was: by row what was measured, in nats and as the logarithm of a gain, NaN where unknown.

    `early` are runs that had begun before it was made, `changed` the sizes whose runs are no longer those that it
    rests on.
    """

    forecast: Forecast
    nats: Mapping[str, float]
    gain: Mapping[str, float]
    loss: float
    early: int = 0
    changed: list[str] = field(default_factory=list)

    @property
    def rows(self) -> list[str]:
        """The rows that were foreseen and measured."""
        return [label for label in self.forecast.rows if math.isfinite(self.nats.get(label, math.nan))]

    @property
    def held(self) -> int:
        """How many intervals held what was measured."""
        return sum(self.forecast.rows[label].nats.holds(self.nats[label]) for label in self.rows)

    @property
    def error(self) -> float:
        """The root mean square of the forecasts' errors, in nats."""
        return _rms([self.forecast.rows[label].nats.mean - self.nats[label] for label in self.rows])

    @property
    def error_of_last(self) -> float:
        """The same where each row is taken to differ as it did at the largest size that had run."""
        errors = [self.forecast.rows[label].last - self.nats[label] for label in self.rows]
        return _rms([error for error in errors if math.isfinite(error)])

    @property
    def crps(self) -> float:
        """The mean score of the rows, in nats."""
        scores = [self.forecast.rows[label].nats.crps(self.nats[label]) for label in self.rows]
        return float(np.mean(scores)) if scores else math.nan


def scored(forecast: Forecast, results: Results, verdicts: Verdicts) -> Score:
    """The forecast beside what the runs of its size have shown; `results.sizes` tell whether the others are as then."""
    nats = {row.label: row.comparison.delta for row in verdicts.rows}
    gains = verdicts.gains
    logs = {row.label: gains.rows[row.label].tokens.log for row in verdicts.rows} if gains else {}
    everything = [*results.records, *(record for rung in results.rungs.values() for record in rung.records)]
    early = sum(str(record.get("started") or "~") < forecast.made for record in everything)
    changed = [
        source.context
        for source in forecast.rests_on
        if (found := results.sizes.get(source.context.rpartition("/")[2])) and digest(found) != source.sha256
    ]
    losses = verdicts.baseline.final[np.isfinite(verdicts.baseline.final)]
    loss = float(losses.mean()) if len(losses) else math.nan
    return Score(forecast, nats, logs, loss, early, changed)


def _rms(errors: list[float]) -> float:
    return math.sqrt(float(np.mean(np.square(errors)))) if errors else math.nan


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _json(value: Any) -> Any:
    """The value as JSON: null for what is not finite."""
    if isinstance(value, dict):
        return {key: _json(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_json(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
