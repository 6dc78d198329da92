"""What a config may name as its classes: tried with what a stranger would write, each of which would leave a file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ablate.config import compose, fill, instantiate, options
from ablate.config.slots import INNER, SLOTS, slot_at
from ablate.config.targets import refusal, refusals
from ablate.config.validation import problems
from ablate.errors import UserError

CODE = (
    "ablate.sweep.fork_server.call",
    "ablate.run.files.atomic_write",
    "ablate.run.files.atomic_file",
    "ablate.run.folder.RunFolder",
    "ablate.training.metrics.Log",
    "ablate.training.metrics.Heartbeat",
    "ablate.api.train",
    "ablate.api.report",
    "ablate.cli.run",
    "ablate.cli.sweep.run",
    "ablate.__main__.main",
    "ablate.sweep.workers.start_fresh",
    "ablate.config.instantiation.instantiate",
    "ablate.config.instantiation.partial",
    "ablate.config.sources.place_of",
    "ablate.data.source.glob.glob",
    "ablate.data.source.open",
    "ablate.model.norm.torch.load",
    "ablate.model.norm.torch",
    "ablate.model.activation.functional",
    "ablate.data.tokenizer_backends.json",
    "os.system",
    "subprocess.Popen",
    "builtins.exec",
)
PLACES = [path.replace("*", "encoder" if path.startswith("stack") else "heldout") for path in SLOTS]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("target", CODE)
def test_no_slot_takes_code_that_is_not_an_option_of_it(place, target):
    assert refusal(target, slot_at(place))
    content = {"_target_": target, "entry": "os:system", "argument": "true", "log": None}
    assert list(refusals({place: content} if "." not in place else _nested(place, content)))


@pytest.mark.parametrize("place", PLACES)
def test_no_slot_takes_an_option_of_another(place):
    slot = slot_at(place)
    for other in (*SLOTS.values(), *INNER.values()):
        if other.path not in (slot.path, "activation.function") and other.base.startswith("ablate."):
            assert refusal(other.base, slot), other.base


def _nested(path, content):
    for part in reversed(path.split(".")):
        content = {part: content}
    return content


@pytest.fixture
def canary(tmp_path):
    return tmp_path / "canary"


def call(canary: Path, **more: object) -> str:
    """An option, as an override writes it, that runs a command which leaves a file."""
    entries = {
        "_target_": "ablate.sweep.fork_server.call",
        "entry": "'os:system'",
        "argument": f"'touch {canary}'",
        "log": "null",
        **more,
    }
    return "{" + ",".join(f"{key}: {value}" for key, value in entries.items()) + "}"


HOSTILE = (
    "logger.mirror={}",
    "norm._target_=ablate.sweep.fork_server.call",
    "trainer.micro_batch={}",
    "trainer.clip_norm={}",
    "dropout={}",
    "early_fraction={}",
    "parameter_groups=[{}]",
    "parameter_groups=[{{lr_multiplier: {}}}]",
    "data.source.packages=[{}]",
    "topology.scored={}",
    "row={}",
)


@pytest.mark.parametrize("override", HOSTILE)
def test_an_override_cannot_call_what_it_names(override, canary):
    text = override.format(call(canary))
    try:
        cfg = compose([text])
        for place in PLACES:
            if not place.startswith("evaluation"):  # whose mark is no argument of its class
                fill(cfg, place)
        assert text.startswith("row=")  # a label is text
    except UserError as error:
        assert all(text.partition("=")[0] in line for line in str(error).splitlines())
    assert not canary.exists()


def tree(*overrides: str) -> dict:
    from omegaconf import OmegaConf

    return OmegaConf.to_container(compose(overrides))


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("logger", "mirror"),
        ("norm", "eps"),
        ("norm", "foo"),
        ("norm", "_args_"),
        ("norm", "_recursive_"),
        ("attention", "cross"),
        ("attention", "n_heads"),
        ("activation", "function"),
        ("schedule", "peak"),
        ("tokenizer", "vocab_size"),
        ("", "foo"),
        ("stack", "more"),
        ("evaluation", "more"),
        ("bias", "query"),
    ],
)
@pytest.mark.parametrize("form", ["alone", "in a list", "in a mapping", "partial", "in lists of lists"])
def test_nothing_is_made_wherever_a_target_is_put(path, key, form, canary):
    content = {"_target_": "ablate.sweep.fork_server.call", "entry": "os:system", "argument": f"touch {canary}"}
    content = {
        "alone": content | {"log": None},
        "in a list": [content | {"log": None}],
        "in a mapping": {"x": content | {"log": None}},
        "partial": content | {"log": None, "_partial_": True},
        "in lists of lists": [[{"y": content | {"log": None}}]],
    }[form]
    whole = tree()
    (whole[path] if path else whole)[key] = content
    lines = problems(whole)
    assert lines and all("\n" not in line for line in lines)
    with pytest.raises(UserError):
        fill(whole, path if path in SLOTS else "logger.mirror" if path == "logger" else "norm")
        raise UserError("not a slot of its own")
    assert not canary.exists()


def test_an_option_that_holds_others_holds_those_of_its_slot_only(canary):
    whole = tree("norm=rmsnorm_encoder")
    whole["norm"]["encoder"] = {"_target_": "ablate.model.attention.Attention"}
    assert any("norm.encoder._target_" in line or "encoder._target_" in line for line in problems(whole))
    whole["norm"]["encoder"] = {
        "_target_": "ablate.model.norm.RMSNorm",
        "eps": {"_target_": "ablate.model.norm.NoNorm"},
    }
    assert any("takes no option as eps" in line for line in problems(whole))


def test_what_hydra_would_read_itself_is_refused():
    for key in ("_args_", "_recursive_", "_convert_", "_mode_"):
        with pytest.raises(UserError, match=f"{key}.*Hydra's own keys"):
            instantiate({"_target_": "ablate.model.norm.RMSNorm", "eps": 1e-6, key: []}, SLOTS["norm"])


def test_a_plugin_may_take_options_by_any_key_and_only_its_own_code_or_ours_that_is_an_option(write_plugin):
    package = write_plugin({
        "norms.py": "from os import system\nfrom ablate.run.files import atomic_write\n"
        "from ablate.model.norm import RMSNorm, Norm\n\n\nclass Mine(Norm):\n    pass\n\n\nclass Gate:\n    pass\n",
    })  # fmt: skip
    slot = SLOTS["norm"]
    assert not refusal(f"{package}.norms.Mine", slot) and not refusal(f"{package}.norms.RMSNorm", slot)
    assert "comes from 'os'" in refusal(f"{package}.norms.system", slot)
    assert refusal(f"{package}.norms.atomic_write", slot)

    def found(inner: str) -> list:
        return list(refusals({"norm": {"_target_": f"{package}.norms.Mine", "gate": [{"_target_": inner}]}}))

    assert not found(f"{package}.norms.Gate") and not found("ablate.model.norm.RMSNorm")
    assert found("ablate.run.files.atomic_write") and found(f"{package}.norms.atomic_write") and found("os.system")


def test_every_option_that_is_shipped_is_accepted():
    for group, files in options.groups().items():
        for option, path in files.items():
            content = options.load(path)
            whole = content if options.is_global(path) else {group: content}
            assert not list(refusals({key: value for key, value in whole.items() if key != "defaults"})), option


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("ablate_of_mine.norms.Norm", "is outside ablate"),  # begins with the name, and is another package
        ("ablatex", "is outside ablate"),
        ("ablate.model.norm.Layer-Norm", "is not an import path"),
        ("ablate..model.norm.LayerNorm", "is not an import path"),
        ("ablate.model.norm.LayerNorm;x", "is not an import path"),
        ("ablate/model", "is not an import path"),
        ("", "is not an import path"),
        (None, "is not an import path"),
        (["ablate.model.norm.LayerNorm"], "is not an import path"),
    ],
)
def test_a_name_is_a_path_of_names_in_a_trusted_package(target, reason):
    for place in (slot_at("norm"), None):
        assert refusal(target, place).startswith(reason)


def test_checking_a_config_reads_few_of_the_options_files_and_no_library_for_spelling():
    code = (
        "import sys; from ablate.config import compose_resolved, options; compose_resolved(['norm=rmsnorm']); "
        "print(options.load.cache_info().currsize, 'difflib' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    read, spelling = ran.stdout.split()
    assert int(read) < 60 < sum(map(len, options.groups().values())) and spelling == "False"
