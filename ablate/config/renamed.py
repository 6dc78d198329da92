"""Keys that have another name now: an override by the old name is refused by a line with the new one."""

RENAMED = {
    "evaluation.tokens": "evaluation.heldout.tokens",
    "evaluation.seed": "evaluation.heldout.seed",
}
