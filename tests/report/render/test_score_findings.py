"""What the primary scores say of the changes, in words."""

from dataclasses import replace

from ablate.report.render.score_findings import findings, headline, terminal_lines
from ablate.report.render.summary import Summary
from ablate.report.render.terminal import lines_of
from tests.report.scored import Made, with_scores


def test_the_headline_counts_changes_by_score(scored):
    first, second = headline(scored).split("; ")  # the A/A control is no change
    assert first == (
        "Of the same changes, on superglue, 3 are better, 2 are worse, 6 are undecided (a difference of 2.0 per cent "
        "is detectable) and 4 have no verdict"
    )
    assert second == (
        "on wikitext, 1 is better, 1 is worse, 9 are undecided (a difference of 0.032 bits a byte is detectable) and "
        "4 have no verdict."
    )


def test_differences_in_per_cent_are_percentage_points(plain):
    assert "(a difference of 2.0 percentage points is detectable)" in headline(
        with_scores(plain, [Made("a", unit="%")])
    )
    assert "(a difference of 2.0 is detectable)" in headline(with_scores(plain, [Made("a", unit="")]))


def test_rows_at_chance_are_counted_apart(plain):
    chance = with_scores(plain, [Made("zero_shot", base=50.0)])
    assert "none is better, none is worse, 11 are at chance and 4 have no verdict" in headline(chance)
    (finding,) = findings(chance)
    assert (
        finding
        == r"**Score zero\_shot (per cent):** at chance, like what they are compared with: 11 rows; no verdict: 4 rows."
    )


def test_without_a_verdict_nothing_is_said(plain):
    assert headline(plain) == "" and findings(plain) == [] and terminal_lines(plain) == []
    few = [row for row in plain.rows if row.verdict == "no verdict"]
    untested = with_scores(replace(plain, rows=few), [Made("superglue")])
    assert headline(untested) == "" and findings(untested) == []
    exploratory = with_scores(plain, [Made("boolq", is_primary=False)])
    assert headline(exploratory) == "" and findings(exploratory) == []
    assert terminal_lines(exploratory) == ["1 exploratory score in the report"]


def test_findings_name_the_rows_with_their_intervals(scored):
    first = findings(scored)[0]
    found = scored.scores.tables["superglue"].verdicts["SwiGLU"].comparison
    size = f"{found.delta:.2f} (+{found.low:.2f} to +{found.high:.2f})"
    assert first.startswith(f"**Score superglue (per cent):** better: **SwiGLU** by {size}, **GeGLU** by")
    assert "; worse: **No position** by" in first
    assert "no difference detected: 6 rows (detectable with 80 % power: 2.0 per cent); no verdict: 4 rows." in first


def test_a_score_below_chance_says_so(plain):
    (finding,) = findings(with_scores(plain, [Made("zero_shot", base=30.0, noise=0.0)]))
    assert finding.endswith("; no verdict: 4 rows; no row reaches the chance level, 50 (the best: 30.00).")


def test_where_score_and_loss_part(plain):
    effects = (("SwiGLU", -6.0), ("No position", 5.0), ("GeLU", 4.0), ("GeGLU", 5.0))
    texts = findings(with_scores(plain, [Made("superglue", effects=effects)]))
    assert texts[1] == (
        "**Loss and superglue disagree:** No position (worse by its loss, better on superglue) and SwiGLU (better by "
        "its loss, worse on superglue)."
    )
    assert texts[2] == "**Different on superglue, with no difference detected in the final loss:** GeLU (better)."
    agreeing = (("SwiGLU", 6.0), ("No position", -5.0))
    assert len(findings(with_scores(plain, [Made("superglue", effects=agreeing)]))) == 1


def test_the_summary_has_them_after_the_verdicts_on_the_loss(small_results, scored, plain):
    summary = Summary(small_results, scored)
    assert summary.scores == headline(scored)
    place = next(number for number, text in enumerate(summary.findings) if text.startswith("**Score superglue"))
    assert summary.findings[place - 1].startswith("**No verdict")
    assert Summary(small_results, plain).scores == ""
    assert [text for text in summary.findings if text not in findings(scored)] == Summary(small_results, plain).findings


def test_a_terminal_has_a_line_for_each_score(plain, scored):
    *before, first, second, last = lines_of(scored)
    assert before == lines_of(plain)
    assert first.startswith("superglue: 3 are better, 2 are worse") and last == "9 exploratory scores in the report"
    assert first.endswith("; better: SwiGLU, GeGLU and RoPE; worse: No position and Post-norm")
    assert second.endswith("; better: SwiGLU; worse: No position")
    many = with_scores(plain, [Made(f"task{number}") for number in range(6)])
    assert terminal_lines(many)[4:] == ["2 more primary scores in the report"]
    assert "; 2 more scores in the report." in headline(many)


def test_strings_from_outside_stay_on_their_line(plain):
    name = "a\nb\x1b[31m|*"
    scored = with_scores(plain, [Made(name, effects=(("SwiGLU", 6.0),))])
    assert all("\n" not in line and "\x1b" not in line for line in terminal_lines(scored))
    assert "\n" not in headline(scored) and r"\|\*" in findings(scored)[0]
