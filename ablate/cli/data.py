"""`ablate data prepare|check`: text into tokens, once, and what is wrong with it."""

from __future__ import annotations

from omegaconf import DictConfig

from ablate.cli import arguments
from ablate.errors import UserError, nearest
from ablate.terminal import say
from ablate.text import aligned

HELP = """Prepare a corpus, or read its source and name everything that is wrong in it.

usage: ablate data prepare [overrides]
       ablate data check [overrides]

  ablate data prepare                                    the text that comes with the dependencies
  ablate data prepare data=c4 data.limit=100000          from the Hugging Face Hub, once
  ablate data check data=local data.files='[my/*.jsonl.gz]'

A run prepares its corpus by itself; preparing before is for machines without network, or to see how long it takes.
`check` exits with 1 where something is wrong.
"""

VERBS = ("prepare", "check")


def run(words: list[str]) -> int:
    """Prepare or check the corpus that the overrides describe."""
    given = arguments.sort(words)
    verb = arguments.one_name(given, "action (prepare or check)", "ablate data")
    if verb not in VERBS:
        raise UserError(f"data {verb}: must be one of {', '.join(VERBS)}{nearest(verb, VERBS)}")
    from ablate.config import compose

    cfg = compose(given.overrides)
    return {"prepare": _prepare, "check": _check}[verb](cfg)


def _prepare(cfg: DictConfig) -> int:
    from ablate.data import build_corpus

    description = build_corpus.prepare(cfg, progress=say).describe()
    cells = [[key, f"{value:,}" if isinstance(value, int) else str(value)] for key, value in description.items()]
    say("\n".join(aligned(cells)))
    return 0


def _check(cfg: DictConfig) -> int:
    from ablate.data import build_corpus

    problems = build_corpus.check(cfg)
    for line in problems.examples:
        say(line)
    wrong, odd = sum(problems.skipped.values()), sum(problems.noted.values())
    say(f"{cfg.data.name}: {wrong} faults, {odd} oddities")
    return 1 if wrong else 0
