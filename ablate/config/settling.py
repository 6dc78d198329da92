"""Keys that may be "auto": what they become where a run is first made.

The value that a key is settled at stands in the run's config.yaml and belongs to its identity; `ablate.study.settled`
looks there before it asks the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ablate import machine
from ablate.config.root import SECTIONS, Trainer
from ablate.ranges import AUTO, declared

Config = dict[str, Any]
MANY_STEPS = 1000  # from which compiling a model takes less time than it saves


def unsettled(config: Mapping[str, Any]) -> list[str]:
    """The keys of a config, as nested mappings, that are "auto" and still to be settled."""
    return [key for key in RULES if value_of(config, key) == AUTO]


def settle(config: Config, values: Mapping[str, Any]) -> Config:
    """The config with `values` for those of its keys that are "auto"; what was asked for by number stays."""
    for key in unsettled(config):
        section, _, name = key.partition(".")
        config = {**config, section: {**config[section], name: values[key]}}
    return config


def by_machine(config: Mapping[str, Any], jobs: int | None) -> dict[str, Any]:
    """What every key that may be "auto" becomes on this machine, for the resolved `config`.

    `jobs` runs share the machine: 1 for a run by itself; None for a sweep that fills the cores with runs of one thread.
    """
    trainer = Trainer(**config["trainer"])
    return {key: rule(trainer, jobs) for key, rule in RULES.items()}


def decided(config: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, str]:
    """By what a key that `overrides` leave "auto" was settled in `config`: the rule, or what was made before.

    Nothing is decided by a measurement. Of `trainer.threads` nothing is said: that is the cores of the machine.
    """
    asked = {override.replace(" ", "") for override in overrides}
    rule = by_machine(config, jobs=1)
    said = {}
    for key, words in RULES_IN_WORDS.items():
        if f"{key}={AUTO}" in asked:
            by = f"rule: {words}" if value_of(config, key) == rule[key] else "earlier runs, which have it so"
            said[key] = f"{value_of(config, key)}, by {by}"
    return said


def can_be(key: str, value: Any) -> bool:
    """Whether `value` is one at which the key can be settled."""
    section, _, name = key.partition(".")
    return value != AUTO and not declared(SECTIONS[section])[name].problem(value)


def value_of(config: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted key; None where there is none."""
    node: Any = config
    for part in key.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


def _threads(trainer: Trainer, jobs: int | None) -> int:
    """One where a GPU computes, else the cores of each process that computes at the same time."""
    if jobs is None or machine.uses_gpu(trainer):
        return 1
    return max(1, min(machine.threads(), machine.cores() // (jobs * trainer.devices)))


def _compile(trainer: Trainer, _: int | None) -> str:
    return "model" if machine.uses_gpu(trainer) and trainer.steps >= MANY_STEPS else "none"


RULES_IN_WORDS = {"trainer.compile": f"model on a GPU from {MANY_STEPS} steps, else none"}
RULES: Mapping[str, Callable[[Trainer, int | None], Any]] = {
    "trainer.threads": _threads,
    "trainer.compile": _compile,
}
