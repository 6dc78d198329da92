"""A model as the folder that `transformers` reads: config.json, model.safetensors, and the tokenizer beside them."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ablate.errors import UserError

CONFIG, WEIGHTS = "config.json", "model.safetensors"
TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
SPECIAL = ("pad_token", "eos_token")  # each with its id, such as pad_token_id


def write(path: Path, config: Mapping[str, Any], state: Mapping[str, Tensor], tokenizer: bytes | None) -> list[str]:
    """Write the folder, whole or not at all; returns the names of its files.

    `tokenizer`: the content of a tokenizer.json. Raises `UserError` where there is a folder or file at `path`.
    """
    from safetensors.torch import save_file

    if path.exists():
        raise UserError(f"{path} is there already; nothing is written over")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as made:
        folder = Path(made) / "whole"
        folder.mkdir()
        save_file(dict(state), folder / WEIGHTS, metadata={"format": "pt"})
        _dump(folder / CONFIG, config)
        if tokenizer is not None:
            (folder / TOKENIZER).write_bytes(tokenizer)
            _dump(folder / TOKENIZER_CONFIG, _described(config, tokenizer))
        shutil.copymode(path.parent, folder)
        folder.rename(path)
    return sorted(file.name for file in path.iterdir())


def _described(config: Mapping[str, Any], tokenizer: bytes) -> dict[str, Any]:
    """What tokenizer_config.json says: the class, and which pieces are special.

    Text that spells a special piece is that piece to `transformers`, and text to this project.
    """
    from tokenizers import Tokenizer

    pieces = Tokenizer.from_str(tokenizer.decode())
    ids = {name: config.get(f"{name}_id") for name in SPECIAL}
    special = {name: piece for name, at in ids.items() if at is not None and (piece := pieces.id_to_token(at))}
    return {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **special}


def _dump(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
