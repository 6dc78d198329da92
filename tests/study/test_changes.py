"""Changes given on a command line, as a sweep file."""

import pytest

from ablate.study import changes


@pytest.mark.parametrize(
    ("given", "question"),
    [
        (["norm=rmsnorm"], "Is norm=rmsnorm better than the baseline?"),
        (["norm=rmsnorm", "activation=gelu"], "Which of these 2 changes are better than the baseline?"),
    ],
)
def test_the_question_is_of_one_change_or_of_several(given, question, tmp_path):
    assert changes.asked(given, base=[], seeds=3, folder=tmp_path).question == question


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("activation=swiglu  bias=none", ["activation=swiglu", "bias=none"]),
        ("row='a b' x=1", ["row='a b'", "x=1"]),
        ('row="a \'b" x=1', ['row="a \'b"', "x=1"]),
        ("a=[1, {b: (2, 3)}] c=4", ["a=[1, {b: (2, 3)}]", "c=4"]),
        ("", []),
    ],
)
def test_a_word_is_divided_at_spaces_outside_quotes_and_brackets(text, words):
    assert changes.split(text) == words
