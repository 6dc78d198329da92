"""What an evaluation is: a class that scores a trained model, chosen by a file in `conf/evaluation`.

To add one, write a module and a YAML file, here or in a package of your own that `ABLATE_PLUGINS` names:

    # my_package/first_token.py                              # my_package/conf/evaluation/first_token.yaml
    class FirstTokenLoss(Evaluation):                        # Loss of the first target of each sequence
        def __init__(self, *, tokens, seed): ...             first_token:
        def evaluate(self, model, context):                    _target_: my_package.first_token.FirstTokenLoss
            ...                                                tokens: 65536
            return {"first_token_loss": Score(...)}            seed: 1

`evaluation=[heldout,first_token]` then runs it after training, or on a finished run whose weights were kept; its scores
reach the record, the tables, the heat map and, where they have a curve, curves.csv. Nothing else has to change.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from ablate.config.instantiation import fill
from ablate.errors import reason_of
from ablate.run.score import Score

if TYPE_CHECKING:
    from ablate.data.corpus import Corpus
    from ablate.data.tokenizer_backends import Tokenizer
    from ablate.model.build import Model

Batch = dict[str, Tensor]
T = TypeVar("T")
FAILED_ELSEWHERE = "it failed in another process"

# What an evaluation that is part of training gives: the loss of the run in nats a token, over `items` targets, and,
# where these stand for text, bits a byte of it, over `items` bytes.
LOSS, BITS_PER_BYTE = "loss", "bits_per_byte"


class StopRequested(Exception):
    """The evaluation ended early, because the run was requested to stop."""


class FailedElsewhere(Exception):
    """What all processes do together has failed in another one."""


class CollectiveError(RuntimeError):
    """A collective operation has failed, so the processes can agree on nothing more: this one has to end."""


@dataclass(frozen=True)
class Partial:
    """What an evaluation of several parts found where some of them failed: those parts by name, with the reason."""

    scores: Mapping[str, Score]
    failed: Mapping[str, str]


@dataclass(frozen=True)
class Context:
    """What an evaluation may use beside the model.

    config: the run's composed config, to build or train another model from.
    corpus: the prepared text, with the layout of its ids and the bytes that each id stands for.
    heldout: (tokens, seed) -> held-out batches of about `tokens` input tokens, as the objective makes them, windows and
        masks drawn from `seed`; of several processes each gets its own share. Tensors are on the CPU; `on_device`
        moves them. (tokens, seed, length) -> the same in sequences of another length than in training.
    device, rank, world_size: where this process calculates, and which of how many it is.
    autocast: a context manager in which the model calculates in `precision` (fp32 or bf16).
    seed: the seed of the run; torch's generators start from it in every evaluation.
    folder: a folder for this evaluation alone, there already and kept between attempts, to resume in.
    stop: whether the run was requested to stop; call it often, as it also shows that the run is alive. Of several
        processes none may leave alone, so there it is always false; see `stops_together`.
    stop_of_all: of several processes, whether any was requested to stop; every process has to call it. Raises
        `FailedElsewhere` as `total` does.
    stop_together: the same, for one process and for several, which all have to call it at the same place: all of them
        are told the same. Raises `FailedElsewhere` where what they are at has failed in another.
    total: the sum of a tensor over all processes; every process has to call it. Raises `FailedElsewhere` where what
        they are at has failed in another.
    any_process: whether a flag is true in any process; every process has to call it. With true it says that what they
        are at has failed here: see `attempted`.
    say: prints a line, such as how far it is, once for all processes.
    """

    config: DictConfig
    corpus: Corpus
    heldout: Callable[..., list[Batch]]
    device: torch.device
    rank: int
    world_size: int
    precision: str
    autocast: Callable[[], AbstractContextManager]
    seed: int
    folder: Path
    stop: Callable[[], bool]
    total: Callable[[Tensor], Tensor]
    any_process: Callable[[bool], bool] = lambda flag: flag
    stop_of_all: Callable[[], bool] = lambda: False
    say: Callable[[str], None] = lambda line: None

    @property
    def tokenizer(self) -> Tokenizer:
        """Text to ids and back."""
        return self.corpus.tokenizer

    @property
    def token_bytes(self) -> Tensor:
        """Bytes of text that each id stands for, float64 (V,), on the device; not always whole numbers.

        All are 0 where the objective's targets are no text.
        """
        sizes = torch.as_tensor(self.corpus.token_bytes).double().to(self.device)
        return sizes if fill(self.config, "objective").func.targets_are_text else torch.zeros_like(sizes)

    def on_device(self, batch: Batch) -> Batch:
        """The batch with its tensors on the device."""
        return {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}

    def stops_together(self) -> bool:
        """Whether all processes have to stop here; every process has to call it, at the same place."""
        return self.stop() if self.world_size == 1 else self.stop_of_all()

    def check_stop(self) -> None:
        """Raise `StopRequested` where the run was requested to stop."""
        if self.stop():
            raise StopRequested

    def attempted(self, do: Callable[[], T]) -> tuple[T | None, str]:
        """What `do` returns, or None and why it failed, be it here or in another process; every process calls it.

        What ends the evaluation as a whole is raised: `StopRequested` and `CollectiveError`.
        """
        result, reason = None, ""
        try:
            result = do()
        except (StopRequested, CollectiveError):
            raise
        except FailedElsewhere:  # which all processes know by now
            return None, FAILED_ELSEWHERE
        except (Exception, SystemExit) as error:  # whatever it dies of, the model is trained
            reason = reason_of(error)
        if self.any_process(bool(reason)):
            return None, reason or FAILED_ELSEWHERE
        return result, ""


class Evaluation(ABC):
    """Scores a model. Its options are the keyword arguments of its class; raise `UserError` for impossible ones.

    An evaluation whose YAML says `part_of_training: true` gives `LOSS` at the steps where the run is evaluated, and
    belongs to the identity of the run. All others run once, after the last step, and carry a hash of their own.
    """

    def check(self, config: DictConfig) -> None:  # noqa: B027 (most have nothing to check)
        """Raise `UserError` for what would make it fail, such as a missing file; called before the run of `config`
        trains, and before a finished one is evaluated."""

    @abstractmethod
    def evaluate(self, model: Model, context: Context) -> dict[str, Score] | Partial:
        """Score `model`, which is in evaluation mode, without gradients, on `context.device`; each score by its name.

        Every process calls it, and all return the same. One that has parts may return `Partial`: the scores of some,
        and why the others failed; the next time that the run is evaluated it is called again. Changes to the weights
        are undone afterwards. What it raises becomes the reason why there is no score; the run itself is not lost.
        Raises `StopRequested` by `context.check_stop()`; the next attempt calls it again, with the same folder.
        """


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Without gradients and dropout; afterwards the model is in the mode that it was in."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)
