"""A training step of our models beside those of other libraries, with equal weights, in turn.

    python benchmarks/models.py [--family llama gpt2 t5] [--mode eager compiled] [--rounds 60] [--threads 1]
                                [--quick] [--check] [--out FILE]

Each contestant is a process of its own and takes one step when it is asked; the others wait. Equal losses of the first
steps come first: 1e-4 nats in float32, else it fails. Then the ratio of both speeds in each round; printed are the
median and its bootstrap interval of 95 %, wall clock, and the same of processor time. `--quick` runs tiny models for a
few rounds, of which nothing is demanded but equal losses. `--out` writes all figures as JSON, from which
`python -m benchmarks.contestants.table` makes the table of docs/speed.md. With --check it fails below the floors
(benchmarks/contestants/floors.py).

litgpt, nanoGPT and nanoT5 take part where `python -m benchmarks.contestants.sources` has fetched them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a file, this one's folder is there alone

from ablate.sweep.fork_server import ENVIRONMENT
from benchmarks.contestants import comparison, floors, machine, roster, sources
from benchmarks.contestants.ratios import Ratio

ROUNDS, WARM_UP = 60, 5
QUICK_ROUNDS, QUICK_WARM_UP = 5, 4


def main() -> int:
    """Compare each family; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", nargs="+", choices=tuple(roster.FAMILIES), default=tuple(roster.FAMILIES))
    parser.add_argument("--mode", nargs="+", choices=("eager", "compiled"), default=("eager", "compiled"))
    parser.add_argument("--rounds", type=int, help=f"timed, {ROUNDS} by default")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="tiny models and few rounds: a try")
    parser.add_argument("--check", action="store_true", help="fail below the floors")
    parser.add_argument("--out", type=Path, help="a file for all figures, JSON")
    options = parser.parse_args()
    facts = machine.facts(options.threads)
    content: dict[str, Any] = {"date": machine.today(), "machine": facts, "work": {}, "absent": {}, "families": {}}
    packages = {"ablate"}
    for family in options.family:
        contestants, absent = comparison.present(family)
        packages |= {contestant.package for contestant in contestants}
        content["absent"][family] = [contestant.name for contestant in absent]
        for contestant in absent:
            print(f"{family}: {contestant.name} is left out; `{sources.COMMAND}` fetches it", flush=True)
        modes = content["families"].setdefault(family, {})
        for mode in options.mode:
            setting = comparison.Setting(
                family=family,
                mode=mode,
                rounds=options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS),
                warm_up=QUICK_WARM_UP if options.quick else WARM_UP,
                threads=options.threads,
                quick=options.quick,
                environment={**ENVIRONMENT, "TORCHINDUCTOR_COMPILE_THREADS": "1"},  # the allocator as in a sweep's runs
            )
            content |= {"rounds": setting.rounds, "warm_up": setting.warm_up}
            content["work"][family] = dataclasses.asdict(setting.work)
            modes[mode] = comparison.compare(
                setting, contestants, lambda line: print(line, file=sys.stderr, flush=True)
            )
            report(family, mode, modes[mode])
            facts["load_after"] = machine.load()
            content["versions"] = machine.versions(packages)
            if options.out:
                write(options.out, content)
    low = [] if options.quick else list(floors.missed(content["families"]))
    for line in low:
        print(f"below the floor: {line}", file=sys.stderr if options.check else sys.stdout)
    return int(options.check and bool(low))


def report(family: str, mode: str, results: list[dict[str, Any]]) -> None:
    """A line for each contestant."""
    for one in results:
        speed, cpu = (Ratio(*one[key]) for key in ("our_speed", "our_speed_cpu_time"))
        line = f"{family:6}{mode:10}{one['name']:34}{one['milliseconds']:9.1f} ms  ablate/it {speed}  cpu {cpu}"
        print(f"{line}  peak {one['peak_mib']} MiB (imports {one['imports_mib']})", flush=True)


def write(path: Path, content: dict[str, Any]) -> None:
    """The whole file or none."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(unfinished, path)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (comparison.Unequal, RuntimeError) as error:
        print(error, file=sys.stderr)
        sys.exit(1)
