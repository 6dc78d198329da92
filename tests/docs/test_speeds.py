"""The README's figures of time per operation agree with the committed table of costs."""

import json
import re

from tests.docs.texts import ROOT

CEILING = 1.25


def test_the_rows_above_the_ceiling_are_those_of_the_committed_report():
    """Time per operation relative to the baseline: (base speed / speed) / (FLOPs / base FLOPs)."""
    sweep, *records = map(json.loads, (ROOT / "reports/narang2021-nano/records.jsonl").read_text().splitlines())
    rows = {
        record["row"]: (speed, record["flops_per_step"])
        for record in records
        if (speed := (record.get("steps_per_second") or {}).get("exclusive"))
    }
    base_speed, base_flops = rows[sweep["baseline"]]
    overheads = {row: base_speed / speed / (flops / base_flops) for row, (speed, flops) in rows.items()}
    above = sorted((f"{overhead:.2f}" for overhead in overheads.values() if overhead > CEILING), reverse=True)
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    words = ["no", "one", "two", "three", "four", "five", "six"]
    said = re.search(r"(\w+) rows are above 1\.25 in its table of costs \(([^)]*)\)", readme)
    assert said and said[1] == words[len(above)]
    assert re.findall(r"\d\.\d\d", said[2]) == above
    assert "`d_model` 192, `d_ff` 768" in readme  # the shape that `benchmarks/rows.py` measures
