"""The README's table of the demonstration, beside the committed report that it is from."""

import csv
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMES = {
    "RMS norm": "RMS Norm",
    "post-norm, without warm-up": "Post-norm",
    "layers share their weights": "Block sharing",
    "A/A: only other initial values": "A/A (other initial values)",
}


def test_the_figures_of_the_demonstration_are_those_of_its_report():
    with (ROOT / "reports/axes/evidence.csv").open(encoding="utf-8", newline="") as file:
        rows = {line["row"]: line for line in csv.DictReader(file)}
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition("## What comes out")[0]
    table = [re.split(r" *\| *", line.strip("| ")) for line in text.splitlines() if line.startswith("| ")][1:]
    assert len(table) == len(rows)
    for label, delta, interval, verdict, expected in table:
        row = rows[NAMES.get(label, label[0].upper() + label[1:])]
        shown = [f"{float(row[key]):+.3f}".replace("-", "−") for key in ("delta", "delta_low", "delta_high")]
        assert [delta, interval, verdict] == [shown[0], f"{shown[1]} to {shown[2]}", row["verdict"]]
        assert expected.partition(",")[0] == (row["expected"] or "none")
