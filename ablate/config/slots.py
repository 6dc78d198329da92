"""The slots of a config: which of its places hold an option, what has to be there, and when it is made.

topology, norm, ...    a factory: the option and its keys, called when the model is built
schedule, tokenizer    an object: made at once

An option that holds others, by layer or by stack, is made at once in a factory's place too; those that it holds are
factories. `_partial_`, by which Hydra tells one from the other, follows from that, and is not written in option files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ablate.config import sources

TARGET = "_target_"


@dataclass(frozen=True)
class Slot:
    """One place of the config that an option fills.

    path: its key; a last part * is any name, as in `stack.encoder`.
    base: the class to inherit, or to read as an example.
    declares: what the option's class says of itself before anything is built.
    methods: what the object has that is made; not known of one that a function makes.
    """

    path: str
    base: str
    declares: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    is_factory: bool = True
    may_be_null: bool = False

    @property
    def group(self) -> str:
        """The config group that the place belongs to."""
        return self.path.partition(".")[0]

    def places(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """What plain containers have at this place, by its path; of a *, each mapping below the group."""
        *path, last = self.path.split(".")
        node: Any = config
        for part in path:
            node = node.get(part) if isinstance(node, Mapping) else None
        if not isinstance(node, Mapping):
            return {}
        if last == "*":
            return {f"{path[0]}.{name}": content for name, content in node.items() if isinstance(content, Mapping)}
        return {self.path: node[last]} if last in node else {}


SLOTS = {
    slot.path: slot
    for slot in (
        Slot("topology", "ablate.model.topology.CausalDecoder", ("stacks", "mask_orders", "scored", "reads")),
        Slot("norm", "ablate.model.norm.Norm", ("uses_batch_statistics",)),
        Slot("residual", "ablate.model.residual.Plain", ("end", "placements", "reuses_norm")),
        Slot("block", "ablate.model.block.Block", ("layers",)),
        Slot("activation", "ablate.model.activation.Plain", ("gated",)),
        Slot("feedforward", "ablate.model.feedforward.Dense", methods=("forward",)),
        Slot("attention", "ablate.model.attention.Attention", ("mask_orders", "supports")),
        Slot("position", "ablate.model.position.Position", ("needs", "shared_by")),
        Slot("stack.*", "ablate.model.stack.PlainStack", ("needs", "depth", "repeats", "mixes_segments")),
        Slot("embedding", "ablate.model.embedding.Embedding", ("offers",)),
        Slot("head", "ablate.model.head.Vocabulary", ("needs",)),
        Slot("init", "ablate.model.init.Paper", methods=("__call__",)),
        Slot("objective", "ablate.data.objective.Objective", ("gives",), methods=("apply",)),
        Slot("optimizer", "torch.optim.Optimizer", methods=("step", "zero_grad")),
        Slot("schedule", "ablate.training.schedule.Constant", methods=("__call__",), is_factory=False),
        Slot("tokenizer", "ablate.data.tokenizer.Trained", methods=("layout", "make"), is_factory=False),
        Slot("data.source", "ablate.data.source.Source", methods=("fingerprint", "documents"), is_factory=False),
        Slot(
            "logger.mirror",
            "ablate.integrations.wandb.Mirror",
            methods=("follow", "close_sweep", "outcome_line"),
            is_factory=False,
            may_be_null=True,
        ),
        Slot("evaluation.*", "ablate.evaluation.contract.Evaluation", methods=("evaluate",), is_factory=False),
    )
}

# What an option takes inside it that is in no slot of the config; its class names it in `inner_options`.
INNER = {slot.path: slot for slot in (Slot("activation.function", "ablate.model.activation.relu"),)}


def filled(config: Mapping[str, Any]) -> Iterator[tuple[Slot, str, Any]]:
    """Every slot with the path and the content of each of its places in a config of plain containers."""
    for slot in SLOTS.values():
        for path, content in slot.places(config).items():
            yield slot, path, content


def declares(content: Mapping[str, Any], name: str) -> bool:
    """Whether a class that an option names, at any depth, says `name = True` of itself; imports nothing."""
    own = TARGET in content and bool(sources.attribute(content[TARGET], name))
    return own or any(declares(inner, name) for inner in content.values() if isinstance(inner, Mapping))


def slot_at(path: str) -> Slot | None:
    """The slot whose place is exactly at `path`."""
    return SLOTS.get(path) or SLOTS.get(f"{path.rpartition('.')[0]}.*")


def vacancies(config: Mapping[str, Any]) -> Iterator[tuple[Slot, str]]:
    """The places that an option has to fill, and does not: there is no `_target_`."""
    for slot, path, content in filled(config):
        if content is None and slot.may_be_null:
            continue
        if not isinstance(content, Mapping) or TARGET not in content:
            yield slot, path
