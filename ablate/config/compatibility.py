"""Which parts of a model fit together: what they declare, compared; no part is known by its name here.

objective  `gives`: the fields of a batch, or several sets of which a topology chooses one
topology   `reads`: the fields of a batch; `stacks` it has, in which `mask_orders` their tokens see each other
norm       `uses_batch_statistics`: whether a token's result depends on other examples, or on later tokens
residual   `placements` of norms that it works with; `reuses_norm`: whether one norm of it reads several things
attention  `mask_orders` it can keep, `supports`: which hooks of a position it calls
position   `needs`: which hooks it does its work in
head       `needs`: what the embedding must be made of, which `offers` it
stack      `needs`: which stacks a model must have for it to make sense; `repeats`: whether it applies a layer more than
           once
any of a layer's parts, and a stack: `mixes_segments`, if true, says that what one document holds can change the outputs
           of another, whatever the mask of the attention
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from ablate.config import instantiation, options
from ablate.config.instantiation import fill
from ablate.config.keys import plain
from ablate.config.slots import SLOTS
from ablate.errors import UserError

CHECKED = (*options.MODEL_SLOTS, "objective", "optimizer", "schedule")
IN_LAYERS = ("norm", "residual", "block", "activation", "feedforward", "attention", "position")
COMPARED = ("objective", "topology", *IN_LAYERS, "embedding", "head", "stack")


def check_parts(cfg: DictConfig) -> None:
    """Raise `UserError` with a sentence for each pair of parts that cannot work together, and what would work."""
    strays = list(_strays(cfg))
    contents = {group: plain(cfg[group], resolve=True) for group in CHECKED}
    for group, key, _ in strays:
        del contents[group][key]
    for errors in (_misfits(contents), _refusals(cfg, contents), (sentence for *_, sentence in strays)):
        if lines := list(dict.fromkeys(errors)):
            raise UserError("\n".join(lines))


@dataclass(frozen=True)
class Parts:
    """What is compared: what fills each slot, and what the option there is called."""

    cfg: DictConfig
    filled: dict[str, Any]
    name: dict[str, str]

    def declares(self, group: str) -> Any:
        """The class in a slot that holds one option for the whole model."""
        return self.filled[group].func


@dataclass(frozen=True)
class Side:
    """One stack of the model: the order in which its tokens see each other, and its layers."""

    parts: Parts
    stack: str
    order: str
    layers: Sequence[Any]

    def of(self, group: str) -> list[Any]:
        """The class that fills a slot in each layer."""
        return [_at(self.parts.filled[group], layer) for layer in self.layers]


def _misfits(contents: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each option that cannot fill its slot."""
    for group in CHECKED:
        try:
            fill(contents, group)
        except UserError as error:
            yield from str(error).splitlines()


def _refusals(cfg: DictConfig, contents: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each pair of parts that cannot work together; `contents` are the slots that are compared."""
    from ablate.model.contract import SELF_ATTENTION, Place

    parts = Parts(
        cfg, {group: fill(contents, group) for group in COMPARED}, {group: _named(cfg, group) for group in COMPARED}
    )
    for check in (_fields, _tables, _stacks):
        yield from check(parts)
    for stack, order in parts.declares("topology").mask_orders.items():
        depth = cfg.stack[stack].n_layers
        side = Side(parts, stack, order, [Place(stack, layer, depth, SELF_ATTENTION) for layer in range(depth)])
        for check_side in (_placement, _reuse, _leaks, _segments, _orders, _hooks):
            yield from check_side(side)


def _fields(parts: Parts) -> Iterator[str]:
    """Whether the objective gives what the topology reads."""
    objective, topology = parts.declares("objective"), parts.declares("topology")
    if _suits(objective, topology):
        return
    trained_on = _fitting("objective", lambda option: _suits(option.func, topology))
    yield (
        f"{parts.name['objective']} does not fit {parts.name['topology']}, which reads {_all(topology.reads)}"
        f"{f' and is trained on {trained_on}' if trained_on else ''}"
        f"{_choose('topology', lambda option: _suits(objective, option.func))}"
    )


def _tables(parts: Parts) -> Iterator[str]:
    """Whether the embedding is made of what the head is built on."""
    needs = parts.declares("head").needs
    if lacking := needs - parts.declares("embedding").offers:
        yield (
            f"{parts.name['head']} is built on the {_listed(lacking)} of an embedding, and {parts.name['embedding']} "
            f"has none{_choose('embedding', lambda option: not needs - option.func.offers)}"
        )


def _stacks(parts: Parts) -> Iterator[str]:
    """Whether the topology has the stacks without which the chosen ones make no sense."""
    needed = frozenset().union(*(stack.func.needs for stack in parts.filled["stack"].values()))
    if lacking := needed.difference(parts.declares("topology").stacks):
        yield (
            f"{parts.name['stack']} is for models of {' and '.join(sorted(needed, reverse=True))}, and "
            f"{parts.name['topology']} has no {_listed(lacking)}"
            f"{_choose('topology', lambda option: needed.issubset(option.func.stacks))}"
        )


def _placement(side: Side) -> Iterator[str]:
    """Whether the residual works with norms in the chosen place."""
    placement, residuals = side.parts.cfg.block.placement, side.of("residual")
    if any(residual.placements and placement not in residual.placements for residual in residuals):
        fitting = {words for residual in residuals for words in residual.placements or ()}
        yield (
            f"{side.parts.name['residual']} does not work with block.placement={placement}; "
            f"choose block.placement={_listed(fitting)}"
        )


def _reuse(side: Side) -> Iterator[str]:
    """Whether a norm with statistics of the batch is used at one point only."""
    parts = side.parts
    reasons = {
        f"sharing.{side.stack}=true": parts.cfg.sharing[side.stack],
        parts.name["stack"]: parts.filled["stack"][side.stack].func.repeats,
        parts.name["residual"]: any(residual.reuses_norm for residual in side.of("residual")),
    }
    reused = [reason for reason, is_so in reasons.items() if is_so]
    if reused and _uses_batch_statistics(parts.filled["norm"], side):
        yield (
            f"{_all(reused)} {'reuses' if len(reused) == 1 else 'reuse'} one norm of the {side.stack} at several "
            f"points, so the batch statistics of {parts.name['norm']} would be mixed"
            f"{_choose('norm', lambda option: not _uses_batch_statistics(option, side))}"
        )


def _leaks(side: Side) -> Iterator[str]:
    """Whether a norm shows a token those after it."""
    from ablate.model.contract import FULL

    if side.order != FULL and _uses_batch_statistics(side.parts.filled["norm"], side):
        yield (
            f"{side.parts.name['norm']} takes its statistics over all tokens of the batch, so in the {side.stack} each "
            f"token would see those after it{_choose('norm', lambda option: not _uses_batch_statistics(option, side))}"
        )


def _segments(side: Side) -> Iterator[str]:
    """Whether documents can be kept apart."""
    parts = side.parts
    if not parts.cfg.data.document_mask:
        return
    remedy = "set data.document_mask=false"

    def mixes(option: Any) -> bool:
        return any(_mixes_segments(_at(option, layer)) for layer in side.layers)

    for group in IN_LAYERS:
        if mixes(parts.filled[group]):
            choices = _fitting(group, lambda option: not mixes(option))
            yield (
                f"{parts.name[group]} lets what one document holds change the outputs of another; {remedy}"
                f"{f', or choose {group}={choices}' if choices else ''}"
            )
    if _mixes_segments(parts.filled["stack"][side.stack].func):
        yield f"{parts.name['stack']} mixes the tokens of neighbours, whatever their documents; {remedy}"


def _orders(side: Side) -> Iterator[str]:
    """Whether the attention can keep the order of the stack."""

    def keeps(attention: Any) -> bool:
        return all(side.order in _at(attention, layer).mask_orders for layer in side.layers)

    if not keeps(side.parts.filled["attention"]):
        yield (
            f"{side.parts.name['attention']} cannot keep the {side.order} order of the {side.stack}"
            f"{_choose('attention', keeps)}"
        )


def _hooks(side: Side) -> Iterator[str]:
    """Whether the attention calls the hooks that the position does its work in."""
    from ablate.model.position import ADD

    def missing(position: Any) -> set[str]:
        pairs = zip((_at(position, layer) for layer in side.layers), side.of("attention"), strict=True)
        return {hook for one, other in pairs for hook in one.needs - {ADD} - other.supports}

    if hooks := missing(side.parts.filled["position"]):
        quoted = " or ".join(f"'{hook}'" for hook in sorted(hooks))
        yield (
            f"{side.parts.name['position']} needs the hook{'s' if len(hooks) > 1 else ''} {quoted}, which "
            f"{side.parts.name['attention']} does not support{_choose('position', lambda option: not missing(option))}"
        )


def _strays(cfg: DictConfig) -> Iterator[tuple[str, str, str]]:
    """Each key that an option sets in another group whose option does not have it: group, key, and a sentence."""
    found = {group: options.groups()[group].get(_option(cfg, group)) for group in options.MODEL_SLOTS}
    files = {group: path for group, path in found.items() if path}
    for group, path in files.items():
        for key in cfg[group].keys() - options.content(group, path).keys():
            by = (
                f"{other}={file.stem}"
                for other, file in files.items()
                if other != group and options.is_global(file) and key in options.load(file).get(group, ())
            )
            fitting = [name for name, file in options.groups()[group].items() if key in options.content(group, file)]
            sentence = (
                f"{next(by, 'an option')} sets {group}.{key}, which {group}={path.stem} does not have"
                f"; choose {group}={' or '.join(fitting)}"
            )
            yield group, str(key), sentence


def _named(cfg: DictConfig, group: str) -> str:
    return options.called(group, plain(cfg[group]))


def _option(cfg: DictConfig, group: str) -> str:
    return _named(cfg, group).partition("=")[2]


def _suits(objective: Any, topology: Any) -> bool:
    """Whether one of the sets of fields that an objective can give is what a topology reads."""
    gives = objective.gives
    return any(topology.reads == fields for fields in (gives if isinstance(gives, tuple) else (gives,)))


def _uses_batch_statistics(norm: Any, side: Side) -> bool:
    return any(_at(norm, layer).uses_batch_statistics for layer in side.layers)


def _mixes_segments(option: Any) -> bool:
    """What a class declares; most slots have no base class that would say that it does not."""
    return bool(getattr(option, "mixes_segments", False) or getattr(option, "uses_batch_statistics", False))


def _at(chosen: Any, place: Any) -> Any:
    """The class that fills a slot at `place`, where it may hold another option by layer or by stack."""
    while hasattr(chosen, "choose"):
        chosen = chosen.choose(place)
    return chosen.func


def _choose(group: str, fits: Callable[[Any], bool]) -> str:
    """The tail of a refusal: which options of a group would do."""
    found = _fitting(group, fits)
    return f"; choose {group}={found}" if found else ""


def _fitting(group: str, fits: Callable[[Any], bool]) -> str:
    """The options of a group that would do, with "or" between them."""
    found = []
    for option, path in options.groups()[group].items():
        content = _without_numbers(options.content(group, path))
        try:
            made = instantiation.instantiate(content, SLOTS[group], group)
        except UserError:  # it cannot fill the slot at all
            continue
        if fits(made):
            found.append(option)
    return " or ".join(found)


def _without_numbers(content: dict[str, Any]) -> dict[str, Any]:
    """An option reduced to its classes: enough to read what they declare, without a shape to derive numbers from."""
    return {
        key: _without_numbers(value) if isinstance(value, dict) else value
        for key, value in content.items()
        if isinstance(value, dict) or key in ("_target_", "pattern")
    }


def _listed(names: Iterable[str]) -> str:
    return " or ".join(sorted(names))


def _all(names: Iterable[str]) -> str:
    return " and ".join(sorted(names))
