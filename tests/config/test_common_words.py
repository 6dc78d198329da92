"""Words of other programs, and the keys that they are answered with."""

from __future__ import annotations

import pytest

from ablate.cli.compare import SETTINGS
from ablate.config import common_words, compose, keys, options
from ablate.errors import UserError
from ablate.study.inheritance import KEYS

ASKED = """lr learning_rate optimizer.lr batch_size bs epochs steps max_steps seq_len context_length layers n_layer
    depth hidden_size width heads vocab warmup weight_decay wd betas grad_clip precision bf16 amp device gpus workers
    dataset model project""".split()
WAYS = sorted({way for setting in common_words.WORDS.values() for way in setting.ways})


def told(*overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        compose(overrides)
    return str(caught.value)


@pytest.mark.parametrize("word", ASKED)
def test_a_word_of_another_program_is_answered_with_the_override_that_does_it(word):
    setting = common_words.WORDS[word.rpartition(".")[2]]
    line = told(f"{word}=1")
    assert line == f"{word}=1: there is no key {word!r}; {setting.meaning}: set {' or '.join(setting.ways)}"


@pytest.mark.parametrize("way", WAYS)
def test_each_override_that_is_named_composes_and_changes_what_it_says(way):
    cfg = compose(way.split())
    for override in way.split():
        key, _, value = override.partition("=")
        if key not in options.groups():
            found = keys.flatten(keys.plain(cfg, resolve=True))[key]
            assert found == (value if isinstance(found, str) else float(value))


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ("lr=3e-4", "schedule.peak"),
        ("optimizer.lr=3e-4", "schedule.peak"),
        ("+lr=3e-4", "schedule.peak"),
        ("LR=3e-4", "schedule.peak"),
        ("model.n_layer=3", "shape.n_layers"),
        ("model.num-layers=3", "shape.n_layers"),
        ("trainer.max_epochs=3", "trainer.steps"),
        ("batch_size=32", "trainer.global_batch_tokens"),
        ("betas=[0.9,0.95]", "optimizer.beta1"),
        ("gpus=2", "trainer.devices"),
        ("project=mine", "logger.mirror.project"),
    ],
)
def test_the_key_is_the_one_that_does_it(given, key):
    assert f"{key}=" in told(given).partition("; ")[2]


def test_a_word_below_a_part_of_the_model_is_not_taken_for_the_whole():
    assert common_words.hint("feedforward.width") == common_words.hint("norm.lr") == ""
    assert "'schedule.warmup': it is a setting of schedule=cosine" in told("schedule.warmup=0.1")


def test_no_word_hides_what_there_is():
    taken = {*options.groups(), *keys.known(), *SETTINGS, *KEYS}
    assert not taken & set(common_words.WORDS)


def test_what_only_a_package_could_bring_is_said_to_be_found_by_its_name(monkeypatch):
    monkeypatch.delenv(options.PLUGINS, raising=False)
    hint = "; if a package of yours brings it, name the package in ABLATE_PLUGINS"
    assert f"norm=mean_absolute: unknown option{hint} (norm: " in told("norm=mean_absolute")
    assert told("router=top_two") == f"router=top_two: there is no key 'router'{hint}"
    assert "ABLATE_PLUGINS" not in told("norm=rmsnrm") + told("norms=rmsnorm") + told("norm.gamma=3")


def test_the_packages_that_are_named_are_said_not_to_bring_it(write_plugin):
    name = write_plugin({"conf/norm/mean.yaml": "# mine\n_target_: {package}.means.Mean\n"})
    assert f"; {name}, named in ABLATE_PLUGINS, does not bring it either (norm: " in told("norm=absolute")
