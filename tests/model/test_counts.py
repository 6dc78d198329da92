"""Parameter counts at the paper's size, of the authors' library, without allocating anything."""

from __future__ import annotations

import csv

import pytest

from ablate.config import build_model, compose
from tests.golden_names import GOLDEN
from tests.model.test_golden import ROWS


def depth(layers: str, width: str) -> list[str]:
    """Another number of layers, with the feed-forward's width and the heads changed the other way."""
    return [
        *(f"stack.{stack}.n_layers=${{of:{layers},shape.n_layers}}" for stack in ("encoder", "decoder")),
        f"feedforward.d_ff=${{of:{width},shape.d_ff}}",
        f"attention.n_heads=${{of:{width},shape.n_heads}}",
    ]


OVERRIDES = {
    **ROWS,
    "depth_24": depth("2", "1/2"),
    "depth_18": depth("3/2", "2/3"),
    "depth_8": depth("2/3", "3/2"),
    "depth_6": depth("1/2", "2"),
}
COUNTS = list(csv.DictReader((GOLDEN / "parameters.csv").open()))


def count(overrides: list[str]) -> int:
    model = build_model(compose(["shape=paper", *overrides]), device="meta")
    assert all(parameter.is_meta for parameter in model.parameters())
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("row", COUNTS, ids=lambda row: row["row"])
def test_parameters_of_the_library(row):
    assert count(OVERRIDES[row["row"]]) == int(row["parameters"])


@pytest.mark.parametrize(
    "row", [row for row in COUNTS if row["parameters_with_learned_positions"]], ids=lambda row: row["row"]
)
def test_parameters_of_the_library_with_learned_positions(row):
    assert count([*OVERRIDES[row["row"]], "position=learned"]) == int(row["parameters_with_learned_positions"])
