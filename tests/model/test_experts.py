"""Routing against a loop over tokens; experts against one dense network, transformers' Switch and Mixtral."""

from __future__ import annotations

import pytest
import torch
from transformers import MixtralConfig, SwitchTransformersConfig
from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock
from transformers.models.switch_transformers.modeling_switch_transformers import SwitchTransformersSparseMLP

from ablate.config import build_model, compose, identity
from ablate.errors import UserError
from ablate.model.contract import CAUSAL, Context, View
from ablate.model.experts import balance_loss
from ablate.model.parameter_count import parameters
from ablate.model.routing import capacity_of, group_size, plan
from ablate.training.adafactor import factored_axes
from tests.model.test_orders import changed
from tests.model.tiny import TARGETS, batch_for, set_all, tiny

TOP_TWO, SWITCH = "feedforward=mixture_of_experts", "feedforward=switch"
B, T, D = 2, 16, 24


def capacity(factor: float) -> list[str]:
    return [
        f"feedforward.experts.capacity.{stack}.{mode}={factor}"
        for stack in ("encoder", "decoder")
        for mode in ("train", "eval")
    ]


def sublayer(option: str, *overrides: str):
    """A layer of experts of a tiny model, with random weights, in evaluation mode."""
    model = tiny(option, *overrides)
    set_all(model, (0.3,))
    return model.topology.encoder.stack.blocks[-1].steps[-1].sublayers[0].eval()


def run(experts, x: torch.Tensor, segments: torch.Tensor | None = None, order: str = CAUSAL):
    """What the experts give, and the auxiliary loss."""
    ctx = Context(View(torch.zeros(x.shape[:2], dtype=torch.long), order, segments=segments))
    y = experts(x, ctx)
    return y, sum(ctx.losses)


def tokens(rows: int = B, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, T, D, generator=torch.Generator().manual_seed(seed))


# Routing


def places_one_by_one(chosen: list[list[int]], experts: int, places: int) -> dict[tuple[int, int], tuple[int, int]]:
    """(token, choice) -> (expert, place) in one group: first choices of all tokens, then second ones."""
    taken, found = [0] * experts, {}
    for choice in range(len(chosen[0])):
        for token, experts_of in enumerate(chosen):
            expert = experts_of[choice]
            if expert < experts:
                if taken[expert] < places:
                    found[token, choice] = (expert, taken[expert])
                taken[expert] += 1
    return found


@pytest.mark.parametrize("choices", [1, 2])
@pytest.mark.parametrize("places", [1, 3, 12])
def test_places_are_given_as_a_loop_would(choices, places):
    groups, size, experts = 3, 12, 4
    generator = torch.Generator().manual_seed(choices * places)
    chosen = torch.randint(0, experts + 1, (groups, size, choices), generator=generator)
    x = torch.randn(groups * size, 5, generator=generator, requires_grad=True)
    weights = torch.rand(groups * size, choices, generator=generator)
    routes = plan(chosen, experts, places)

    at_places = torch.zeros(experts, groups, places, 5)
    filled, expected = torch.zeros(experts, groups, places, dtype=torch.bool), torch.zeros(groups * size, 5)
    for group in range(groups):
        for (token, choice), (expert, place) in places_one_by_one(chosen[group].tolist(), experts, places).items():
            at_places[expert, group, place] = x[group * size + token].detach()
            filled[expert, group, place] = True
            at = group * size + token
            expected[at] += weights[at, choice] * (expert + 1) * x[at]
    assert torch.equal(routes.filled, filled.flatten())
    dispatched = routes.dispatch(x)
    torch.testing.assert_close(dispatched[routes.filled], at_places.flatten(0, 2)[routes.filled])

    scaled = dispatched.view(experts, -1, 5) * torch.arange(1, experts + 1)[:, None, None]
    found = routes.collect(scaled.flatten(0, 1), weights)
    torch.testing.assert_close(found, expected)
    upstream = torch.randn(found.shape, generator=generator)
    torch.testing.assert_close(*(torch.autograd.grad(y, x, upstream, retain_graph=True)[0] for y in (found, expected)))


def test_groups_are_equal_and_few():
    assert group_size(128 * 512, 1024) == 1024
    assert group_size(128 * 114, 1024) == 912  # eight rows: the paper's decoder
    assert group_size(24, 1024) == 24
    assert group_size(2 * 2048, 1024) == 1024
    assert group_size(7, 3) == 1  # seven tokens have no other equal groups


def test_places_of_an_expert():
    assert capacity_of(1024, 32, (2, 1), 4) == 64
    assert capacity_of(912, 32, (5, 4), 4) == 35
    assert capacity_of(16, 4, (4, 1), 4) == 16
    assert capacity_of(16, 4, (1, 2), 4) == 4
    assert capacity_of(8, 2, (8, 1), 1) == 8  # never more than there are tokens


# Equalities


def test_one_expert_is_a_dense_network():
    experts = sublayer(SWITCH, "feedforward.experts.n_experts=1")
    dense = tiny("bias=none").topology.encoder.stack.blocks[0].steps[1].sublayers[0].eval()
    with torch.no_grad():
        dense.up.weight.copy_(experts.up[0].T)
        dense.down.weight.copy_(experts.down[0].T)
    y, balance = run(experts, tokens())
    torch.testing.assert_close(y, dense(tokens(), None), atol=1e-5, rtol=1e-4)
    assert balance.item() == pytest.approx(0.01)


@pytest.mark.parametrize("activation", ["relu", "swiglu"])
def test_two_equal_experts_are_a_dense_network(activation):
    """The gates of two choices sum to 1."""
    experts = sublayer(TOP_TWO, f"activation={activation}", *capacity(4.0))
    width = experts.up.shape[-1]
    options = ["bias=none", f"activation={activation}", "feedforward.d_ff=24"]
    dense = tiny(*options).topology.encoder.stack.blocks[0].steps[1].sublayers[0].eval()
    assert dense.up.weight.shape == (width, D)
    with torch.no_grad():
        for name in ("up", "down", "gate"):
            if (matrices := getattr(experts, name)) is not None:
                matrices.copy_(matrices[:1].expand_as(matrices))
                getattr(dense, name).weight.copy_(matrices[0].T)
    torch.testing.assert_close(run(experts, tokens())[0], dense(tokens(), None), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("factor", [0.5, 1.0, 4.0])
def test_switch_of_transformers(factor):
    """Its groups are rows; what overflows is left out there too."""
    options = [f"feedforward.experts.group_tokens={T}", "feedforward.experts.min_capacity=1", *capacity(factor)]
    experts = sublayer(SWITCH, *options)
    count, _, width = experts.up.shape
    theirs = SwitchTransformersSparseMLP(
        SwitchTransformersConfig(
            d_model=D, d_ff=width, num_experts=count, expert_capacity=int(T * factor / count), dense_act_fn="relu",
            router_bias=False, router_jitter_noise=0.0, router_dtype="float32", dropout_rate=0.0,
        )
    ).eval()  # fmt: skip
    with torch.no_grad():
        theirs.router.classifier.weight.copy_(experts.router.weight)
        for expert in range(count):
            theirs.experts[f"expert_{expert}"].wi.weight.copy_(experts.up[expert].T)
            theirs.experts[f"expert_{expert}"].wo.weight.copy_(experts.down[expert].T)
        found, expected = run(experts, tokens())[0], theirs(tokens())
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert (found == 0).all(-1).any() == (factor < 4)


def test_mixtral_of_transformers():
    """Two gated experts whose gates sum to 1, with room for all."""
    experts = sublayer(TOP_TWO, "activation=swiglu", *capacity(4.0))
    count, _, width = experts.up.shape
    config = MixtralConfig(
        hidden_size=D, intermediate_size=width, num_local_experts=count, num_experts_per_tok=2, hidden_act="silu"
    )
    config._experts_implementation = "eager"
    theirs = MixtralSparseMoeBlock(config).eval()
    with torch.no_grad():
        theirs.gate.weight.copy_(experts.router.weight)
        theirs.experts.gate_up_proj.copy_(torch.cat([experts.gate, experts.up], -1).transpose(1, 2))
        theirs.experts.down_proj.copy_(experts.down.transpose(1, 2))
        expected = theirs(tokens())
    expected = expected[0] if isinstance(expected, tuple) else expected
    torch.testing.assert_close(run(experts, tokens())[0], expected, atol=1e-5, rtol=1e-4)


# What depends on what


@pytest.mark.parametrize("option", [TOP_TWO, SWITCH])
def test_causal_below_capacity(option):
    model = tiny(option, *capacity(4.0)).eval()
    set_all(model, (0.3,))
    batch = batch_for(model)
    assert changed(model, batch, "decoder", 5).tolist() == [at >= 5 for at in range(TARGETS)]


def test_overflowing_first_choices_push_out_second_ones_of_tokens_before():
    """As the docstring says: two choices are not causal where experts overflow, one choice is."""
    full = ["feedforward.experts.min_capacity=1", f"feedforward.experts.group_tokens={T}", *capacity(0.5)]
    for option, is_causal in ((TOP_TWO, False), (SWITCH, True)):
        experts, x = sublayer(option, *full), tokens(rows=1)
        before = [run(experts, torch.cat([x[:, :8], tokens(1, seed)[:, 8:]], 1))[0][:, :8] for seed in range(8)]
        assert all(torch.equal(before[0], other) for other in before) == is_causal, option


@pytest.mark.parametrize("option", [TOP_TWO, SWITCH])
def test_padding_is_not_routed(option):
    """It gets nothing and takes no place: what is present has the places that it has alone, in groups as large."""
    experts = sublayer(option, "feedforward.experts.min_capacity=1", *capacity(0.5))
    segments = (torch.arange(T) < 11).long().expand(B, T)
    x = tokens() * segments[..., None]
    y, _ = run(experts, x, segments)
    other = torch.where(segments[..., None] == 1, x, tokens(seed=1))
    torch.testing.assert_close(run(experts, other, segments)[0], y)
    assert (y[:, 11:] == 0).all() and (y[:, :11] != 0).any()


@pytest.mark.parametrize("option", [TOP_TWO, SWITCH])
def test_fewer_rows_at_once_have_groups_as_large(option):
    """One row alone is filled up to the group of two, and has what it has at the group's front."""
    experts = sublayer(option, "feedforward.experts.min_capacity=1", *capacity(0.75))
    x = tokens()
    silent = torch.tensor([[1] * T, [0] * T])
    torch.testing.assert_close(run(experts, x[:1])[0], run(experts, x, silent)[0][:1])


def test_groups_do_not_see_each_other():
    options = [f"feedforward.experts.group_tokens={T}", "feedforward.experts.min_capacity=1", *capacity(0.5)]
    experts, x = sublayer(SWITCH, *options), tokens()
    together = run(experts, x)[0]
    torch.testing.assert_close(together[1:], run(experts, x[1:])[0])


# Training and evaluation


def test_second_choices_are_kept_by_their_gates():
    """With probability gate / threshold; all of them in evaluation."""
    experts = sublayer(TOP_TWO)
    second = 0.1
    gates = torch.tensor([1 - second, second, 0.0, 0.0]).expand(1, 20000, 4)
    present = torch.ones(1, 20000, dtype=torch.bool)
    chosen, weights, _ = experts.choose(gates, present)
    assert (chosen == torch.tensor([0, 1])).all()
    torch.testing.assert_close(weights[0, 0], torch.tensor([0.9, 0.1]))
    torch.manual_seed(0)
    chosen, _, _ = experts.train().choose(gates, present)
    assert (chosen[..., 0] == 0).all()
    assert (chosen[..., 1] == 1).float().mean().item() == pytest.approx(second / 0.2, abs=0.02)
    assert (chosen[..., 1][chosen[..., 1] != 1] == 4).all()
    sure = torch.tensor([0.7, 0.3, 0.0, 0.0]).expand(1, 100, 4)
    assert (experts.choose(sure, present[:, :100])[0][..., 1] == 1).all()


def test_jitter_in_training_alone():
    experts, x = sublayer(SWITCH, *capacity(4.0)), tokens()
    assert torch.equal(run(experts, x)[0], run(experts, x)[0])
    experts.train()
    noisy, again = run(experts, x)[0], run(experts, x)[0]
    assert not torch.equal(noisy, again)
    close = ((noisy - again).norm(dim=-1) < 0.1 * noisy.norm(dim=-1)).float().mean()
    assert close > 0.8  # the same experts, nearly the same gates


def test_places_of_the_published_rows():
    """Twice (top-2) or 1.2 times (Switch) the share in encoders; the library's defaults in decoders."""
    for option, encoder in ((TOP_TWO, (64, 64)), (SWITCH, (38, 38))):
        model = build_model(compose(["shape=paper", option]), device="meta")
        for stack, size, expected in (("encoder", 1024, encoder), ("decoder", 912, (35, 57))):
            blocks = getattr(model.topology, stack).stack.blocks
            at = [layer for layer, block in enumerate(blocks) if hasattr(block.steps[-1].sublayers[0], "router")]
            assert at == [3, 7, 11]
            experts = blocks[3].steps[-1].sublayers[0]
            assert experts.n_experts == 32 and group_size(128 * {"encoder": 512, "decoder": 114}[stack], 1024) == size
            assert (experts.train().places(size), experts.eval().places(size)) == expected


def test_the_balance_loss_is_no_part_of_the_likelihood():
    model = tiny(SWITCH).eval()
    batch = batch_for(model)
    loss, nll = model(batch)
    layers = 4  # in two stacks
    assert loss.item() - nll.mean().item() == pytest.approx(layers * 0.01, rel=0.5)
    even = torch.full((3, 4), 0.25)
    assert balance_loss(even, even).item() == pytest.approx(1.0)
    assert balance_loss(torch.eye(4)[:1], torch.eye(4)[:1]).item() == pytest.approx(4.0)


def test_gates_are_float32_under_autocast():
    experts = sublayer(SWITCH, *capacity(4.0))
    x = tokens().bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, balance = run(experts, x)
        gates = experts.gates(x)
    assert gates.dtype == balance.dtype == torch.float32 and y.dtype == torch.bfloat16
    torch.testing.assert_close(gates, experts.gates(x.float()))
    torch.testing.assert_close(y.float(), run(experts, x.float())[0], atol=0.1, rtol=0.1)


# Numbers


def test_parameters_that_act_on_a_token():
    """One dense network's worth for Switch, two halves for top-2, in place of those in three layers of each stack."""
    dense = parameters(build_model(compose(["shape=paper"]), device="meta"))
    for option in (TOP_TWO, SWITCH):
        counts = parameters(build_model(compose(["shape=paper", option]), device="meta"))
        biases, routers = 3072 + 768, 32 * 768
        assert counts["active"] == dense["active"] + 6 * (routers - biases)
        assert counts["total"] > 2 * counts["active"]


def test_adafactor_factors_an_experts_matrices_over_their_own_axes():
    assert factored_axes(torch.Size((32, 768, 1536)), 128) == (1, 2)
    assert factored_axes(torch.Size((32, 3072, 768)), 128) == (1, 2)


def test_how_much_is_seen_at_once_belongs_to_a_runs_identity():
    names = [
        [identity(compose([*option, f"trainer.devices={devices}"]), "") for devices in (1, 2)]
        for option in ([], [SWITCH], [TOP_TWO])
    ]
    assert [one == two for one, two in names] == [True, False, False]


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ([SWITCH, "shape.n_layers=3"], "feedforward.experts is used by no layer.*feedforward.pattern"),
        ([TOP_TWO, "feedforward.experts.n_experts=1"], "n_experts=1: must be at least 2"),
        ([TOP_TWO, "feedforward.pattern=[dense,expert]"], "no option 'expert'.*experts"),
        ([SWITCH, "activation=swiglu", "feedforward.experts.gated_ratio=2/5"], "gated_ratio"),
    ],
)
def test_refusals(overrides, reason):
    with pytest.raises(UserError, match=reason):
        build_model(compose(overrides), device="meta")


def test_groups_reach_across_rows():
    """As the docstring says: what a row's tokens get may depend on the rows before, where a group holds several."""
    experts = sublayer(SWITCH, "feedforward.experts.min_capacity=1", *capacity(0.5))
    one, other = (run(experts, torch.cat([tokens(1, seed), tokens(1)]))[0][1] for seed in (1, 2))
    assert not torch.equal(one, other)
