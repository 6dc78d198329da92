"""The sizes of a sweep, each a context, and the steps of each: so many tokens for each of its baseline's parameters.

Those parameters are counted on the meta device, which needs torch: by a process of its own where this one does not have
it, so that a plan stays light. They are those outside the embeddings, and the head's.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from ablate.config.composing import resolve, restored, written
from ablate.config.overrides import key_of
from ablate.errors import UserError, nearest
from ablate.orphans import die_with_parent
from ablate.study.contexts import check_name
from ablate.study.rows import overrides_of

DEFAULT_TOKENS = 20.0  # for each parameter: about what Hoffmann et al. 2022 found best
MOST_TOKENS = 1e6
STEPS = "trainer.steps"
_SET_BY_SCALE = (STEPS, "shape.steps")


@dataclass(frozen=True)
class Scale:
    """The overrides of each size, the smallest first, and the tokens that a run has for each parameter."""

    sizes: dict[str, tuple[str, ...]]
    tokens_per_parameter: float = DEFAULT_TOKENS

    def steps(self, size: str, bases: Mapping[str, tuple[str, ...]]) -> int:
        """The steps of a size; `bases` are all overrides of each size's baseline. Raises `UserError`."""
        parameters, batch = dict(zip(bases, _counted(tuple(bases.items())), strict=True))[size]
        return max(1, round(self.tokens_per_parameter * parameters / batch))


def scale_of(value: Any, path: Path) -> Scale | None:
    """What `scale:` of a sweep file says, None where it says nothing; raises `UserError`.

    ``{tokens_per_parameter: 20, sizes: {small: [shape.n_layers=2], large: micro}}``: overrides, or the name of a shape.
    """
    if value is None:
        return None
    keys = ("sizes", "tokens_per_parameter")
    if not isinstance(value, dict) or not isinstance(value.get("sizes"), dict) or not value["sizes"]:
        raise UserError(f"{path}: scale must hold sizes such as  sizes: {{small: nano, large: [shape.n_layers=6]}}")
    for key in value:
        if key not in keys:
            raise UserError(f"{path}: scale: unknown key {key!r}{nearest(str(key), keys)}")
    tokens = value.get("tokens_per_parameter", DEFAULT_TOKENS)
    is_number = isinstance(tokens, (int, float)) and not isinstance(tokens, bool) and math.isfinite(tokens)
    if not is_number or not 0 < tokens <= MOST_TOKENS:
        raise UserError(
            f"{path}: scale: tokens_per_parameter must be above 0 and at most {MOST_TOKENS:g}, and is {tokens!r}"
        )
    return Scale({name: _size(name, given, path) for name, given in value["sizes"].items()}, float(tokens))


def _size(name: Any, given: Any, path: Path) -> tuple[str, ...]:
    check_name(name, "scale", path)
    overrides = overrides_of([f"shape={given}"] if isinstance(given, str) else given, f"scale: {name}", path)
    if stated := next((key for key in map(key_of, overrides) if key in _SET_BY_SCALE), None):
        raise UserError(f"{path}: scale: {name}: {stated} follows from tokens_per_parameter; leave it out")
    return overrides


@cache
def _counted(sizes: tuple[tuple[str, tuple[str, ...]], ...]) -> list[tuple[int, int]]:
    """The parameters of each size that count, and the tokens of its batch; counted once."""
    configs = []
    for name, overrides in sizes:
        try:
            configs.append(resolve(written(overrides)))
        except UserError as error:
            raise error.of("scale", name) from None
    if "torch" in sys.modules:
        counts = _count(configs)
    else:
        with ProcessPoolExecutor(1, get_context("fork"), initializer=die_with_parent) as pool:
            counts = pool.submit(_count, configs).result()
    return [(count, config["trainer"]["global_batch_tokens"]) for count, config in zip(counts, configs, strict=True)]


def _count(configs: Iterable[dict[str, Any]]) -> list[int]:
    from ablate.config import build_model
    from ablate.model.parameter_count import scaled

    return [scaled(build_model(restored(config), device="meta")) for config in configs]
