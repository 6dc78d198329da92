"""Moses' tokenisation undone: cases written by hand."""

import pytest

from ablate.tasks.detokenise import detokenised


@pytest.mark.parametrize(
    ("language", "tokens", "text"),
    [
        ("en", "I don &apos;t know , do you ?", "I don't know, do you?"),
        ("en", "the rapporteur &apos;s call", "the rapporteur's call"),
        ("en", "She said : &quot; No . &quot; He left .", 'She said: "No." He left.'),
        ("en", "( see &#91; 3 &#93; ) is 5 % of $ 7", "(see [3]) is 5% of $7"),
        ("en", "R &amp; D &amp;lt; x", "R & D &lt; x"),
        ("en", "wait ... what ?!", "wait... what?!"),
        ("en", "a &lt; b &gt; c &#124; d", "a < b > c | d"),
        ("en", "the &apos; old &apos; one", "the 'old' one"),
        ("de", "Er sagte : „ Nein “ , und ging .", "Er sagte: „Nein“, und ging."),
        ("de", "die &quot; alte &quot; Zeit !", 'die "alte" Zeit!'),
        ("en", "", ""),
    ],
)
def test_by_hand(language, tokens, text):
    assert detokenised(tokens, language) == text
