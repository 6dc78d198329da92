"""`ablate export RUN PATH`: a finished run as the folder that `transformers` loads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.cli import arguments
from ablate.errors import UserError, nearest
from ablate.run.folder import RunFolder
from ablate.terminal import say

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from ablate.model.build import Model
    from ablate.weights.form import Form

HELP = """Write a finished run as the folder that transformers loads with from_pretrained.

usage: ablate export RUN PATH [as=CLASS] [paths.data=FOLDER]

  ablate export runs/adhoc/preset-llama/seed-0 exported/llama

RUN is the folder of a run that kept its weights. The folder has config.json, model.safetensors and, where the text of
the run is prepared here, the tokenizer. The class is the first one that has such a model; as=CLASS asks for one, and
says what it lacks. Weights are converted where the class writes the same model down in another way, such as another
scale of its attention scores. Nothing is written over.
"""


def run(words: list[str]) -> int:
    """Write the folder."""
    given = arguments.sort(words)
    if len(given.names) != 2:
        raise UserError("ablate export takes a run and a path, as in  ablate export runs/adhoc/baseline/seed-0 mine")
    asked = [word.removeprefix("as=") for word in given.overrides if word.startswith("as=")]
    others = [word for word in given.overrides if not word.startswith("as=")]
    for word in others:
        if not word.startswith("paths.data="):
            hint = nearest(word.partition("=")[0], ["as", "paths.data"])
            raise UserError(f"{word}: ablate export takes as= and paths.data={hint}")
    source, path = RunFolder(given.names[0]), Path(given.names[1])
    if path.exists():
        raise UserError(f"{path} is there already; nothing is written over")
    cfg = _config(source, [word.partition("=")[2] for word in others])
    form = _form(cfg, asked[-1] if asked else None)
    model = _model(source, cfg)
    from ablate.weights import folder, names

    config, state = form.config(cfg), names.exported(names.once(form.weights(model)))
    tokenizer, ids, why = _tokenizer(cfg)
    files = folder.write(path, {**config, **ids, "dtype": "float32"}, state, tokenizer)
    count = sum(parameter.numel() for parameter in model.parameters())
    say(f"wrote {path}: {form.class_name}, {count:,} parameters ({', '.join(files)}){why}")
    return 0


def _config(source: RunFolder, data: list[str]) -> DictConfig:
    from ablate.config import restored

    record, content = source.read(), source.read_config()
    if record is None or content is None:
        raise UserError(f"{source.path}: no run with a record and a config.yaml")
    if not source.weights.exists():
        raise UserError(f"{source.path} ({record.status}) has no weights (keep_checkpoints=none, or it is not done)")
    if data:
        content["paths"]["data"] = data[-1]
    return restored(content)


def _form(cfg: DictConfig, asked: str | None) -> Form:
    """The class that is asked for, or the first that has the model; UserError where none has."""
    from ablate.weights import form

    if asked is not None:
        found = form.called(asked)
        found.config(cfg)
        return found
    for one in form.every():
        try:
            one.config(cfg)
        except UserError:
            continue
        return one
    known = ", ".join(one.class_name for one in form.every())
    raise UserError(
        f"no class of transformers that is known here has this model; as=CLASS says why one lacks it: {known}"
    )


def _model(source: RunFolder, cfg: DictConfig) -> Model:
    from ablate.config import build_model
    from ablate.training import checkpoint

    try:
        content = checkpoint.load(source.weights)
    except checkpoint.CheckpointError as error:
        raise UserError(str(error)) from None
    model = build_model(cfg)
    model.load_state_dict(content["state_dict"])
    return model.eval()


def _tokenizer(cfg: DictConfig) -> tuple[bytes | None, dict[str, Any], str]:
    """The content of its tokenizer.json and the ids of its special pieces, as far as its text is here, else why not."""
    from ablate.data.corpus_request import corpus_request
    from ablate.data.manifest import MANIFEST, read_manifest
    from ablate.weights.folder import TOKENIZER

    try:
        folder = corpus_request(cfg).folder
    except UserError as error:
        return None, {}, f"; without tokenizer: {error}"
    if not (folder / MANIFEST).exists():
        return None, {}, "; without tokenizer: its text is not prepared here"
    layout = read_manifest(folder)["layout"]
    ids = {"pad_token_id": layout["pad_id"], "eos_token_id": layout["eos_id"], "bos_token_id": None}
    ids |= {"decoder_start_token_id": layout["pad_id"]}
    if not (folder / TOKENIZER).exists():
        return None, ids, "; without tokenizer: it is a SentencePiece model"
    return (folder / TOKENIZER).read_bytes(), ids, ""
