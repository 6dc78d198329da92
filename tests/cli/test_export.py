"""`ablate export`: runs of ours that `transformers` loads, with the same logits."""

import json

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from ablate.__main__ import main
from ablate.config import build_model, restored
from ablate.run.folder import RunFolder
from tests.model.tiny import SHAPE

SMALL = [*(f"shape.{key}={value}" for key, value in SHAPE.items() if key != "vocab_size"), "shape.vocab_size=700"]
CASES = {
    "gpt2": ("GPT2LMHeadModel", []),
    "llama": ("LlamaForCausalLM", ["attention.n_kv_heads=2"]),
    "qwen2_0_5b": ("Qwen2ForCausalLM", []),
    "t5v11": ("T5ForConditionalGeneration", []),
    "none": ("LlamaForCausalLM", [  # not by a preset, and written down in another way
        "topology=causal_decoder", "norm=rmsnorm", "bias=none", "activation=swiglu", "position=rope",
        "attention.score_scale=1.0", "position.interleaved=true", "norm.offset=1.0", "head.tied_scale=1.0",
    ]),
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    made = tmp_path_factory.mktemp("exported")
    lines = (f"The string method {n * n} returns {n} of the {n % 7} words in its text." for n in range(3000))
    (made / "text.txt").write_text("\n\n".join(lines))
    return made


def trained(place, name, more, sweep="exports"):
    paths = [f"paths.runs={place}/{sweep}", f"paths.data={place}/data"]
    steps = ["trainer.steps=2", "evaluation.heldout.tokens=32", "data=local", f"data.files=[{place}/text.txt]"]
    assert main(["train", f"preset={name}", *SMALL, *steps, *paths, *more]) == 0
    (path,) = place.glob(f"{sweep}/adhoc/*/seed-0")
    return path


def model_of(path):
    folder = RunFolder(path)
    model = build_model(restored(folder.read_config())).eval()
    model.load_state_dict(torch.load(folder.weights, weights_only=True)["state_dict"])
    return model


@pytest.mark.parametrize("name", CASES)
def test_transformers_loads_what_is_exported(place, name, capsys):
    class_name, more = CASES[name]
    run, out = trained(place, name, more, sweep=f"of_{name}"), place / "out" / name
    capsys.readouterr()
    assert main(["export", str(run), str(out), f"paths.data={place}/data"]) == 0
    assert capsys.readouterr().out.startswith(f"wrote {out}: {class_name}, ")
    assert sorted(path.name for path in out.parent.iterdir() if path.name.startswith(".")) == []
    encodes = name.startswith("t5")
    auto = AutoModelForSeq2SeqLM if encodes else AutoModelForCausalLM
    theirs, report = auto.from_pretrained(out, output_loading_info=True)
    assert type(theirs).__name__ == class_name and not any(report.values())
    ids = torch.randint(3, 600, (2, 14), generator=torch.Generator().manual_seed(0))
    given = {"input_ids": ids, "decoder_input_ids": ids} if encodes else {"input_ids": ids}
    batch = {"encoder_ids": ids, "decoder_ids": ids} if encodes else {"decoder_ids": ids}
    with torch.no_grad():
        torch.testing.assert_close(model_of(run).logits(batch), theirs.eval()(**given).logits, atol=1e-5, rtol=0)

    tokenizer, said = AutoTokenizer.from_pretrained(out), AutoConfig.from_pretrained(out)
    assert tokenizer.decode(tokenizer("the string method")["input_ids"]) == "the string method"
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<eos>", "<pad>")
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (said.eos_token_id, said.pad_token_id) == (1, 0)


def test_what_cannot_be_exported_is_said(place, tmp_path, capsys):
    run = trained(place, "none", [], sweep="vanilla")  # T5's baseline has biases, and LayerNorm

    def said(*words):
        assert main(["export", *map(str, words)]) == 2
        return capsys.readouterr().err

    assert "no class of transformers that is known here has this model" in said(run, tmp_path / "x")
    assert "T5ForConditionalGeneration has no such model: bias.ffn_in=True" in said(
        run, tmp_path / "x", "as=T5ForConditionalGeneration"
    )
    assert "as=CLASS" not in said(run, tmp_path / "x", "as=T5ForConditionalGeneratio")
    assert "did you mean 'T5ForConditionalGeneration'" in said(run, tmp_path / "x", "as=T5ForConditionalGeneratio")
    assert "takes a run and a path" in said(run)
    assert "did you mean 'paths.data'" in said(run, tmp_path / "x", "path.data=y")
    assert "no run with a record" in said(tmp_path, tmp_path / "x")
    (tmp_path / "there").mkdir()
    assert "is there already; nothing is written over" in said(run, tmp_path / "there")
    assert "LlamaForCausalLM has no such activation" in said(run, tmp_path / "x", "as=LlamaForCausalLM")
    (run / "checkpoints" / "weights.pt").unlink()
    assert "(done) has no weights" in said(run, tmp_path / "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there"]


def test_damaged_weights_and_a_run_whose_text_is_elsewhere(place, tmp_path, capsys):
    run = trained(place, "gpt2", [], sweep="elsewhere")
    assert main(["export", str(run), str(tmp_path / "a"), f"paths.data={tmp_path}/none"]) == 0
    assert "without tokenizer: its text is not prepared here" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"config.json", "model.safetensors"}
    assert "eos_token_id" not in json.loads((tmp_path / "a" / "config.json").read_text())
    weights = run / "checkpoints" / "weights.pt"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert main(["export", str(run), str(tmp_path / "b")]) == 2
    assert "is damaged" in capsys.readouterr().err and not (tmp_path / "b").exists()
