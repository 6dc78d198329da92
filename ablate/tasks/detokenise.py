"""Text of Moses' tokeniser back to what it was: entities undone, punctuation joined to its word.

The conventions are those of Moses (Koehn et al. 2007): `&apos;s` belongs to the word before it; a quotation mark opens
at odd and closes at even places of the line. What tokenising has lost, such as two kinds of quotation mark written as
one, does not come back.
"""

from __future__ import annotations

ENTITIES = {
    "&apos;": "'",
    "&quot;": '"',
    "&#91;": "[",
    "&#93;": "]",
    "&#124;": "|",
    "&lt;": "<",
    "&gt;": ">",
    "&amp;": "&",  # last: what it gives is not read again
}
JOINED_TO_NEXT = frozenset("([{¿¡„“‚$£")
JOINED_TO_PREVIOUS = frozenset(",.?!:;…%)]}”‘")
QUOTES = frozenset("\"'")


def detokenised(line: str, language: str) -> str:
    """The text of a tokenised line, in `language` en or de.

    In German a quotation mark that is its own token opens and closes as in English, and „ and “ are its pair, of which
    the second closes.
    """
    for entity, character in ENTITIES.items():
        line = line.replace(entity, character)
    closing = JOINED_TO_PREVIOUS | ({"“"} if language == "de" else frozenset())
    opening = JOINED_TO_NEXT - closing
    text, is_glued, is_open = "", True, dict.fromkeys(QUOTES, False)
    for token in line.split():
        joins_next = token in opening
        joins_previous = closing.issuperset(token) or (language == "en" and _is_clitic(token))
        if token in QUOTES and not joins_previous:
            joins_previous, joins_next = is_open[token], not is_open[token]
            is_open[token] = not is_open[token]
        text += token if is_glued or joins_previous else f" {token}"
        is_glued = joins_next
    return text


def _is_clitic(token: str) -> bool:
    """Whether an English token is the end of the word before it: 's, 'll; not a quotation mark, nor '90s."""
    return len(token) > 1 and token[0] == "'" and token[1:].isalpha()
