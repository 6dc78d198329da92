"""Which parts of a model fit together: what they declare, compared; no part is known by its name here.

topology   `objectives` it can be trained on, `stacks` it has, in which `mask_orders` their tokens see each other
norm       `uses_batch_statistics`: whether a token's result depends on other examples, or on later tokens
residual   `placements` of norms that it works with; `reuses_norm`: whether one norm of it reads several things
attention  `mask_orders` it can keep, `supports`: which hooks of a position it calls
position   `needs`: which hooks it does its work in
head       `needs`: what the embedding must be made of, which `offers` it
stack      `needs`: which stacks a model must have for it to make sense; `repeats`: whether it applies a layer more than
           once; `mixes_segments`: whether it lets tokens of one document reach another
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ablate.config import instantiation
from ablate.config import options as library
from ablate.errors import UserError


def check_parts(cfg: DictConfig) -> None:
    """Raise `UserError` with a sentence for each pair of parts that cannot work together, and what would work."""
    if errors := list(dict.fromkeys(_undeclared(cfg))):
        raise UserError("\n".join(errors))
    if errors := list(dict.fromkeys(_refusals(cfg))) or list(_strays(cfg)):
        raise UserError("\n".join(errors))


def _undeclared(cfg: DictConfig) -> Iterator[str]:
    """A sentence for each class that does not say of itself what its slot asks for."""
    from ablate.model.contract import DECLARED

    for group, (base, attributes) in DECLARED.items():
        for factory in _factories(_filled(cfg, group)):
            made = factory.func
            if lacking := [name for name in attributes if not hasattr(made, name)]:
                what, them = f"{made.__module__}.{made.__qualname__}", "it" if len(lacking) == 1 else "them"
                yield f"{group}={_name(cfg, group)}: {what} has no {_listed(lacking)}; inherit {base}, or declare {them}"


def _factories(chosen: Any) -> Iterator[Any]:
    """Every option that may stand in a slot, whose content is one, or several by layer or by stack."""
    if hasattr(chosen, "choose"):
        for option in chosen.all():
            yield from _factories(option)
    elif isinstance(chosen, dict):
        for option in chosen.values():
            yield from _factories(option)
    else:
        yield chosen


def _refusals(cfg: DictConfig) -> Iterator[str]:
    from ablate.model.contract import FULL, SELF_ATTENTION, Place
    from ablate.model.position import ADD

    groups = ("topology", "norm", "residual", "attention", "position", "embedding", "head", "stack")
    chosen = {group: _filled(cfg, group) for group in groups}
    name = {group: f"{group}={_name(cfg, group)}" for group in chosen}
    topology, objective = chosen["topology"].func, _name(cfg, "objective")
    if objective not in topology.objectives:
        yield (
            f"objective={objective} does not fit {name['topology']}, which is trained on "
            f"{_listed(topology.objectives)}{_choose('topology', lambda slot: objective in slot.func.objectives)}"
        )
    if lacking := chosen["head"].func.needs - chosen["embedding"].func.offers:
        yield (
            f"{name['head']} is built on the {_listed(lacking)} of an embedding, and {name['embedding']} has none"
            f"{_choose('embedding', lambda slot: not chosen['head'].func.needs - slot.func.offers)}"
        )
    needed = frozenset().union(*(entry.func.needs for entry in chosen["stack"].values()))
    if lacking := needed.difference(topology.stacks):
        yield (
            f"{name['stack']} is for models of {' and '.join(sorted(needed, reverse=True))}, and {name['topology']} "
            f"has no {_listed(lacking)}{_choose('topology', lambda slot: needed.issubset(slot.func.stacks))}"
        )
    if cfg.data.document_mask and any(entry.func.mixes_segments for entry in chosen["stack"].values()):
        yield f"{name['stack']} mixes the tokens of neighbours, whatever their documents; set data.document_mask=false"
    for stack, order in topology.mask_orders.items():
        depth = cfg.stack[stack].n_layers
        places = [Place(stack, layer, depth, SELF_ATTENTION) for layer in range(depth)]

        def leaks(norm: Any) -> bool:
            return order != FULL and any(_at(norm, place).uses_batch_statistics for place in places)  # noqa: B023

        def keeps(attention: Any) -> bool:
            return all(order in _at(attention, place).mask_orders for place in places)  # noqa: B023

        def unheard(position: Any) -> set[str]:
            pairs = ((_at(position, place), _at(chosen["attention"], place)) for place in places)  # noqa: B023
            return {hook for one, other in pairs for hook in one.needs - {ADD} - other.supports}

        residuals = [_at(chosen["residual"], place) for place in places]
        placement = cfg.block.placement
        if any(residual.placements and placement not in residual.placements for residual in residuals):
            fitting = {words for residual in residuals for words in residual.placements or ()}
            yield f"{name['residual']} is no residual for block.placement={placement}; choose block.placement={_listed(fitting)}"
        reused = [
            why
            for why, is_so in (
                (f"sharing.{stack}=true", cfg.sharing[stack]),
                (name["stack"], chosen["stack"][stack].func.repeats),
                (name["residual"], any(residual.reuses_norm for residual in residuals)),
            )
            if is_so
        ]
        if reused and any(_at(chosen["norm"], place).uses_batch_statistics for place in places):
            yield (
                f"{name['norm']} keeps one running average, and with {_listed(reused)} one norm of the {stack} reads several "
                f"places{_choose('norm', lambda slot: not any(_at(slot, place).uses_batch_statistics for place in places))}"  # noqa: B023
            )
        if leaks(chosen["norm"]):
            yield (
                f"{name['norm']} takes its statistics over all tokens of the batch, so in the {stack} each token "
                f"would see those after it{_choose('norm', lambda slot: not leaks(slot))}"
            )
        if not keeps(chosen["attention"]):
            yield (f"{name['attention']} cannot keep the {order} order of the {stack}{_choose('attention', keeps)}")
        if hooks := unheard(chosen["position"]):
            yield (
                f"{name['position']} works through {_listed(hooks)}, which {name['attention']} does not let it do"
                f"{_choose('position', lambda slot: not unheard(slot))}"
            )


def _strays(cfg: DictConfig) -> Iterator[str]:
    """A sentence for each key that an option sets in another group, where the option chosen there does not have it."""
    files = {group: library.groups()[group].get(_name(cfg, group)) for group in library.MODEL_SLOTS}
    for group, path in files.items():
        for key in cfg[group].keys() - _content(group, path).keys() if path else ():
            sets = lambda other: key in library.load(other).get(group, ())  # noqa: B023, E731
            by = (f"{g}={p.stem}" for g, p in files.items() if p and g != group and library.is_global(p) and sets(p))
            fitting = (name for name, other in library.groups()[group].items() if key in _content(group, other))
            yield (
                f"{next(by, 'an option')} sets {group}.{key}, which {group}={path.stem} does not have"
                f"; choose {group}={' or '.join(fitting)}"
            )


def _filled(cfg: DictConfig, group: str) -> Any:
    return instantiation.instantiate(OmegaConf.to_container(cfg[group], resolve=True))


def _at(chosen: Any, place: Any) -> Any:
    """The class that stands at `place`, where a slot may hold another option by layer or by stack."""
    while hasattr(chosen, "choose"):
        chosen = chosen.choose(place)
    return chosen.func


def _name(cfg: DictConfig, group: str) -> str:
    """What the chosen option is called: the one whose file names the same class, by most of its keys."""
    content = OmegaConf.to_container(cfg[group])
    options = {option: _content(group, path) for option, path in library.groups()[group].items()}
    same = {o: own for o, own in options.items() if own.get("_target_") == content.get("_target_")}
    if not same:
        return content["_target_"].rpartition(".")[2]
    given = _leaves(content)
    return max(same, key=lambda option: len(given & _leaves(same[option])))


def _leaves(content: dict[str, Any], path: str = "") -> set[tuple[str, str]]:
    """Every key of an option at any depth, with its value."""
    return {
        leaf
        for key, value in content.items()
        for leaf in (_leaves(value, f"{path}{key}.") if isinstance(value, dict) else {(path + key, str(value))})
    }


def _choose(group: str, fits: Callable[[Any], bool]) -> str:
    """The tail of a refusal: which options of a group would do."""
    found = []
    for option, path in library.groups()[group].items():
        content = _without_numbers(_content(group, path))
        if not instantiation.problems(content) and fits(instantiation.instantiate(content)):
            found.append(option)
    return f"; choose {group}={' or '.join(found)}" if found else ""


def _content(group: str, path: Any) -> dict[str, Any]:
    content = library.load(path)
    return content[group] if library.is_global(path) else content


def _without_numbers(content: dict[str, Any]) -> dict[str, Any]:
    """An option reduced to its classes: enough to read what they declare, without a shape to derive numbers from."""
    return {
        key: _without_numbers(value) if isinstance(value, dict) else value
        for key, value in content.items()
        if isinstance(value, dict) or key in ("_target_", "_partial_", "pattern")
    }


def _listed(names: Any) -> str:
    return " or ".join(sorted(names))
