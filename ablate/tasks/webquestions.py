"""WebQuestions (Berant et al. 2013), closed book: the question alone is read (Roberts et al. 2020).

wq question: what character did natalie portman play in star wars?  ->  Padmé Amidala
"""

from __future__ import annotations

import hashlib

from ablate.tasks.constants import most_frequent
from ablate.tasks.example import Example
from ablate.tasks.metrics import answers
from ablate.tasks.readers import Row
from ablate.tasks.task import Task, each


def question(row: Row) -> Example:
    """`wq question: ...` -> any of the answers; the layouts of the released files and of the Hub."""
    text = row.text("qText" if "qText" in row.content else "question")
    name = row.content.get("qId") or hashlib.sha256(text.encode()).hexdigest()[:16]
    return Example(f"webquestions/{name}", "wq question: ", text, "", tuple(row.texts_of("answers")), split_key=text)


TASK = Task("webq", "", each(question), answers.exact_match, most_frequent)
