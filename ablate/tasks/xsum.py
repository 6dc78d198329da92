"""XSum (Narayan et al. 2018, https://arxiv.org/abs/1808.08745): one sentence that sums up a news article.

summarize: The ex-Reading defender denied fraudulent trading charges ...  ->  Former Premier League footballer ...
"""

from __future__ import annotations

import hashlib

from ablate.tasks.constants import most_typical
from ablate.tasks.example import Example
from ablate.tasks.metrics import generation
from ablate.tasks.readers import Row
from ablate.tasks.task import Task, each


def article(row: Row) -> Example:
    """`summarize: ...`, with the data set's own id, or a hash of the article."""
    text = row.text("document")
    name = row.content.get("id") or hashlib.sha256(text.encode()).hexdigest()[:16]
    return Example(f"xsum/{name}", "summarize: ", text, "", (row.text("summary"),), split_key=text)


TASK = Task("xsum", "", each(article), generation.rouge, most_typical, package="rouge_score")
