"""Published models as choices: what `preset=NAME` selects in other groups, and the keys that it sets there.

A preset's file selects options in its defaults list (`override /norm: rmsnorm`), as Hydra has it, and gives keys of
theirs under `preset.sets`. A key is set where the option has been chosen that the preset selects, or the baseline's
where it selects none: `preset=llama norm=layernorm` leaves `sets.norm` out. What the command line sets wins over both.
Nothing of a preset but its choices stays in the config, so that two presets which come to the same model are the same
run.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from ablate.config import keys, options
from ablate.errors import UserError, nearest

GROUP = "preset"
SETS = "sets"
Tree = dict[str, Any]


def apply(tree: Tree, chosen: Mapping[str, options.Choice]) -> None:
    """Put the keys of the chosen preset into `tree`, the composed config of the options `chosen`, in place.

    Raises `UserError` where the preset sets a key that is not there.
    """
    tree.pop(GROUP, None)
    for path, value in keys_set(chosen).items():
        node, last = keys.place(tree, path)
        if node is None:
            file = options.file_of(GROUP, _name(chosen))
            raise UserError(f"{file}: sets {path}, which is no key{nearest(path, keys.flatten(tree))}")
        node[last] = copy.deepcopy(value)


def keys_set(chosen: Mapping[str, options.Choice]) -> dict[str, Any]:
    """The keys that the chosen preset sets, dotted, where these options are chosen, with their values."""
    path = options.file_of(GROUP, _name(chosen))
    selected = options.brought_by(path) or {}
    found: dict[str, Any] = {}
    for group, content in (options.load(path)[GROUP].get(SETS) or {}).items():
        meant = selected.get(group, options.defaults().get(group))
        if chosen.get(group) == meant:
            found |= keys.flatten({group: content})
    return found


def names() -> Iterator[str]:
    """The presets, `none` not among them."""
    return (name for name in options.groups()[GROUP] if name != options.defaults()[GROUP])


def _name(chosen: Mapping[str, options.Choice]) -> str:
    return str(chosen[GROUP])
