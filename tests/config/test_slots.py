"""What fills a slot: factories and objects, classes that fit, and a line for each option that does not."""

from __future__ import annotations

import functools

import pytest

from ablate import cli
from ablate.config import build_model, compose, differences, fill, identity, options, presets, resolved
from ablate.config.instantiation import instantiate
from ablate.config.slots import SLOTS, TARGET, slot_at
from ablate.config.sources import absence, attribute
from ablate.errors import UserError
from ablate.evaluation.build import build as build_evaluations

MODULE = """
from ablate.model.norm import LayerNorm


class MyNorm(LayerNorm):
    pass


class Nothing:
    pass


def function(parts, place):
    pass
"""
PLUGIN = {
    "norms.py": MODULE,
    "conf/norm/mine.yaml": "# Mine\n_target_: {package}.norms.MyNorm\neps: 1e-6\n",
    "conf/norm/marked.yaml": "# Mine\n_target_: {package}.norms.MyNorm\n_partial_: true\neps: 1e-6\n",
    "conf/norm/bare.yaml": "# Mine\neps: 1e-6\n",
    "conf/norm/misspelt.yaml": "# Mine\n_target_: {package}.norms.MyNrom\neps: 1e-6\n",
    "conf/norm/elsewhere.yaml": "# Mine\n_target_: {package}.nroms.MyNorm\neps: 1e-6\n",
    "conf/norm/nested.yaml": "# Mine\n_target_: ablate.model.choice.ByStack\nencoder:\n"
    "  _target_: {package}.norms.MyNrom\n  eps: 1e-6\ndecoder:\n  _target_: {package}.norms.MyNorm\n  eps: 1e-6\n",
    "conf/norm/wrong.yaml": "# Mine\n_target_: ablate.model.attention.Attention\nn_heads: 1\n",
    "conf/norm/function.yaml": "# Mine\n_target_: {package}.norms.function\n",
    "conf/norm/key.yaml": "# Mine\n_target_: {package}.norms.MyNorm\neps: 1e-6\nepz: 1e-6\n",
    "conf/schedule/mine.yaml": "# Mine\n_target_: {package}.norms.Nothing\n",
    "conf/schedule/short.yaml": "# Mine\n_target_: ablate.training.schedule.Linear\npeak: 1.0\nsteps: 3\nwarmup: 0.1\n",
    **{
        f"conf/evaluation/{name}.yaml": f"# Mine\n{name}:\n  {content}\n"
        for name, content in {
            "bare": "x: 1",
            "misspelt": "_target_: {package}.norms.Missing",
            "mine": "_target_: {package}.norms.Nothing",
            "nan": "_target_: {package}.norms.Nothing",
        }.items()
    },
    "conf/optimizer/mine.yaml": "# Mine\n_target_: {package}.norms.Nothing\n",
    "conf/data/mine.yaml": "# Mine\nname: mine\nsource: null\nvalidation_share: 0.1\n"
    "on_error: fail\ndocument_mask: false\n",
}
LINES = {
    "norm=bare": "norm=bare has no _target_, the import path of its class, such as ablate.model.norm.Norm",
    "norm=misspelt": (
        "norm=misspelt: _target_={package}.norms.MyNrom: {package}.norms has no 'MyNrom'; did you mean 'MyNorm'?"
    ),
    "norm=elsewhere": "norm=elsewhere: _target_={package}.nroms.MyNorm: there is no module '{package}.nroms'",
    "norm=nested": (
        "norm=nested: encoder._target_={package}.norms.MyNrom: {package}.norms has no 'MyNrom'; did you mean 'MyNorm'?"
    ),
    "norm=wrong": (
        "norm=wrong: _target_=ablate.model.attention.Attention: is no option of norm (see ablate options norm)"
    ),
    "norm=function": (
        "norm=function: {package}.norms.function has no uses_batch_statistics; "
        "inherit ablate.model.norm.Norm, or declare it"
    ),
    "norm=key": "norm=key: {package}.norms.MyNorm takes no 'epz'; did you mean 'eps'?",
    "schedule=mine": (
        "schedule=mine: {package}.norms.Nothing has no __call__; "
        "inherit ablate.training.schedule.Constant, or declare it"
    ),
    "schedule=short": "schedule=short: ablate.training.schedule.Linear: missing a required argument: 'final'",
    "optimizer=mine": (
        "optimizer=mine: {package}.norms.Nothing has no step or zero_grad; "
        "inherit torch.optim.Optimizer, or declare them"
    ),
    "evaluation=[heldout,bare]": (
        "evaluation=bare has no _target_, the import path of its class, such as ablate.evaluation.contract.Evaluation"
    ),
    "evaluation=[heldout,misspelt]": (
        "evaluation=misspelt: _target_={package}.norms.Missing: {package}.norms has no 'Missing'"
    ),
    "evaluation=[heldout,nan]": "evaluation=[heldout,nan]: nan is read as a value; rename the option's file",
    "data=mine": "data=mine: source has no _target_, the import path of its class, such as ablate.data.source.Source",
}


@pytest.mark.parametrize("option", LINES)
def test_an_option_that_cannot_fill_its_slot_gets_one_line(option, write_plugin, capsys):
    package = write_plugin(PLUGIN)
    assert cli.run(["cost", option]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"ablate: {LINES[option].replace('{package}', package)}"


OUTER = """
class Outer:
    uses_batch_statistics = False

    def __init__(self, inner):
        self.inner = inner

    def __call__(self, step):
        return 1.0
"""


def test_options_below_a_plugins_own_keys_are_made_as_the_slot_around_all_of_them(write_plugin):
    """At any depth: at once where the slot takes objects, later where it takes factories."""
    target = f"{write_plugin({'outer.py': OUTER})}.outer.Outer"
    content = None
    for _ in range(4):
        content = {"_target_": target, "inner": content}
    made = instantiate(content, SLOTS["schedule"])
    assert type(made) is type(made.inner) is type(made.inner.inner.inner) and made.inner.inner.inner.inner is None
    made = instantiate(content, SLOTS["norm"])
    for _ in range(4):
        assert isinstance(made, functools.partial)
        made = made.keywords["inner"]


def test_a_place_within_an_option_is_called_by_the_option_that_fills_it():
    stack = resolved(compose(["stack=funnel"]))["stack"]
    assert options.called("stack.encoder", stack["encoder"]) == "stack=funnel: encoder"
    assert options.called("stack.decoder", {"_target_": "my.Own"}) == "stack.decoder=Own"


def test_an_evaluation_that_does_not_fit_is_called_by_its_name_once(write_plugin):
    package = write_plugin(PLUGIN)
    with pytest.raises(UserError, match=rf"^evaluation=mine: {package}\.norms\.Nothing has no evaluate; "):
        build_evaluations(compose(["evaluation=[heldout,mine]"]))


@pytest.mark.parametrize("option", ["norm=bare", "norm=misspelt", "norm=elsewhere", "norm=nested", "data=mine"])
def test_what_is_not_there_is_refused_before_anything_is_imported(option, write_plugin):
    write_plugin(PLUGIN | {"norms.py": MODULE + "\nraise AssertionError('imported')\n"})
    with pytest.raises(UserError):
        compose([option])


def test_a_mark_that_an_option_still_has_changes_nothing(write_plugin):
    write_plugin(PLUGIN)
    marked, plain = compose(["norm=marked", "row=x"]), compose(["norm=mine", "row=x"])
    build_model(marked, device="meta")
    assert identity(marked, "x") == identity(plain, "x") and differences(marked, plain) == []


def test_every_option_of_the_project_leaves_it_to_the_slot():
    assert [path for path in options.CONF.glob("*/*.yaml") if "_partial_" in path.read_text()] == []


def test_what_is_made_later_is_a_factory_at_any_depth():
    cfg = compose(
        ["feedforward=switch", "norm=batchnorm_encoder", "attention=lightweight_convolution", "topology=encoder"]
    )
    made = {
        slot: fill(cfg, slot)
        for slot in ("feedforward", "norm", "attention", "stack", "optimizer", "schedule", "activation")
    }
    factories = [
        *made["feedforward"].options.values(), *made["norm"].options.values(),
        made["attention"], made["attention"].keywords["cross"],
        *made["stack"].values(), made["optimizer"], made["activation"], made["activation"].keywords["function"],
    ]  # fmt: skip
    assert all(isinstance(factory, functools.partial) for factory in factories)
    assert made["schedule"](0) > 0
    assert fill(cfg, "bias")["ffn_in"] is True and fill(cfg, "logger.mirror") is None


def test_every_target_of_the_project_has_a_slot_that_it_fits():
    for group, files in options.groups().items():
        for option in files:
            choice = f"[heldout,{option}]" if options.takes_several(group) and option != "heldout" else option
            cfg = compose([f"{group}={choice}", *(["data.path=x"] if option == "hub" else [])])
            if group == presets.GROUP:
                assert group not in cfg  # it is what it selects in other groups
                continue
            places = [path for slot in SLOTS.values() for path in slot.places(cfg) if path.partition(".")[0] == group]
            written = [path for path in (group, *(f"{group}.{key}" for key in cfg[group])) if _has_target(cfg, path)]
            assert set(places) >= set(written[:1]), (group, option)
            for path in places:
                assert slot_at(path) is not None
                # Files are looked for by the first two; an evaluation's mark is no argument of its class.
                if group not in ("data", "evaluation") and option != "file":
                    fill(cfg, path)


def _has_target(cfg, path):
    for part in path.split("."):
        cfg = cfg[part] if hasattr(cfg, "keys") else {}
    return hasattr(cfg, "keys") and TARGET in cfg


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("from ablate.model.norm import RMSNorm as Mine\n", ""),
        ("try:\n    class Mine: pass\nexcept ImportError:\n    Mine = None\n", ""),
        ("Mine = make()\n", ""),
        ("from somewhere import *\n", ""),
        ("def __getattr__(name): ...\n", ""),
        ("class Main: pass\n", "has no 'Mine'; did you mean 'Main'?"),
    ],
)
def test_names_are_looked_up_in_the_source(text, reason, write_plugin):
    package = write_plugin({"module.py": text})
    assert absence(f"{package}.module.Mine").endswith(reason)
    assert bool(absence(f"{package}.module.Mine")) == bool(reason)


def test_attributes_are_found_in_the_classes_above(write_plugin):
    package = write_plugin({
        "__init__.py": "from .sub.low import Low\n",
        "sub/__init__.py": "",
        "sub/low.py": "from ..high import High\nimport torch\n\n\n"
        "class Low(High, torch.nn.Module):\n    own: int = 3\n",
        "high.py": "class High:\n    gated = True\n    own = 2\n    made = max(1, 2)\n",
    })  # fmt: skip
    target = f"{package}.Low"
    assert (attribute(target, "gated"), attribute(target, "own"), attribute(target, "made")) == (True, 3, None)
    assert attribute("ablate.model.activation.Gated", "gated") is True
