"""The page on fine-tuning has the defaults that the options have."""

from pathlib import Path

import pytest

from ablate.config import compose

NAMES = ("superglue", "xsum", "webquestions", "wmt_en_de")
PAGE = (Path(__file__).parents[2] / "docs" / "fine-tuning.md").read_text(encoding="utf-8")
KEYS = (
    "steps",
    "learning_rate",
    "learning_rate_absolute",
    "warmup_steps",
    "dropout",
    "checkpoint_every",
    "cap",
    "limit",
)


def shown(value):
    """A number as the page writes it: 262,144, 5e-4, 0.1."""
    if value is None:
        return "all"
    if value >= 1:
        return f"{value:,}"
    return f"{value:.0e}".replace("e-0", "e-") if value < 0.1 else str(value)


@pytest.mark.parametrize("key", KEYS)
def test_the_defaults(key):
    (row,) = (line for line in PAGE.splitlines() if line.startswith(f"| `{key}`"))
    _, _, paper, small, _ = row.split("|")
    for cell, shape in ((paper, "paper"), (small, "micro")):
        options = compose([f"shape={shape}", f"evaluation=[heldout,{','.join(NAMES)}]"]).evaluation
        values = {shown(options[name][key]) for name in NAMES if key in options[name]}
        words = set(cell.replace(";", " ").replace(", ", " ").split())
        assert values <= words
        assert {word for word in words if word[0].isdigit()} <= values
