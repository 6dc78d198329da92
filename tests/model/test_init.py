"""First values: the authors' distributions, the same for every variant that shares a parameter, from a seed alone."""

from __future__ import annotations

import csv
import json
import math
from functools import cache, partial

import pytest
import torch
from omegaconf import OmegaConf

from ablate.config import build_model, compose
from ablate.config.building import fill_slots
from ablate.config.options import groups
from ablate.errors import UserError
from ablate.model.build import build
from ablate.model.contract import Parts, Place, Spec, declare, stable_seed
from ablate.model.init import Constant, Normal, Uniform
from tests.golden.names import GOLDEN, Golden
from tests.model.test_counts import OVERRIDES
from tests.model.test_options import OPTIONS
from tests.model.tiny import SHAPE, tiny
from tests.model.tiny import overrides as tiny_overrides


@cache
def published() -> dict[str, dict[str, tuple[str, str]]]:
    """Row -> variable of the authors' library -> its initialiser and shape; of other rows what differs from `vanilla`.

    Of variables that a layer counts (a second `*`) the first one stands for all.
    """
    rows: dict[str, dict[str, tuple[str, str]]] = {}
    lines = list(csv.DictReader((GOLDEN / "initialisers.csv").open()))
    for line in lines:
        pattern, counts = line["variable_pattern"], [int(line["count"])]
        if pattern.count("*") > 1:
            counts = [
                int(one["count"])
                for one in lines
                if one["slug"] == line["slug"] and one["variable_pattern"].count("*") > 1
            ]
        for layer in range(min(counts)):
            name = pattern.replace("*", f"{layer:03d}", 1).replace("*", "0")
            rows.setdefault(line["slug"], {})[name] = (line["initialiser"], line["shape"])
    return rows


def expected(initialiser: str, shape: str) -> Normal | Uniform | Constant:
    """The library's words as our distribution."""
    kind, _, numbers = initialiser.partition("{")
    numbers = json.loads("{" + numbers) if numbers else {}
    match kind:
        case "RandomNormal":
            return Normal(numbers["stddev"])
        case "TruncatedNormal":
            return Normal(numbers["stddev"], cut=2.0)
        case "VarianceScaling":  # corrected for what is cut off
            std = (numbers["scale"] / int(shape.split("x")[0])) ** 0.5
            return Normal(std / 0.87962566103423978, cut=2.0)
        case "Ones" | "Zeros" | "Constant":
            return Constant(numbers.get("value", float(kind == "Ones")))
        case "RandomUniform":
            low, high = numbers["minval"], numbers["maxval"]
            return Uniform((high - low) / 2, centre=(high + low) / 2)
        case "GlorotUniform" | "default glorot_uniform (by dimension order)":
            *outer, fan_in, fan_out = map(int, shape.split("x"))
            return Uniform(math.sqrt(6 / (math.prod(outer) * (fan_in + fan_out))))
    raise ValueError(initialiser)


def names_of(row: str) -> Golden:
    """Our names -> the library's, for the variables of one row at full size."""
    golden = object.__new__(Golden)
    golden.variables = set(published()[row])
    return golden


def initialiser(cfg):
    slots = fill_slots(cfg)
    return slots["init"](Parts(slots, OmegaConf.to_container(cfg.shape), 0.0, slots["topology"].func.stacks))


@pytest.mark.parametrize("row", published())
def test_distributions_of_the_library(row):
    cfg = compose(["shape=paper", *OVERRIDES[row]])
    init, own, vanilla = initialiser(cfg), names_of(row), names_of("vanilla")
    seen = set()
    for name, parameter in build_model(cfg, device="meta").named_parameters():
        try:
            source, theirs = row, own.name_of(name)
        except KeyError:
            source, theirs = "vanilla", vanilla.name_of(name)
        theirs = theirs.replace("*", "0")
        seen.add((source, theirs))
        found, there = init(parameter.spec), expected(*published()[source][theirs])
        assert type(found) is type(there), (name, theirs)
        assert vars(found) == pytest.approx(vars(there)), (name, theirs)
    assert {(row, name) for name in published()[row]} <= seen


@pytest.mark.parametrize("std", [0.5, 2.0])
def test_normal(std):
    x = torch.empty(400, 500)
    Normal(std).fill(x, torch.Generator().manual_seed(0))
    assert x.mean().abs() < 0.01 * std and x.std() == pytest.approx(std, rel=0.01)
    assert x.abs().max() > 4 * std


def test_normal_cut_at_two_deviations_is_not_corrected():
    """As TensorFlow's truncated normal: the real deviation is 0.88 of the one that is named."""
    x = torch.empty(400, 500)
    Normal(0.5, cut=2.0).fill(x, torch.Generator().manual_seed(0))
    assert x.abs().max() <= 1.0 and x.abs().max() > 0.99
    assert x.std() == pytest.approx(0.5 * 0.8796, rel=0.01)
    assert (x.abs() > 0.95).float().mean() == pytest.approx(0.0126, abs=0.002)  # cut, not clipped


def test_uniform_and_constant():
    x = torch.empty(400, 500)
    Uniform(0.3).fill(x, torch.Generator().manual_seed(0))
    assert x.abs().max() <= 0.3 and x.std() == pytest.approx(0.3 / 3**0.5, rel=0.01)
    Constant(0.25).fill(x, torch.Generator())
    assert (x == 0.25).all()


def test_values_have_the_distributions():
    """One layer, wide: the deviation of every matrix is that of its role."""
    cfg = compose(tiny_overrides("activation=geglu", d_model=192, d_ff=384, vocab_size=2000, n_layers=1, head_dim=48))
    init = initialiser(cfg)
    for name, parameter in build_model(cfg).named_parameters():
        match init(parameter.spec):
            case Normal(std, cut):
                assert parameter.std().item() == pytest.approx(std * (1.0 if cut is None else 0.8796), rel=0.02), name
            case Constant(value):
                assert (parameter == value).all(), name


@cache
def roles() -> dict[str, Spec]:
    """Every role that some option declares, with one of its parameters."""
    specs = {}
    for option in (*OPTIONS, "embedding.tie=[]"):
        if not option.startswith(("init=", "norm=batchnorm")):
            model = build_model(compose(tiny_overrides(option)), device="meta")
            specs |= {parameter.spec.role: parameter.spec for parameter in model.parameters()}
    return specs


@pytest.mark.parametrize("init", groups()["init"])
def test_every_initialiser_knows_every_role(init):
    choose = initialiser(compose(tiny_overrides(f"init={init}")))
    for role, spec in roles().items():
        assert isinstance(choose(spec), (Normal, Uniform, Constant)), role


def test_gpt2_divides_what_writes_to_the_stream_by_the_root_of_the_branches():
    for topology, branches in (("causal_decoder", 4), ("encoder", 4), ("encoder_decoder", 6)):
        init = initialiser(compose(tiny_overrides("init=gpt2", f"topology={topology}")))
        stack = "encoder" if topology == "encoder" else "decoder"
        assert init(Spec("ffn_out", 48, 24, place=Place(stack, 1, 2))).std == pytest.approx(0.02 / branches**0.5)
        assert init(Spec("query", 24, 24, head_dim=6, place=Place(stack))).std == pytest.approx(0.02)


def test_depth_scaled_divides_by_the_root_of_twice_the_layer():
    """Zhang et al. 2019, as one divides by sqrt(2 l) in layer l = 1, 2, ..."""
    init, paper = (initialiser(compose(tiny_overrides(f"init={name}"))) for name in ("depth_scaled", "paper"))
    for layer in range(3):
        spec = Spec("output", 24, 24, place=Place("encoder", layer, 3))
        assert init(spec).std == pytest.approx(paper(spec).std / (2 * (layer + 1)) ** 0.5)


def test_deepnorm_has_small_gains_where_values_pass():
    """Xavier normal with gain beta for values, outputs and the feed-forward, gain 1 for queries and keys."""
    init = initialiser(compose(tiny_overrides("init=deepnorm", "topology=encoder")))
    place, beta = Place("encoder", 0, 2), (8 * 2) ** -0.25
    for role, gain in (
        ("query", 1),
        ("key", 1),
        ("value", beta),
        ("output", beta),
        ("ffn_in", beta),
        ("ffn_out", beta),
    ):
        assert init(Spec(role, 24, 48, head_dim=6, place=place)).std == pytest.approx(gain * (2 / 72) ** 0.5), role


@pytest.mark.parametrize("init", ["paper", "paper_adam", "gpt2", "deepnorm", "depth_scaled"])
def test_scores_start_alike_however_their_scale_is_split(init):
    """What the attention's scale lacks to 1/sqrt(K) lies in the first queries; each layer of a pattern has it."""
    split = []
    for scale in ("1.0", "${rsqrt:shape.head_dim}"):
        model = tiny(f"init={init}", f"init.score_scale={scale}", "attention=alternating", "topology=encoder")
        layers = [block.steps[0].sublayers[0] for block in model.topology.encoder.stack.blocks]
        split.append([layer.query.weight * layer.score_scale for layer in layers])
    torch.testing.assert_close(*split)


# The same parameter starts alike in every variant


def first_values(*overrides: str) -> dict[str, torch.Tensor]:
    return {name: parameter.detach() for name, parameter in tiny(*overrides).named_parameters()}


@pytest.mark.parametrize(
    "variant",
    [
        "norm=rmsnorm",
        "position=rope",
        "activation=swiglu",
        "block.placement=post",
        "attention.n_kv_heads=1",
        "bias=all",
    ],
)
def test_variants_share_the_values_of_what_they_share(variant):
    baseline, other = first_values(), first_values(variant)
    shared = [name for name in baseline if name in other and baseline[name].shape == other[name].shape]
    assert len(shared) > 10
    for name in shared:
        assert torch.equal(baseline[name], other[name]), name


def test_a_seed_gives_the_same_values_and_another_seed_others():
    one, again, other = first_values("seed=3"), first_values("seed=3"), first_values("seed=4")
    drawn = [name for name, values in one.items() if values.std() > 0]
    assert len(drawn) > 10
    for name in drawn:
        assert torch.equal(one[name], again[name]) and not torch.equal(one[name], other[name]), name


def test_seeds_are_the_same_for_ever():
    """A change here changes every first value under the identities that runs already have."""
    assert stable_seed(0, "head.table") == 3381783551801631463
    assert stable_seed(3, "topology.decoder.stack.blocks.0.steps.0.sublayers.0.query.weight") == 2144908893846455145
    assert stable_seed("a") == 5385491284112807882
    assert all(0 <= stable_seed(number) < 1 << 63 for number in range(64))


def test_only_the_seed_of_first_values_matters():
    one, other = first_values("seed=3"), first_values("seed=4", "seed.init=3")
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_building_leaves_the_global_generator_alone():
    state = torch.random.get_rng_state()
    tiny()
    assert torch.equal(torch.random.get_rng_state(), state)


def test_layers_start_differently():
    values = first_values()
    name = "topology.encoder.stack.blocks.{}.steps.1.sublayers.0.up.weight"
    assert not torch.equal(values[name.format(0)], values[name.format(1)])


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_parameter_that_is_not_declared_is_named(device):
    """Before anything runs: counting a model on meta finds it too."""

    class Feedforward(torch.nn.Module):
        def __init__(self, parts, place, role=None):
            super().__init__()
            self.up = parts.linear(4, 4, role, place, kind="ffn_in") if role else torch.nn.Linear(4, 4)

    slots = fill_slots(compose(tiny_overrides()))
    for options, message in (
        ({}, r"\.up\.weight was not declared"),
        ({"role": "rooter"}, "knows the role 'rooter'"),
    ):
        slots["feedforward"] = partial(Feedforward, **options)
        with pytest.raises(UserError, match=message):
            build(slots, SHAPE, device=device)


@pytest.mark.parametrize("option", ["gpt2", "depth_scaled", "deepnorm"])
def test_a_parameter_without_a_place_is_named_where_its_role_needs_one(option):
    class Feedforward(torch.nn.Module):
        def __init__(self, parts, place):
            super().__init__()
            self.down = declare(torch.nn.Parameter(torch.empty(4, 4)), "ffn_out", fan_in=4, fan_out=4)

    slots = fill_slots(compose(tiny_overrides(f"init={option}", "block.placement=post")))
    slots["feedforward"] = partial(Feedforward)
    with pytest.raises(UserError, match=r"\.down: the role 'ffn_out' needs a place"):
        build(slots, SHAPE)


def test_a_projection_of_an_unknown_kind_is_named():
    parts = Parts(fill_slots(compose(tiny_overrides())), SHAPE, 0.0, ["encoder", "decoder"])
    with pytest.raises(UserError, match="the bias slot has no entry 'quary'; did you mean 'query'"):
        parts.linear(4, 4, "quary", Place("encoder"))


@pytest.mark.parametrize("option", ["paper", "paper_adam", "fixup"])
def test_learned_positions_start_at_deviation_one(option):
    """The library scales its word vectors up in the Adam rows, and never its positions."""
    model = tiny("position=learned", f"init={option}", d_model=192, length=64, batch_tokens=64)
    std = model.topology.encoder.position.table.std().item()
    assert std == pytest.approx(1.0, abs=0.05)
