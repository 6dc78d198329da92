"""Small files of tasks in the layouts that are read, in words of our own."""

import gzip
import json


def write(path, rows):
    """JSON lines, compressed where the name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(text, mtime=0) if path.suffix == ".gz" else text)


MULTIRC = {
    "idx": 4,
    "passage": {
        "text": "A crow saw a jug. It was thirsty.",
        "questions": [
            {"question": "What did it see?", "answers": [{"text": "A jug", "label": 1}, {"text": "A cup", "label": 0}]}
        ],
    },
}
RECORD = {
    "idx": 7,
    "passage": {
        "text": "Ann met Bob.\n@highlight\nThey spoke\n@highlight\nBob left",
        "entities": [{"start": 0, "end": 2}, {"start": 8, "end": 10}, {"start": 46, "end": 48}],
    },
    "qas": [{"query": "@placeholder went away", "idx": 9, "answers": [{"text": "Bob"}, {"text": "Bob"}]}],
}
WSC = {
    "idx": 0,
    "text": "Tom asked Jim if he could help him.",
    "target": {"span1_text": "Tom", "span1_index": 0, "span2_text": "him", "span2_index": 7},
    "label": True,
}


def cb(count, labels=("entailment", "contradiction", "neutral")):
    """Premises that say their own label."""
    return [
        {"premise": f"{labels[i % len(labels)]} {i}", "hypothesis": "so", "label": labels[i % len(labels)], "idx": i}
        for i in range(count)
    ]


def copa(count):
    """Choices of which the longer is right."""
    return [
        {"premise": f"p {i}", "choice1": "x", "choice2": "yy", "question": "cause", "label": i % 2, "idx": i}
        for i in range(count)
    ]
