"""Published models as choices: what `preset=` selects and sets, and what wins over it."""

import pytest

from ablate.__main__ import main
from ablate.config import (
    build_model,
    compose,
    compose_resolved,
    identity,
    options,
    preset_table,
    presets,
    published,
    roundings,
)
from ablate.config.composing import by_hydra, compose_groups, with_preset
from ablate.errors import UserError
from ablate.study.definition import load
from ablate.sweep.describe import describe

NAMES = sorted(presets.names())
KV = "attention.n_kv_heads is 1, the nearest that fits to 1/8 of shape.n_heads = 0.75"


@pytest.mark.parametrize("name", NAMES)
def test_our_composition_is_hydras(name):
    assert compose_groups({"preset": name}) == by_hydra({"preset": name})


@pytest.mark.parametrize("group", sorted(options.defaults()))
def test_another_option_wins_in_every_group(group):
    meant = {**options.defaults(), **options.brought_by(options.file_of("preset", "llama2_70b"))}
    for option in list(options.groups()[group])[:3]:
        if group == "preset" or option == meant[group]:
            continue
        choices = {"preset": "llama2_70b", group: [option] if options.takes_several(group) else option}
        composed = compose_groups(choices)
        assert composed == by_hydra(choices), choices
        alone = compose_groups({group: choices[group]})[group]
        if group == "norm":
            assert composed[group] == alone  # nothing of what the preset sets for its own option


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_builds_at_a_small_shape_and_at_its_own(name):
    for shape in ("nano", name):
        build_model(compose([f"preset={name}", f"shape={shape}"]), device="meta")


def test_what_is_chosen_beside_a_preset_drops_what_the_preset_sets_there():
    assert compose_resolved(["preset=llama"])["norm"] == {**compose_resolved(["norm=rmsnorm"])["norm"], "eps": 1e-6}
    assert compose_resolved(["preset=llama2_70b"])["norm"]["eps"] == 1e-5
    layernorm = compose_resolved(["norm=layernorm"])["norm"]
    assert compose_resolved(["preset=llama2_70b", "norm=layernorm"])["norm"] == layernorm
    assert compose_resolved(["preset=llama2_70b", "norm.eps=0.01"])["norm"]["eps"] == 0.01
    other = compose_resolved(["preset=gpt2", "topology=prefix_decoder"])
    assert other["objective"]["_target_"].endswith("Prefix") and other["position"]["_target_"].endswith("Learned")


def test_a_preset_is_what_it_selects_and_sets():
    chosen = [f"{group}={option}" for group, option in options.brought_by(options.file_of("preset", "gpt2")).items()]
    sets = presets.keys_set({**options.defaults(), **dict(pair.split("=") for pair in chosen), "preset": "gpt2"})
    written = [*chosen, *(f"{key}={value}" for key, value in sets.items())]
    assert identity(compose_resolved(["preset=gpt2"]), "x") == identity(compose_resolved(written), "x")
    assert "preset" not in compose_resolved(["preset=gpt2"])
    assert identity(compose_resolved(["preset=gpt2"]), "x") == identity(compose_resolved(["preset=gpt2_xl"]), "x")


@pytest.mark.parametrize("more", [[], ["norm=layernorm"], ["norm.eps=0.01"], ["preset=t5v11"], ["bias.query=false"]])
def test_what_hydra_is_given_to_show_the_config(more):
    given = more if more[:1] == ["preset=t5v11"] else ["preset=qwen2_7b", *more]
    words = [f"{word.partition('=')[0]}={word.partition('=')[2]}" for word in with_preset(given)]
    assert words[: len(given)] == given and len({word.partition("=")[0] for word in words}) == len(words)
    one, other = compose_resolved(words), compose_resolved(given)
    one["row"] = other["row"] = None
    assert one == other


def test_a_published_shape_has_its_integers_and_others_the_ratios():
    at_home = compose_resolved(["preset=llama2_70b", "shape=llama2_70b"])
    assert (at_home["feedforward"]["d_ff"], at_home["attention"]["n_kv_heads"]) == (28672, 8)
    assert compose_resolved(["preset=llama", "shape=llama"])["feedforward"]["d_ff"] == 11008
    small = compose_resolved(["preset=llama2_70b", "shape=nano"])
    assert (small["feedforward"]["d_ff"], small["attention"]["n_kv_heads"]) == (168, 1)
    assert roundings(["preset=llama2_70b", "shape=nano"]) == (KV,)
    assert roundings(["preset=llama2_70b", "shape=llama2_70b"]) == roundings(["preset=gpt2"]) == roundings([]) == ()


@pytest.mark.parametrize(
    ("name", "ratio", "whole", "heads", "result"),
    [
        *[("d_ff", "8/3", 48, 6, 128), ("d_ff", "8/3", 50, 6, 136), ("d_ff", "1/9", 9, 6, 8)],
        *[("n_kv_heads", "1/8", 16, 16, 2), ("n_kv_heads", "1/3", 12, 12, 4), ("n_kv_heads", "1/4", 6, 6, 1)],
        *[("window", "1/2", 63, 6, 32), ("window", "1/64", 8, 6, 1)],
    ],
)
def test_the_nearest_number_that_fits(name, ratio, whole, heads, result):
    assert published.rounded(name, ratio, whole, {"shape.n_heads": heads}.__getitem__) == result


def test_what_is_wrong_is_said(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"preset=lama: unknown option; did you mean 'llama'"):
        compose(["preset=lama"])
    with pytest.raises(UserError, match="preset takes one option"):
        compose(["preset=[llama,gpt2]"])
    folder = tmp_path / "mine" / "conf" / "preset"
    folder.mkdir(parents=True)
    (tmp_path / "mine" / "__init__.py").write_text("")
    text = "# @package _global_\n# Mine\npreset:\n  sets:\n    norm: {epsilon: 1e-5}\n"
    (folder / "own.yaml").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(options.PLUGINS, "mine")
    with pytest.raises(UserError, match=r"own.yaml: sets norm.epsilon, which is no key; did you mean 'norm.eps'"):
        compose(["preset=own"])
    (folder / "own.yaml").write_text(text.replace("epsilon", "eps"))
    options.load.cache_clear()
    assert compose_resolved(["preset=own"])["norm"]["eps"] == 1e-5


def test_a_plan_names_what_was_rounded(tmp_path):
    (tmp_path / "sweeps").mkdir()
    text = "question: Which?\nbase: [preset=gpt2, shape=nano]\nbaseline: GPT-2\n"
    text += "rows: {GPT-2: [], L: [preset=llama2_70b]}\n"
    (tmp_path / "sweeps" / "p.yaml").write_text(text + "seeds: {baseline: 5, rows: 3}\n")
    paths = [f"paths.sweeps={tmp_path}/sweeps", f"paths.runs={tmp_path}/runs"]
    lines = describe("p", paths).splitlines()
    assert [line for line in lines if "nearest" in line] == [f"p: 'L': {KV}"]
    assert load("p", tmp_path / "sweeps").rows["L"] == ("preset=llama2_70b",)


def test_the_table_says_what_each_is_made_of(capsys):
    assert main(["options", "preset"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [line[0] for line in preset_table.lines()]
    assert {line[0] for line in preset_table.lines()} == set(NAMES)
    found = {line[0]: line[1:] for line in preset_table.lines()}
    assert found["llama2_70b"] == [
        *("2023", "causal_decoder", "rmsnorm", "pre", "serial", "rope", "swiglu", "grouped_query (8 of 64)", "none"),
        *("3.5", "128", "32,000", "no"),
    ]
    assert found["gptj"][3:9] == ["pre", "parallel", "rope", "gelu", "full", "ffn head"]
    assert found["t5_11b"][9] == "64" and found["phi_1_5"][8] == "all, head" and found["qwen1_7b"][8] == "q k v"
    assert found["gpt2"][8] == "all" and len(head.split()) > len(preset_table.COLUMNS)
