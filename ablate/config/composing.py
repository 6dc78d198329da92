"""A list of overrides -> one checked config.

The groups are put together as Hydra does it, on plain dictionaries, because a plan composes a hundred rows and Hydra
takes a quarter of a second for each; tests hold the two equal for every option. Hydra itself composes what is more
than that: a defaults list with other entries than `override /group: option`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ablate.config import evaluations, keys, options, presets, published, resolution, validation
from ablate.config.identity import WITHOUT_EFFECT
from ablate.config.overrides import Override, key_of, label_of, read
from ablate.config.resolvers import register
from ablate.errors import UserError

Tree = dict[str, Any]
Choice = options.Choice


def compose(overrides: Iterable[str] = ()) -> DictConfig:
    """The baseline's config with `overrides` applied, checked whole.

    Interpolations stay until they are read; `row`, where it is not given, becomes the overrides themselves. Raises
    `UserError` with a line for each mistake.
    """
    return restored(written(overrides))


def compose_resolved(overrides: Iterable[str] = ()) -> Tree:
    """The same as plain containers with all interpolations followed: much faster, for many rows at once."""
    return resolve(written(overrides))


def resolve(tree: Tree) -> Tree:
    """What `written` gave, with all interpolations followed."""
    found = resolution.resolve(tree)
    return keys.plain(restored(tree), resolve=True) if found is None else found


def restored(tree: Tree) -> DictConfig:
    """A checked config from its plain containers, as `compose_resolved` gives them."""
    register()
    cfg = OmegaConf.create(tree)
    OmegaConf.set_struct(cfg, True)
    return cfg


def written(overrides: Iterable[str]) -> Tree:
    """The config as plain containers, interpolations as they are written; checked whole, and nothing else done."""
    found, errors = read(overrides)
    choices, values = {o.key: o.value for o in found if o.is_group}, [o for o in found if not o.is_group]
    base = compose_groups(choices)
    tree = copy.deepcopy(base)
    errors += [error for override in values for error in _set(tree, override)]
    if tree["row"] is None:
        with_effect = [override for override in found if not evaluations.is_without_effect(override.text)]
        tree["row"] = label_of(with_effect, WITHOUT_EFFECT)
    errors += validation.problems(tree, base, [o.key for o in values])
    errors += evaluations.problems(tree[evaluations.GROUP])
    if errors:
        raise UserError("\n".join(dict.fromkeys(errors)))
    return tree


def roundings(overrides: Sequence[str]) -> tuple[str, ...]:
    """A line for each number of a preset that the shape lets it have only about; overrides that `written` accepts."""
    if not any(key_of(override) == presets.GROUP for override in overrides):
        return ()
    tree = written(overrides)
    return tuple(published.roundings(keys.flatten(tree), keys.flatten(resolve(tree))))


def with_preset(overrides: Sequence[str]) -> list[str]:
    """The overrides, and those that set what their preset sets: all that Hydra needs to compose the same config."""
    found, _ = read(overrides)
    chosen = _chosen({o.key: o.value for o in found if o.is_group})
    given = {override.key for override in found}
    sets = presets.keys_set(chosen) if chosen else {}
    return [*overrides, *(f"{key}={_text(value)}" for key, value in sets.items() if key not in given)]


def _text(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_text, value))}]"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value)


def _set(tree: dict[str, Any], override: Override) -> list[str]:
    """Put one value into the tree; a line for each key that is not there."""
    node, last = keys.place(tree, override.key)
    if node is None:
        hint = evaluations.hint(override.key) or keys.suggestion(override.key)
        return [f"{override.text}: there is no key {override.key!r}{hint}"]
    return _put(node, last, override.value, override)


def _put(node: dict[str, Any], key: str, value: Any, override: Override) -> list[str]:
    old = node[key]
    if not (isinstance(old, dict) and old):
        if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)  # so that dropout=0 and dropout=0.0 are one run
        if isinstance(value, dict) and not (old is None or isinstance(old, dict)):
            return [f"{override.text}: {override.key} takes one value, no keys"]
        node[key] = value
        return []
    if not isinstance(value, dict):
        return [f"{override.text}: {override.key} has keys of its own ({', '.join(old)}); set one of them"]
    missing = [name for name in value if name not in old]
    if missing:
        return [f"{override.text}: there is no key {f'{override.key}.{name}'!r}" for name in missing]
    return [error for name, inner in value.items() for error in _put(old, name, inner, override)]


def compose_groups(choices: dict[str, Choice]) -> Tree:
    """The config with these options chosen, interpolations as they stand; do not change what it returns."""
    hashable = ((group, choice if isinstance(choice, str) else tuple(choice)) for group, choice in choices.items())
    return _composed(tuple(hashable), options.folders())


@lru_cache(maxsize=256)  # rows of a sweep that differ in numbers alone share their options
def _composed(asked: tuple[tuple[str, str | tuple[str, ...]], ...], folders: tuple[Any, ...]) -> Tree:
    choices: dict[str, Choice] = {group: choice if isinstance(choice, str) else list(choice) for group, choice in asked}
    chosen = _chosen(choices)
    if chosen is None:
        return by_hydra(choices)
    root = options.load(options.CONF / "config.yaml")
    tree: Tree = {}
    for group, choice in chosen.items():
        for option in options.listed(choice):
            content = options.added_by(group, option)
            _merge(tree, content if options.is_global(options.file_of(group, option)) else {group: content})
    _merge(tree, {key: value for key, value in root.items() if key != "defaults"})
    presets.apply(tree, chosen)
    return tree


def _chosen(choices: dict[str, Choice]) -> dict[str, Choice] | None:
    """The option of every group, with these chosen; None where only Hydra can say."""
    brought = _brought(choices)
    return None if brought is None else {**options.defaults(), **brought, **choices}


def _brought(choices: dict[str, Choice]) -> dict[str, Choice] | None:
    """What the chosen options bring along in other groups; None where that is more than `override /group: option`.

    As in Hydra, a group may bring options of those before it in conf/config.yaml, and the last group to do so wins.
    """
    brought: dict[str, Choice] = {}
    for group, default in reversed([*options.defaults().items()]):
        chosen = options.listed(choices.get(group, brought.get(group, default)))
        for option in chosen:
            new = options.brought_by(options.file_of(group, option))
            if new is None:
                return None
            brought = {**new, **brought}
    return brought


def _merge(tree: Tree, other: Tree) -> None:
    for key, value in other.items():
        if isinstance(value, dict):
            inner = tree.setdefault(key, {})
            if isinstance(inner, dict):
                _merge(inner, value)
                continue
        tree[key] = copy.deepcopy(value)


def by_hydra(choices: dict[str, Choice]) -> Tree:
    """The same by Hydra itself."""
    written = sorted(f"{group}={options.written(choice)}" for group, choice in choices.items())
    return _by_hydra(tuple(written), options.folders())


@cache
def _by_hydra(choices: tuple[str, ...], folders: tuple[Any, ...]) -> Tree:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    first, *others = folders
    search = [f"hydra.searchpath=[{','.join(f'file://{folder}' for folder in others)}]"] if others else []
    with initialize_config_dir(str(first), version_base="1.3"):
        cfg = hydra_compose("config", overrides=[*choices, *search], return_hydra_config=True)
    chosen = keys.plain(cfg.hydra.runtime.choices)
    OmegaConf.set_struct(cfg, False)
    del cfg["hydra"]
    tree = keys.plain(cfg)
    presets.apply(tree, {group: _as_choice(chosen[group]) for group in options.groups() if group in chosen})
    return tree


def _as_choice(choice: Any) -> Choice:
    return choice if isinstance(choice, str) else list(choice)
