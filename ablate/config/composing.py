"""A list of overrides -> one config, by Hydra."""

from __future__ import annotations

from pathlib import Path

import ablate
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from ablate.config.resolvers import register

CONF = Path(ablate.__file__).parent.parent / "conf"


def compose(overrides: list[str] | tuple[str, ...] = ()) -> DictConfig:
    """The baseline's config with `overrides` applied; interpolations stay until they are read."""
    register()
    overrides = [_alias(override) for override in overrides] + _groups_not_there()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra_compose("config", overrides=overrides)


def _alias(override: str) -> str:
    key, equals, value = override.partition("=")
    return f"seed.base={value}" if equals and key == "seed" else override


def _groups_not_there() -> list[str]:
    """While rooms are still landing: a search path with an empty file for each default that is missing."""
    import tempfile

    defaults = OmegaConf.load(CONF / "config.yaml").defaults
    chosen = [pair for entry in defaults if isinstance(entry, DictConfig) for pair in entry.items()]
    missing = [(group, option) for group, option in chosen if not (CONF / group / f"{option}.yaml").exists()]
    if not missing:
        return []
    folder = Path(tempfile.mkdtemp())
    for group, option in missing:
        (folder / group).mkdir()
        (folder / group / f"{option}.yaml").write_text("{}")
    return [f"hydra.searchpath=[file://{folder}]"]
