"""Files of llama2.c, against its forward pass written out on the file's own matrices."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from ablate.config import build_model, compose
from ablate.errors import UserError
from ablate.weights import llama2c
from ablate.weights.form import LLAMA
from tests.weights.test_llama import in_form

HEADER = (24, 40, 2, 4, 2, 64, 32)  # width, feed-forward, layers, heads, key/value heads, vocabulary, length
STORIES = "ABLATE_STORIES260K"  # the folder with stories260K.bin


def written(path: Path, *, tied: bool) -> dict[str, np.ndarray]:
    """A file with random numbers, and its matrices by the names of run.c."""
    d, inner, layers, heads, kv_heads, vocabulary, length = HEADER
    k = d // heads
    shapes = {
        "token_embedding": (vocabulary, d), "rms_att": (layers, d), "wq": (layers, d, d),
        "wk": (layers, kv_heads * k, d), "wv": (layers, kv_heads * k, d), "wo": (layers, d, d), "rms_ffn": (layers, d),
        "w1": (layers, inner, d), "w2": (layers, d, inner), "w3": (layers, inner, d), "rms_final": (d,),
        "freq_cis_real": (length, k // 2), "freq_cis_imag": (length, k // 2),
    }  # fmt: skip
    if not tied:
        shapes["wcls"] = (vocabulary, d)
    rng = np.random.default_rng(0)
    matrices = {name: (rng.standard_normal(shape) * 0.2).astype("<f4") for name, shape in shapes.items()}
    header = np.array(HEADER, "<i4") * np.where(np.arange(7) == 5, 1 if tied else -1, 1)
    path.write_bytes(header.astype("<i4").tobytes() + b"".join(x.tobytes() for x in matrices.values()))
    return matrices


def run_c(w: dict[str, np.ndarray], tokens: list[int]) -> np.ndarray:
    """The logits after each token, as run.c computes them."""
    d, _, layers, heads, kv_heads, _, _ = HEADER
    k = d // heads
    rms = lambda x, g: g * x / np.sqrt((x * x).mean() + 1e-5)  # noqa: E731
    keys, values, logits = [[] for _ in range(layers)], [[] for _ in range(layers)], []
    for position, token in enumerate(tokens):
        x = w["token_embedding"][token].astype(np.float64)
        for layer in range(layers):
            h = rms(x, w["rms_att"][layer])
            q, key, value = (w[name][layer] @ h for name in ("wq", "wk", "wv"))
            for vector in (q, key):
                for i in range(0, len(vector), 2):  # neighbouring channels are a pair
                    angle = position / 10000.0 ** ((i % k) / k)
                    a, b = vector[i], vector[i + 1]
                    vector[i] = a * np.cos(angle) - b * np.sin(angle)
                    vector[i + 1] = a * np.sin(angle) + b * np.cos(angle)
            keys[layer].append(key), values[layer].append(value)
            out = []
            for head in range(heads):
                at = slice(head // (heads // kv_heads) * k, head // (heads // kv_heads) * k + k)
                scores = np.array([q[head * k : head * k + k] @ old[at] for old in keys[layer]]) / np.sqrt(k)
                weights = np.exp(scores - scores.max())
                out.append(sum(p * old[at] for p, old in zip(weights / weights.sum(), values[layer], strict=True)))
            x = x + w["wo"][layer] @ np.concatenate(out)
            h = rms(x, w["rms_ffn"][layer])
            gate = w["w1"][layer] @ h
            x = x + w["w2"][layer] @ (gate / (1 + np.exp(-gate)) * (w["w3"][layer] @ h))
        logits.append(w.get("wcls", w["token_embedding"]) @ rms(x, w["rms_final"]))
    return np.stack(logits)


def model_of(path):
    config, state = llama2c.read(path)
    cfg = compose(LLAMA.overrides(config))
    model = build_model(cfg).eval()
    LLAMA.load(model, state)
    return cfg, model, config, state


@pytest.mark.parametrize("tied", [True, False])
@torch.no_grad()
def test_reads_as_run_c(tmp_path, tied):
    matrices = written(tmp_path / "small.bin", tied=tied)
    tokens = [1, 5, 9, 63, 0, 7, 7, 2]
    _, model, _, _ = model_of(tmp_path / "small.bin")
    found = model.logits({"decoder_ids": torch.tensor([tokens])})[0]
    np.testing.assert_allclose(found.numpy(), run_c(matrices, tokens), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("tied", [True, False])
def test_writes_what_it_reads(tmp_path, tied):
    written(tmp_path / "small.bin", tied=tied)
    cfg, model, config, state = model_of(tmp_path / "small.bin")
    llama2c.write(tmp_path / "again.bin", cfg, model, length=config["max_position_embeddings"])
    assert (tmp_path / "again.bin").stat().st_size == (tmp_path / "small.bin").stat().st_size
    again_config, again = llama2c.read(tmp_path / "again.bin")
    assert again_config == config
    assert all(torch.equal(again[key], state[key]) for key in state)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["again.bin", "small.bin"]


def test_files_that_are_none(tmp_path):
    path = tmp_path / "small.bin"
    with pytest.raises(UserError, match="small.bin: No such file"):
        llama2c.read(path)
    written(path, tied=True)
    whole = path.read_bytes()
    for content, message in (
        (whole[:-4], "has .* bytes, and by its header it must have"),
        (whole + b"1234", "has .* bytes, and by its header it must have"),
        (whole[:20], "too short"),
        (b"ak42" + whole, "not a file of llama2.c|by its header"),
        (b"\0" * 100, "not a file of llama2.c"),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=message):
            llama2c.read(path)


@pytest.mark.parametrize(
    "option", ["norm.eps=1e-6", "position.base=1000.0", "activation=geglu", "bias=all", "attention.head_dim=8"]
)
def test_what_a_file_cannot_say_is_refused(tmp_path, option):
    key = {"activation=geglu": "activation=swiglu", "bias=all": "bias=none", "attention.head_dim=8": "head_dim"}
    options = [option] if option.startswith("norm.eps") else ["norm.eps=1e-5", option]
    cfg = in_form(*options)
    with pytest.raises(UserError, match=key.get(option, option.partition("=")[0])):
        llama2c.write(tmp_path / "small.bin", cfg, build_model(cfg), length=16)
    assert not list(tmp_path.iterdir())


@torch.no_grad()
def test_stories260k():
    """The real file: the logits of `transformers`, and text that is likely."""
    folder = os.environ.get(STORIES)
    if not folder:
        pytest.skip(f"{STORIES} does not name the folder with stories260K.bin")
    _, model, config, state = model_of(Path(folder) / "stories260K.bin")
    assert sum(parameter.numel() for parameter in model.parameters()) == 260_032
    theirs = LlamaForCausalLM(LlamaConfig(**config)).eval()
    theirs.load_state_dict(state, strict=True)
    ids = torch.tensor([[1, 403, 407, 261, 378]])  # "Once upon a time"
    torch.testing.assert_close(model.logits({"decoder_ids": ids}), theirs(input_ids=ids).logits, atol=1e-5, rtol=1e-5)
    likelihood = model.logits({"decoder_ids": ids}).log_softmax(-1)[0, :-1].gather(-1, ids[0, 1:, None])
    assert likelihood.mean() > -1.0
