"""What report.md says of scores: sentences and tables, safe in Markdown."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest

from ablate.report.analysis import reference
from ablate.report.analysis.score_ranks import PAPER
from ablate.report.analysis.score_verdicts import PAIRED, SEEDS_ONLY, UNPAIRED
from ablate.report.render.score_tables import ScoreTables
from tests.report.scored import Made, usual, with_scores

TABLE = reference.load(PAPER)


@pytest.fixture(scope="module")
def tables(plain):
    return ScoreTables(usual(plain), TABLE)


def made(plain, *scores):
    return ScoreTables(with_scores(plain, list(scores)), TABLE)


def lines_of(tables, number=0):
    """The cells of each row by label, of one primary score."""
    return {line[0]: dict(zip(tables.heads, line, strict=True)) for line in tables.primary[number]["lines"]}


def entry(tables, start):
    return next((text for text in tables.reading if text.startswith(f"**{start}")), "")


def test_the_families_have_their_error_rates(tables, plain):
    primary, exploratory = tables.error_rates
    assert primary.startswith("The primary scores: superglue and wikitext.")
    assert "at most about 5 % of reports" in primary and "(2.5 % for each)" in primary
    assert exploratory.startswith("9 exploratory scores:") and "at most about 5 %" in exploratory
    (alone,) = made(plain, Made("superglue")).error_rates
    assert alone.startswith("The primary score: superglue. In at most about 5 % of reports like this one")
    assert alone.endswith("any row gets a false verdict on it.")
    (only,) = made(plain, Made("boolq", is_primary=False)).error_rates
    assert only.startswith("1 exploratory score:")


def test_a_primary_score_has_a_table_like_that_of_the_loss(tables):
    assert [one["heading"] for one in tables.primary] == [
        "superglue (per cent, higher is better)",
        "wikitext (bits a byte, lower is better)",
    ]
    assert re.fullmatch(
        r"Baseline Vanilla Transformer: 55\.\d\d ± 0\.\d\d, 5 runs\. Chance level: 50\. 2,100 items\.",
        tables.primary[0]["baseline"],
    )
    assert "Chance" not in tables.primary[1]["baseline"]
    lines = lines_of(tables)
    found = tables.scores.tables["superglue"].verdicts["SwiGLU"].comparison
    assert lines["SwiGLU"] == {
        "Row": "SwiGLU",
        "Difference": f"+{found.delta:.2f}",
        "Interval": f"+{found.low:.2f} to +{found.high:.2f}",
        "p (adjusted)": "0.020",
        "Verdict": "**better**",
        "Detectable": "",
        "Score": lines["SwiGLU"]["Score"],
        "Standard error: seeds": "0.40",
        "items": "0.30",
        "Seeds": "3",
        "Remarks": "",
    }
    assert re.fullmatch(r"6\d\.\d\d ± 0\.\d\d", lines["SwiGLU"]["Score"])
    assert lines["No position"]["Verdict"] == "**worse**"
    assert (lines["GeLU"]["Verdict"], lines["GeLU"]["Detectable"]) == ("no difference detected", "2.0")
    assert lines["Sigmoid"]["Remarks"] == "2 shared seeds, 3 are needed" and lines["Sigmoid"]["Interval"] == "–"
    assert lines["Larger vocabulary"]["Verdict"] == "not comparable"
    assert lines["A/A (other initial values)"]["Remarks"] == "A/A control"


def test_the_best_row_comes_first_in_either_direction(tables):
    for number, sign in ((0, -1), (1, 1)):
        table = tables.scores.primary[number]
        labels = list(lines_of(tables, number))
        deltas = [sign * table.verdicts[label].comparison.delta for label in labels]
        assert deltas == sorted(deltas) and labels[0] == "SwiGLU" and labels[-1] == "No position"


def test_a_row_says_what_it_is_compared_with(plain):
    other = replace(plain, rows=[replace(row, control="SwiGLU") if row.label == "GeGLU" else row for row in plain.rows])
    tables = ScoreTables(usual(other), TABLE)
    lines = lines_of(tables)
    assert (lines["GeGLU"]["Against"], lines["RoPE"]["Against"]) == ("SwiGLU", "the baseline")
    assert len(tables.aligns) == len(tables.heads) and "the row that it is compared with" in tables.reading[0]


def test_where_the_noise_of_the_items_comes_from(plain, tables):
    words = entry(tables, "Standard error")
    assert "item by item, as all models are asked the same items (for superglue, lambada" in words
    assert "not known for wikitext: the intervals are those of the seeds only" in words
    for how, told, untold in (
        (PAIRED, "differences item by item, as all models are asked the same items.", "not known"),
        (UNPAIRED, "from the standard errors of both scores", "the part of the items is not known"),
        (SEEDS_ONLY, "The part of the items is not known here", "item by item"),
    ):
        words = entry(made(plain, Made("superglue", item_noise=how)), "Standard error")
        assert told in words and untold not in words


def test_what_at_chance_means_is_said_where_something_is(plain, tables):
    assert "there is no verdict on the difference" in entry(tables, "At chance")
    assert entry(made(plain, Made("superglue", base=90.0)), "At chance") == ""


def test_a_score_that_a_constant_answer_explains_is_named(plain, tables):
    assert entry(tables, "Nothing right").endswith("no item was right on lambada (0.00 in 48 of 48 runs).")
    words = entry(tables, "Alike")
    assert words.startswith(
        r"**Alike:** most runs have the very same result on superglue\_boolq (50.50 in 48 of 48 runs)."
    )
    lower = made(plain, Made("loss", higher_is_better=False, base=0.0, constant=True))
    assert entry(lower, "Nothing right") == "" and "loss (0.00 in 48" in entry(lower, "Alike")
    assert entry(made(plain, Made("superglue")), "Alike") == ""


def test_a_score_that_no_row_does_better_than_chance_on_is_named(plain, tables):
    assert entry(tables, "Below chance") == ""
    near = Made("boolq", base=49.9, noise=0.0)  # all at chance
    below = made(plain, Made("hellaswag", base=30.0, noise=0.0), near)
    words = "**Below chance:** no row reaches the chance level on hellaswag (at most 30.00, chance 50)."
    assert entry(below, "Below chance").startswith(words)
    assert entry(made(plain, Made("loss", higher_is_better=False, base=3.0)), "Below chance") == ""
    assert entry(made(plain, Made("a", base=30.0, chance=np.nan)), "Below chance") == ""


def test_large_numbers_have_three_digits(plain):
    wide = made(plain, Made("perplexity", False, base=3.2e9, noise=3e8, error=1e8, item_error=1e8, chance=np.nan))
    cells = {line[0]: line[1] for line in wide.exploratory[0]["lines"]}
    assert re.fullmatch(r"[2-4]\.?\d* G \([+−]\d+\.?\d* M\)", cells["GeLU"])
    assert max(len(cell) for line in wide.exploratory_power_lines for cell in line) < 20


def test_figures_that_are_not_comparable_are_named_once_for_each_reason(plain, tables):
    words = entry(tables, "Not comparable")
    assert words.count("a fifth of the training passages") == 1 and "and 4 more (a fifth" in words
    many = [Made(f"task{number}", not_comparable=f"reason {number}") for number in range(9)]
    assert "; and 3 more reasons in records.jsonl." in entry(made(plain, *many), "Not comparable")
    assert entry(made(plain, Made("superglue")), "Not comparable") == ""


def test_exploratory_verdicts_are_called_so(plain, tables):
    words = tables.exploratory_verdicts
    counts = re.match(
        r"Of (\d+) comparisons of a row on an exploratory score, (\d+) are better, (\d+) are worse", words
    )
    every = [found for table in tables.scores.exploratory for found in table.verdicts.values()]
    decided = {word: sum(found.verdict == word for found in every) for word in ("better", "worse")}
    assert [int(number) for number in counts.groups()[1:]] == [decided["better"], decided["worse"]]
    assert int(counts[1]) == sum(math.isfinite(found.comparison.delta) for found in every)
    assert ". Exploratory: SwiGLU on superglue" in words and "more." in words
    none = made(plain, Made("boolq", is_primary=False, base=90.0))
    assert none.exploratory_verdicts.endswith("none is worse, none is at chance and 12 are undecided.")


def test_exploratory_scores_side_by_side(tables):
    first, second = tables.exploratory
    assert len(first["heads"]) == 9 and second["heads"] == ["Row", r"superglue\_wsc (per cent, higher is better)"]
    cells = {line[0]: dict(zip(first["heads"], line, strict=True)) for line in first["lines"]}
    cb, wic = (f"superglue\\_{task} (per cent, higher is better)" for task in ("cb", "wic"))
    assert re.fullmatch(r"6\d\.\d\d \(\+\d\.\d\d \*\*better\*\*\)", cells["SwiGLU"][cb])
    assert re.fullmatch(r"5\d\.\d\d \([+−]\d\.\d\d at chance\)", cells["GeLU"][wic])
    assert re.fullmatch(r"\d\d\.\d\d", cells["Vanilla Transformer"][cb])


def test_many_primary_scores_are_folded(plain):
    assert [one["folded"] for one in made(plain, *(Made(f"task{number}") for number in range(4))).primary] == [True] * 4
    assert not any(one["folded"] for one in made(plain, *(Made(f"task{number}") for number in range(3))).primary)


def test_what_the_scores_can_tell(tables):
    every = [*tables.power_lines, *tables.exploratory_power_lines]
    lines = {line[0]: dict(zip(tables.power_heads, line, strict=True)) for line in every}
    assert [line[0] for line in tables.power_lines] == ["superglue", "wikitext"] and list(lines)[2] == "lambada"
    own = lines["superglue"]
    assert (own["Items"], own["Chance"], own["Detectable"], own["At chance"]) == ("2100", "50", "2.0", "0 of 16 rows")
    assert float(own["Signal / noise"]) > 2 and own["Noise: items"] == "0.21"
    assert (lines["wikitext"]["Chance"], lines["wikitext"]["At chance"], lines["wikitext"]["Noise: items"]) == (
        "–",
    ) * 3
    assert lines["lambada"]["At chance"] == "12 of 16 rows"


def test_rank_correlations_beside_the_published_ones(tables):
    lines = {line[0]: line[1:] for line in tables.rank_lines}
    assert re.fullmatch(r"0\.\d\d \(−?0\.\d\d to 0\.\d\d\)", lines["superglue"][1])
    assert lines["superglue"][3:5] == ["52", "0.87 (0.77 to 0.93)"]
    assert "lambada" not in lines
    assert tables.without_ranks == "Without a correlation here: 2 scores (the same in all rows: 2)."
    assert lines[r"xsum\_rouge2"][:3] == ["–"] * 3 and lines[r"xsum\_rouge2"][4].startswith("0.82 (")
    assert all(len(line) == len(tables.rank_heads) for line in tables.rank_lines)


def changed(tables, name, **changes):
    """The same report with another table of one score."""
    scores = tables.scores
    other = replace(scores, tables={**scores.tables, name: replace(scores.tables[name], **changes)})
    return ScoreTables(replace(tables.verdicts, scores=other), TABLE)


def test_rows_without_a_score_are_named_and_have_no_line(tables):
    table = tables.scores.tables["superglue"]
    values = {label: values * np.nan if label in ("GeLU", "RoPE") else values for label, values in table.values.items()}
    without = changed(tables, "superglue", values=values)
    assert without.primary[0]["baseline"].endswith("2,100 items. Without this score: GeLU and RoPE.")
    assert {*lines_of(tables)} - {*lines_of(without)} == {"GeLU", "RoPE"}
    assert "Without" not in tables.primary[0]["baseline"]


def test_a_note_on_the_items_stands_once_where_it_holds_for_all_rows(tables):
    def noted(*rows):
        verdicts = tables.scores.tables["superglue"].verdicts
        notes = {label: replace(found, item_note="none | known") for label, found in verdicts.items() if label in rows}
        return changed(tables, "superglue", verdicts={**verdicts, **notes})

    every = noted(*tables.scores.tables["superglue"].verdicts)
    assert every.primary[0]["baseline"].endswith(r" items. Items: none \| known.")
    assert lines_of(every)["GeLU"]["Remarks"] == ""
    one = noted("GeLU")
    assert "Items:" not in one.primary[0]["baseline"] and lines_of(one)["GeLU"]["Remarks"] == r"none \| known"


def test_what_rounding_leaves_is_no_noise(plain):
    tables = made(plain, Made("superglue", noise=1e-14, error=1e-14, item_error=0.0))
    assert {line["Standard error: seeds"] for line in lines_of(tables).values()} == {"0", "–"}
    power = dict(zip(tables.power_heads, tables.power_lines[0], strict=True))
    heads = ("Signal", "Noise: seeds", "Signal / noise", "Detectable")
    assert [power[head] for head in heads] == ["0", "0", "–", "–"]


NASTY = r"a|b_<script>[x](y)$z*"


def test_no_name_unit_or_reason_is_markup(plain):
    rows = [replace(row, label=f"{row.label} | <b>") if row.label == "SwiGLU" else row for row in plain.rows]
    scored = made(
        replace(plain, rows=rows),
        Made(NASTY, unit="|", not_comparable="<i>|\n\n# x"),
        Made(f"{NASTY}2", False, constant=True, base=50.0),
    )
    texts = [*scored.error_rates, *scored.reading, scored.exploratory_verdicts]
    for one in scored.primary:
        texts += [one["heading"], one["baseline"], *(cell for line in one["lines"] for cell in line)]
    for part in scored.exploratory:
        texts += [*part["heads"], *(cell for line in part["lines"] for cell in line)]
    texts += [cell for line in (*scored.power_lines, *scored.exploratory_power_lines) for cell in line]
    texts += [cell for line in scored.rank_lines for cell in line]
    for text in texts:
        assert "\n" not in text and "<" not in text
        assert not re.search(r"(?<!\\)[|$\[]", text), text


def test_scores_without_numbers_are_dashes(plain):
    scored = with_scores(plain, [Made("superglue"), Made("boolq", False)])
    unknown = dict.fromkeys(("delta", "low", "high", "error", "item_error", "detectable", "p_adjusted"), np.nan)

    def emptied(table):
        values = {label: values * np.nan for label, values in table.values.items()}
        verdicts = {
            label: replace(found, comparison=replace(found.comparison, **unknown))
            for label, found in table.verdicts.items()
        }
        return replace(table, values=values, noise=np.nan, verdicts=verdicts)

    empty = {name: emptied(table) for name, table in scored.scores.tables.items()}
    tables = ScoreTables(replace(scored, scores=replace(scored.scores, tables=empty)), TABLE)
    assert lines_of(tables) == {} and "Without this score: RMS Norm; No norm;" in tables.primary[0]["baseline"]
    assert "Of 0 comparisons" in tables.exploratory_verdicts
    assert tables.without_ranks == "Without a correlation here: 2 scores (too few rows: 2)."
    assert all(tables.reading) and tables.power_lines and tables.exploratory
