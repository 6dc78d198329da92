"""A step's profile in words and tables: operations against time, by class of work, beside the published shares."""

from __future__ import annotations

from ablate.report.analysis.step_profile import Profile, ProfiledVariant
from ablate.report.text import md_code, md_escape, relative_speed, significant
from ablate.statistics.speed_ratio import FEWEST_ROUNDS, SpeedRatio
from ablate.training.work import CLASSES, COMPUTING, NORMALIZATION, PUBLISHED

HEADER = (
    "class of work",
    "operations",
    "of operations",
    "ms",
    "of run time",
    "of the step",
    "Ivanov et al.: ops, time",
)
NOTES = (
    "The classes are those of Ivanov et al. 2021, [Data Movement Is All You Need](https://arxiv.org/abs/2007.00072), "
    "whose own shares, of BERT's encoder layer on a V100, are in the last column. Operations: two for each "
    "multiply-accumulate of a product, else one for each element and elementary step. Shares of operations and of run "
    "time are those among the three classes that compute; shares of the step include the rest: what moves data, the "
    "optimizer, and the time between operators. Medians of shares need not add up to 100 %. The profiler lengthens "
    "small operators the most."
)
CLOSE = 0.001  # products counted twice differ by less


def cells(variant: ProfiledVariant) -> list[list[str]]:
    """The table of one variant, its header first."""
    lines = [list(HEADER)]
    for kind in CLASSES:
        computes = kind in COMPUTING
        published = "{:.2%}, {:.1%}".format(*PUBLISHED[kind]) if computes else ""
        lines.append(
            [
                kind,
                f"{significant(variant.operations(kind) / 1e9, 3)} G" if variant.operations(kind) else "–",
                f"{variant.operation_share(kind):.2%}" if computes else "",
                f"{1000 * variant.seconds(kind):.2f}",
                f"{variant.time_share(kind):.1%}" if computes else "",
                f"{variant.step_share(kind):.1%}",
                published,
            ]
        )
    return lines


def check_line(variant: ProfiledVariant) -> str:
    """How the operations of the products agree with those that `ablate cost` counts."""
    counted = f"{significant(variant.flops_per_step / 1e9, 4)} GFLOPs a step"
    if abs(variant.counted_ratio - 1) < CLOSE:
        return f"The products' operations are the {counted} that `ablate cost` counts."
    return (
        f"`ablate cost` counts {counted}; the profiler saw {variant.counted_ratio:.3f} times as many operations of "
        "products, so that one of the two does not know an operator of this model."
    )


def timing_line(variant: ProfiledVariant) -> str:
    """A step's time, with and without the profiler."""
    plain, watched = 1000 * variant.step_seconds, 1000 * variant.watched_seconds
    return f"A step takes {plain:.1f} ms, and {watched:.1f} ms while the profiler watches, whose times the table has."


def made_line(profile: Profile) -> str:
    """Where it was measured, and how often."""
    made, rounds = profile.made, len(profile.variants[0].rounds)
    times = "one run" if rounds == 1 else f"the medians of {rounds} runs"
    if len(profile.variants) > 1:
        times += " of each, in turn"
    return (
        f"Measured on {made['device']} ({made['kind']}, threads: {made['threads']}, load: {made['load']:.1f}) with "
        f"torch {made['versions']['torch']}, {made['precision']}, not compiled: {times}, {made['steps']} steps long. "
        "Another machine has other shares."
    )


def findings(profile: Profile) -> list[str]:
    """Of two variants: what is saved, and whether it pays, each in a sentence."""
    first, second = profile.variants
    one, other = first.label, second.label
    all_first, all_second = (sum(map(variant.operations, COMPUTING)) for variant in (first, second))
    saved = 1 - all_second / all_first
    of_norms = 1 - second.operations(NORMALIZATION) / first.operations(NORMALIZATION)
    share, time = first.operation_share(NORMALIZATION), first.time_share(NORMALIZATION)
    by = ", by the processor's time," if profile.uses_processor_time else ""
    lines = [
        (
            f"With {one}, normalization (the norms and softmax) makes {share:.2%} of the operations and takes "
            f"{time:.1%} of their time: for each operation {significant(time / share, 2)} times as long as the "
            "average, because it reads and writes whole activations and computes little on each number."
        ),
        (
            f"{other} makes {of_norms:.1%} fewer operations in normalization than {one}, {saved:.2%} of all: counted "
            "in operations there is next to nothing to gain, and what there is to gain or lose is time for memory."
        ),
        _speed(f"Normalization with {other}", profile.class_speedup(NORMALIZATION), f"with {one}"),
        _speed(f"A step with {other}{by}", profile.step_speedup(), f"with {one}"),
    ]
    return [*lines, _verdict(profile, other, saved)]


def _verdict(profile: Profile, other: str, saved: float) -> str:
    """Whether the second variant pays, said where the interval of the step's time tells it."""
    step = profile.step_speedup()
    if not step.differs:
        return f"Whether {other} pays cannot be told from these rounds."
    if step.ratio > 1:
        return f"So {other} pays here, by more than its saved operations, {saved:.2%}, would explain."
    line = f"So {other} does not pay here, although it saves operations."
    if "rmsnorm" not in other or profile.made["kind"] != "cpu":
        return line
    return (
        f"{line} What decides is how often a norm's operators go through memory: torch's RMS norm on a CPU is composed "
        "of several element-wise operators, each of which reads and writes all of the activations, where its layer "
        "norm is a single one. A kernel that goes through them once is what could make it pay."
    )


def _speed(what: str, found: SpeedRatio, than: str) -> str:
    """How many times as fast, with its interval; a word only where that excludes 1."""
    if found.rounds < FEWEST_ROUNDS:
        return (
            f"{what} ran {relative_speed(found)} as fast as {than}; fewer than {FEWEST_ROUNDS} rounds give no interval."
        )
    if not found.differs:
        return f"{what} ran {relative_speed(found)} as fast as {than}: no difference is detected."
    return f"{what} is {'faster' if found.ratio > 1 else 'slower'}: {relative_speed(found)} as fast as {than}."


def markdown(profile: Profile, picture: str) -> str:
    """report.md of a folder with a profile."""
    labels = " against ".join(md_escape(variant.label) for variant in profile.variants)
    lines = [f"# Where a training step's time goes: {labels}", "", made_line(profile), ""]
    if len(profile.variants) > 1:
        lines += ["## What was found", "", *(f"- {md_escape(line)}" for line in findings(profile)), ""]
    lines += [f"![Shares of operations and of time]({picture})", ""]
    for variant in profile.variants:
        header, *rows = cells(variant)
        lines += [f"## {md_escape(variant.label)}", "", md_code(" ".join(variant.overrides) or "the baseline"), ""]
        lines += [_row(header), _row(["---", *["---:"] * (len(header) - 1)]), *map(_row, rows), ""]
        lines += [timing_line(variant), check_line(variant), ""]
    lines += [NOTES, "", "Made from profile.json alone; `ablate profile --help` says how to measure it again."]
    return "\n".join(lines) + "\n"


def _row(words: list[str]) -> str:
    return f"| {' | '.join(words)} |"
