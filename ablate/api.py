"""What the package offers to Python: a config, a model with its loss, a run, the table of a sweep's runs.

Mistakes raise `UserError`, whose text is what the command prints: a line for each. `import ablate` gives these names
without loading torch; this module loads what a function needs when it is called.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.errors import UserError

if TYPE_CHECKING:
    import pandas
    from omegaconf import DictConfig
    from torch import Tensor

    from ablate.model.build import Model

__all__ = ["UserError", "build", "compose", "records", "train"]


def compose(overrides: Iterable[str] = ()) -> DictConfig:
    """The baseline's config with `overrides` such as ``["norm=rmsnorm", "shape=nano"]``, checked whole.

    Raises `UserError` with a line for each mistake.
    """
    from ablate.config import compose as composed

    return composed(_words(overrides))


def build(config: DictConfig) -> tuple[Model, Callable[[Mapping[str, Tensor]], Tensor]]:
    """The model that `config` describes, on the CPU and initialised from `seed.init`, and its training loss.

    ``loss_fn(batch)`` is the scalar to call ``backward()`` on, auxiliary losses included; `batch` is a mapping of
    tensors of ids (B, T): ``encoder_ids`` and ``decoder_ids``, each for the stacks that there are, and ``targets``;
    ``weights`` (B, T) where some targets do not count, ``prefix_lengths`` (B,) for a prefix decoder. Batch and model
    have to lie on one device. Raises `UserError` where parts do not fit together.
    """
    from omegaconf import DictConfig

    from ablate.config import build_model

    if not isinstance(config, DictConfig):
        raise UserError(f"ablate.build takes a config that ablate.compose has made, and was given {config!r:.80}")
    model = build_model(config)

    def loss_fn(batch: Mapping[str, Tensor]) -> Tensor:
        """The training loss of a batch."""
        loss: Tensor = model(batch)[0]
        return loss

    return model, loss_fn


def train(overrides: Iterable[str] = ()) -> dict[str, Any]:
    """Make or resume a run as ``ablate train`` does; returns its record, whose ``status`` says how it ended.

    The run's folder is ``runs/<sweep>/<row>/seed-<n>/`` below the current one; a finished run is only read.
    ``["sweep=axes", "row=SwiGLU"]`` is one run of a sweep. That a run failed or diverged is in its record. Raises
    `UserError` for a mistake in the overrides, for a folder with another run, and if another process has the run.
    """
    from ablate.cli import arguments
    from ablate.cli.sweep_row import expand_sweep_row

    words = _words(overrides)
    given = expand_sweep_row(arguments.only_overrides(arguments.sort(words), "ablate.train"))
    config = compose(given)
    from ablate.run.lock import Busy
    from ablate.training import run

    try:
        return run.request(config, given, shlex.join(["ablate", "train", *words])).to_json()
    except Busy as busy:
        raise UserError(str(busy)) from busy


def records(folder: str | Path) -> pandas.DataFrame:
    """The runs of one sweep, a line each: row, section, seed, status, losses, costs, speed, and where they were made.

    `folder` is a report's (``reports/axes``, with records.jsonl) or that of the runs (``runs/axes``). A number that is
    not known is NaN. Raises `UserError` if the folder has neither.
    """
    from ablate.report.analysis import gathering, records_file
    from ablate.run.folder import RunFolder, run_folders

    path = Path(folder).absolute()
    if (path / records_file.RECORDS).is_file():
        return records_file.read(path).frame()
    if not any(RunFolder(run).record.exists() for run in run_folders(path.parent, path.name)):
        raise UserError(
            f"{folder}: neither a report ({records_file.RECORDS}) nor the runs of a sweep (*/seed-*/record.json)"
        )
    from ablate.study.paths import Paths

    return gathering.collect(path.name, path.parent, Paths.of().sweeps).frame()


def _words(overrides: Iterable[str]) -> list[str]:
    if isinstance(overrides, str) or not isinstance(overrides, Iterable):
        raise UserError(f"{overrides}: overrides are a list, as in {[overrides or 'norm=rmsnorm']}")
    return [str(word) for word in overrides]
