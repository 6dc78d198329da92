"""A tokenizer.json as a corpus uses it: the same text always gives the same ids, and text never becomes a special id.

Text may spell a special piece, such as </s>. The `tokenizers` library leaves those alone that it knows as special, but
a model whose vocabulary holds them, as `transformers` writes for T5, finds them like any other piece. So the text is
cut inside each of them just before the model sees it, after all normalisation: "</s>" -> "<", "/s>".
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Any

SWITCHED_OFF = ("truncation", "padding", "post_processor")  # parts that shorten a text or add to it
SAMPLING = ("dropout", "alpha", "nbest_size")  # settings of a model by which one text gives several results
BYTE = re.compile(r"<0x[0-9A-F]{2}>")


def normalised(description: str, reserved: Collection[str]) -> tuple[str, list[str]]:
    """A tokenizer.json for preparing a corpus, and the names of what was switched off in it.

    reserved: pieces that stand for something else than text, besides those that the file says are special.
    """
    described = json.loads(description)
    found = [name for name in SWITCHED_OFF if described.get(name)]
    described |= dict.fromkeys(SWITCHED_OFF)
    model = described["model"]
    for name in SAMPLING:
        if model.get(name):
            found.append(name)
            model[name] = None
    described["added_tokens"] = _added(described, reserved)
    special = {token["content"] for token in described["added_tokens"] if token["special"]}
    if cuts := _cuts(_spelled(model, special)):
        before = described.get("pre_tokenizer")
        steps = [before] if before else []
        described["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [*steps, *cuts]}
    return json.dumps(described, ensure_ascii=False), [name.replace("_", "-") for name in found]


def _added(described: dict[str, Any], reserved: Collection[str]) -> list[dict[str, Any]]:
    """The added tokens, with the reserved pieces among them and special, so that they are not looked for in text."""
    added = {token["content"]: token for token in described.get("added_tokens") or ()}
    vocabulary = _vocabulary(described["model"])
    for piece in reserved:
        usual = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
        token = added.get(piece) or {"id": vocabulary[piece], "content": piece, **usual}
        added[piece] = {**token, "special": True}
    return sorted(added.values(), key=lambda token: token["id"])


def _vocabulary(model: dict[str, Any]) -> dict[str, int]:
    """The ids of the model's own pieces; Unigram has a list of pieces with their scores."""
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        return vocabulary
    return {piece: index for index, (piece, _) in enumerate(vocabulary)}


def _spelled(model: dict[str, Any], special: Collection[str]) -> list[str]:
    """The special pieces, and the pieces of single bytes, that the model would find where a text spells them."""
    vocabulary = _vocabulary(model)
    if model.get("type") == "BPE" and not model.get("ignore_merges"):
        parts = (merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"])
        products = {"".join(pair) for pair in parts}
        return sorted(piece for piece in special if piece in products)
    # of a BPE no merge ends in a byte's piece; it is taken for bytes alone
    in_bytes = [piece for piece in vocabulary if model.get("byte_fallback") and BYTE.fullmatch(piece)]
    return sorted({*(piece for piece in special if piece in vocabulary), *in_bytes})


def _cuts(pieces: Iterable[str]) -> list[dict[str, Any]]:
    """A step for each first character: cut behind it where the rest of one of these pieces follows."""
    rests: dict[str, list[str]] = defaultdict(list)
    for piece in pieces:
        if len(piece) > 1:  # a single character cannot be cut; `HuggingFace.encode` refuses it
            rests[piece[0]].append(re.escape(piece[1:]))
    return [
        {
            "type": "Split",
            "pattern": {"Regex": f"{re.escape(first)}(?={'|'.join(found)})"},
            "behavior": "MergedWithPrevious",
            "invert": False,
        }
        for first, found in sorted(rests.items())
    ]
