"""What a person may write, and the one line each mistake gets."""

from __future__ import annotations

import pytest

from ablate.config import compose, keys, merge
from ablate.config.renamed import RENAMED
from ablate.errors import UserError

MISTAKES = [
    (["early=0.5"], ["early=0.5: early is now called early_fraction"]),
    (["keep=all"], ["keep=all: keep is now called keep_checkpoints"]),
    (["own_rates=[]"], ["own_rates=[]: own_rates is now called parameter_groups"]),
    (
        ["parameter_groups=[{parameters: x, times: 2, until: 0.5}]"],
        [
            "parameter_groups[0].times is now called lr_multiplier",
            "parameter_groups[0].until is now called until_fraction",
        ],
    ),
    (["norm=rmsnom"], ["norm=rmsnom: unknown option; did you mean 'rmsnorm'? (norm: "]),
    (["norms=rmsnorm"], ["norms=rmsnorm: there is no key 'norms'; did you mean 'norm'?"]),
    (["norm=rmsnorm", "norm=none"], ["norm is given 2 times: norm=rmsnorm, norm=none"]),
    (["dropout=0.1", "dropout=0.2"], ["dropout is given 2 times"]),
    (["seed=1", "seed.base=2"], ["seed.base is given 2 times"]),
    (["~norm"], ["~norm: nothing can be deleted; choose another option of norm"]),
    (["position=[rope,alibi]"], ["position takes one option and was given a list (alibi, "]),
    (["position=null"], ["position takes one option and was given null"]),
    (["position={a: 1}"], ["position takes one option"]),
    (["norm=rmsnorm,none"], ["gives several values; `ablate train --multirun` runs each"]),
    (["+dropuot=0.1"], ["+dropuot=0.1: no key can be added; did you mean 'dropout'?"]),
    (["++dropout=0.1"], ["++dropout=0.1: no key can be added; leave out the +"]),
    (["+zzz=1"], ["+zzz=1: no key can be added"]),
    (["shape.d_modle=48"], ["there is no key 'shape.d_modle'; did you mean 'shape.d_model'?"]),
    (["feedfoward.zzzqq=1"], ["there is no key 'feedfoward.zzzqq'; did you mean 'feedforward'?"]),
    (["d_model=48"], ["there is no key 'd_model'; did you mean 'shape.d_model'?"]),
    (["attention.window=16"], ["'attention.window': it is a setting of attention=sliding_window"]),
    (["norm"], ["norm: an override reads key=value (norm: "]),
    (["=3"], ["an override reads key=value"]),
    (["norm=rms)"], ["norm=rms): cannot be read"]),
    (["paths.runs=${[}"], ["paths.runs=${[}: the ${...} in it cannot be read (mismatched input"]),
    (["data.files=['${a b}']"], ["the ${...} in it cannot be read"]),
    (["hydra.run.dir=../x"], ["Hydra's own settings are for `ablate train --multirun`"]),
    (["norm@_global_.norm=rmsnorm"], ["write norm=OPTION"]),
    (["paths=here"], ["paths has keys of its own (runs, data, sweeps, reports)"]),
    (["seed={baze: 3}"], ["there is no key 'seed.baze'"]),
    (["dropout={a: 1}"], ["dropout takes one value"]),
    (["dropout=abc"], ["dropout=abc: must be a number"]),
    (["dropout=true"], ["dropout=true: must be a number"]),
    (["trainer.steps=1e3"], ["trainer.steps=1000.0: must be a whole number"]),
    (["bias.query=yes"], ["bias.query=yes: must be true or false"]),
    (["embedding.tie=encoder"], ["embedding.tie=encoder: must be a list"]),
    (["embedding.tie=[1]"], ["each entry must be a string"]),
    (["keep_checkpoints=3"], ["keep_checkpoints=3: must be a string"]),
    (["early_fraction=null"], ["early_fraction=null: must be a number"]),
    (["early_fraction=???"], ["early_fraction must be given"]),
    (["seed=-1"], ["seed.base=-1: must not be negative"]),
    (["norm.eps=inf"], ["norm.eps=inf: must be a finite number"]),
    (
        ["norm=rmsnom", "shape.d_modle=3", "dropout=2", "+x=1"],
        ["norm=rmsnom", "shape.d_modle", "dropout=2.0", "+x=1"],
    ),
]


@pytest.mark.parametrize(("overrides", "told"), MISTAKES, ids=[" ".join(given) for given, _ in MISTAKES])
def test_every_mistake_gets_a_line(overrides, told):
    with pytest.raises(UserError) as caught:
        compose(overrides)
    lines = str(caught.value).splitlines()
    for part in told:
        assert any(part in line for line in lines), lines
    assert len(lines) == len(told), lines


def test_one_seed_sets_three_streams():
    cfg = compose(["seed=3"])
    assert (cfg.seed.base, cfg.seed.data, cfg.seed.init, cfg.seed.dropout) == (3, 3, 3, 3)
    assert compose(["seed.init=${plus:1000,seed.base}", "seed=3"]).seed.init == 1003
    with pytest.raises(UserError, match="plus:a,seed.base.*'a' is not a number"):
        compose(["seed.init=${plus:a,seed.base}"])
    assert compose(["seed={base: 4, data: 1}"]).seed.data == 1


def test_labels_are_free_text():
    assert compose(["row=GLU (x) = 3, [a] {b}"]).row == "GLU (x) = 3, [a] {b}"
    assert compose(["row='it's'"]).row == "it's"
    with pytest.raises(UserError, match="one line of printable text"):
        compose(["row=a\nb"])
    with pytest.raises(UserError, match="one line of printable text"):
        compose(["row=${shape.d_model}"])


@pytest.mark.parametrize("name", ["../x", "/abs", "a/../b", "a/b/c", "a/", "", "..", "x" * 101, "a\0b", "a b"])
def test_sweep_names_stay_in_their_folder(name):
    with pytest.raises(UserError, match="sweep="):
        compose([f"sweep={name}" if name else "sweep=''"])


def test_a_run_without_label_is_called_by_its_overrides():
    assert compose().row == "baseline"
    assert compose(["seed=3", "trainer.devices=2", "paths.runs=x"]).row == "baseline"
    assert compose(["norm=rmsnorm", "seed=3", "dropout=0.1"]).row == "norm=rmsnorm dropout=0.1"
    assert compose(["feedforward.d_ff=${of:2/3,shape.d_ff}"]).row == "feedforward.d_ff={of:2/3,shape.d_ff}"


def test_later_lists_win_where_lists_are_merged():
    assert merge(["shape=nano", "seed=1"], ["shape=micro"], ["seed.base=2"]) == ["shape=micro", "seed.base=2"]
    assert merge(["a=1", "a=2"]) == ["a=1", "a=2"]  # a repetition within one list stays for `compose` to refuse


def test_whole_numbers_become_floats_where_floats_are_meant():
    assert type(compose(["dropout=0"]).dropout) is float


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_old_name_is_refused_once_the_new_one_is_there(old, new, monkeypatch):
    real = keys.known()
    monkeypatch.setattr(
        keys, "known", lambda: {key: options for key, options in real.items() if key != old} | {new: []}
    )
    with pytest.raises(UserError) as caught:
        compose([f"{old}=1"])
    assert str(caught.value) == f"{old}=1: {old} is now called {new}"
