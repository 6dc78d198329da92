"""Keys that had another name: what is written with the old one is refused by a line that names the new."""

from __future__ import annotations

RENAMED = {
    "early": "early_fraction",
    "keep": "keep_checkpoints",
    "own_rates": "parameter_groups",
    "evaluation.tokens": "evaluation.heldout.tokens",
    "evaluation.seed": "evaluation.heldout.seed",
}
RENAMED_IN_PARAMETER_GROUPS = {"times": "lr_multiplier", "until": "until_fraction"}  # keys of an entry
