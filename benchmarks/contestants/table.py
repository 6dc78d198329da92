"""The table of docs/speed.md, from the results that the benchmark wrote: python -m benchmarks.contestants.table

The page keeps its text; what is between its two marks is made anew.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from . import floors, roster
from .work import Work

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "models.json"
PAGE = ROOT / "docs" / "speed.md"
MARKS = ("<!-- made by benchmarks.contestants.table -->", "<!-- end -->")
TITLES = {"llama": "LLaMA-like decoder", "gpt2": "GPT-2-like decoder", "t5": "T5-like encoder-decoder"}


def markdown(content: dict[str, Any]) -> str:
    """The section of the page: where it was measured, then a table for each family."""
    machine = content["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
    threads = "one thread" if machine["threads"] == 1 else f"{machine['threads']} threads"
    load = f"{machine['load_before']} before and {machine['load_after']} after"
    lines = [
        f"Measured on {content['date']}: {machine['processor']}, {machine['cores']} cores, {threads}.",
        f"Load average {load}, of which the benchmark itself is about {machine['threads']}.",
        f"{content['rounds']} rounds after {content['warm_up']} to warm up.",
        f"{versions}.",
    ]
    for family, modes in content["families"].items():
        lines += ["", f"### {TITLES[family]}", "", _sizes(Work(**content["work"][family])), "", *_table(modes)]
        lines += [f"\nLeft out, not fetched: {', '.join(names)}." for names in [content["absent"][family]] if names]
    return "\n".join(lines)


def _sizes(work: Work) -> str:
    pair = work.is_encoder_decoder
    layers = f"{work.n_layers} + {work.n_layers}" if pair else work.n_layers
    length = f"({work.length} + {work.targets})" if pair else work.length
    return (
        f"{layers} layers, `d_model` {work.d_model}, {work.n_heads} heads, `d_ff` {work.d_ff}, vocabulary "
        f"{work.vocab_size:,}; {work.sequences} × {length} tokens a step."
    )


def _table(modes: dict[str, list[dict[str, Any]]]) -> list[str]:
    """A line for each contestant, two columns for each mode."""
    heads = ["", *(f"{mode}: {what}" for mode in modes for what in ("tokens/s", "our speed over it"))]
    lines = [_line([*heads, "peak memory, MiB", "of which imports"]), _line(["---", *["--:"] * (len(heads) + 1)])]
    notes: list[str] = []
    first = next(iter(modes.values()))
    for number, contestant in enumerate(first):
        mark = ""
        if contestant["note"]:
            notes.append(
                f"{len(notes) + 1}. {contestant['note'][0].upper()}{contestant['note'][1:]}{_loss(contestant)}."
            )
            mark = f" ({len(notes)})"
        cells = [f"**{contestant['name']}**" if contestant["name"] == roster.OURS else contestant["name"] + mark]
        for results in modes.values():
            one = results[number]
            cells += [f"{one['tokens_per_second']:,.0f}", _ratio(one, results)]
        memory = modes.get("eager", first)[number]
        lines.append(_line([*cells, f"{memory['peak_mib']:,}", str(memory["imports_mib"])]))
    return [*lines, *(["", *notes] if notes else [])]


def _ratio(one: dict[str, Any], results: list[dict[str, Any]]) -> str:
    """Median and interval; bold for the fastest peer that does the same work."""
    if one["name"] == roster.OURS:
        return "1"
    middle, low, high = one["our_speed"]
    text = f"{middle:.2f} [{low:.2f}, {high:.2f}]"
    return f"**{text}**" if one is floors.fastest(results) else text


def _loss(contestant: dict[str, Any]) -> str:
    if contestant["same_work"]:
        return ": its weights are converted, the loss of the first step is equal"
    return f": other work, its loss is not ours (by {contestant['loss_differences'][0]:.2g} nats)"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def written(page: str, section: str) -> str:
    """The page with `section` between its marks; ValueError if it has none."""
    begin, end = MARKS
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(page):
        raise ValueError(f"the page lacks the marks {begin} and {end}")
    return pattern.sub(lambda _: f"{begin}\n\n{section}\n\n{end}", page)


def main() -> int:
    """Write the section of the page anew."""
    content = json.loads(RESULTS.read_text(encoding="utf-8"))
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), markdown(content)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
