"""Config keys that had another name in earlier versions; only what compares finished runs needs to know them."""

from __future__ import annotations

import re

# Old key -> new key. A key inside the entries of a list is written below the list's own key.
RENAMED = {
    "early": "early_fraction",
    "keep": "keep_checkpoints",
    "own_rates": "parameter_groups",
    "own_rates.times": "parameter_groups.lr_multiplier",
    "own_rates.until": "parameter_groups.until_fraction",
    "evaluation.tokens": "evaluation.heldout.tokens",
    "evaluation.seed": "evaluation.heldout.seed",
}


def renamed(override: str) -> str:
    """The text of an override with today's keys: `early=0.5` becomes `early_fraction=0.5`.

    Keys inside a value are renamed where the key that is set was renamed, as the entries of `own_rates` are.
    """
    left, equals, value = override.partition("=")
    key = left.strip().lstrip("+~")
    if key not in RENAMED:
        return override
    for old, new in RENAMED.items():
        if old.startswith(f"{key}."):
            name = re.escape(old.removeprefix(f"{key}."))
            value = re.sub(rf"(?<=[{{,\s]){name}(?=\s*:)", new.rpartition(".")[2], value)
    return left.replace(key, RENAMED[key], 1) + equals + value
