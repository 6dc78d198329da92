"""Ablation benchmarks for Transformer language models: which change is worth having, and how sure are we?

    import ablate

    config = ablate.compose(["norm=rmsnorm", "shape=nano"])     the config of a run
    model, loss_fn = ablate.build(config)                       a model to train by a loop of your own
    record = ablate.train(["norm=rmsnorm", "trainer.steps=50"]) a run, as by the command `ablate train`
    frame = ablate.records("reports/axes")                      the runs of a sweep, a line each

Importing the package loads none of the libraries that these need; the first use of a name does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ablate.api import build, compose, records, train
    from ablate.errors import UserError

__version__ = "0.1.0"
__all__ = ["UserError", "__version__", "build", "compose", "records", "train"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ablate import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
