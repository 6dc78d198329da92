"""Transparent, universal and funnel stacks, gated residuals: equalities, formulas written out, who sees whom."""

from __future__ import annotations

import pytest
import torch
from transformers import FunnelConfig
from transformers.models.funnel.modeling_funnel import FunnelAttentionStructure

from ablate.config import build_model, compose
from ablate.errors import UserError
from ablate.model.contract import Context, Memory, View
from ablate.model.funnel import halved
from tests.model.test_orders import changed
from tests.model.tiny import LENGTH, TARGETS, batch_for, packed, set_all, tiny, train_step

D = 24
STACKS = ("encoder", "decoder")
ONCE = [f"stack.{stack}.{key}" for stack in STACKS for key in ("steps_before=0", "steps_after=0", "step_vectors=false")]


def steps(count: int) -> list[str]:
    return [f"stack.{stack}.n_steps={count}" for stack in STACKS]


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def eval_model(*overrides: str, **shape: int):
    model = tiny(*overrides, **shape).eval()
    set_all(model, (0.3,))
    return model


def assert_same_outputs(one, other, padded: bool) -> None:
    batch = batch_for(one, padded=padded)
    for model in (one, other):
        model.eval()
    with torch.no_grad():
        torch.testing.assert_close(one.logits(batch), other.logits(batch), atol=1e-5, rtol=1e-4)


# Equal to the plain stack where they should be


@pytest.mark.parametrize("padded", [False, True])
def test_a_funnel_without_pooling_is_plain(padded):
    plain, funnel = eval_model(), tiny("stack=funnel", "stack.encoder.n_blocks=1")
    funnel.load_state_dict(plain.state_dict())
    assert_same_outputs(plain, funnel, padded)


@pytest.mark.parametrize("padded", [False, True])
def test_a_universal_stack_of_one_step_is_plain(padded):
    plain = eval_model()
    universal = tiny("stack=universal", *ONCE, *steps(1), *(f"stack.{stack}.n_layers=2" for stack in STACKS))
    universal.load_state_dict(plain.state_dict())
    assert_same_outputs(plain, universal, padded)


@pytest.mark.parametrize("topology", ["encoder_decoder", "causal_decoder", "prefix_decoder", "encoder"])
def test_steps_without_vectors_are_shared_layers(topology):
    shared = eval_model("sharing=all", f"topology={topology}", n_layers=3)
    universal = tiny("stack=universal", *ONCE, *steps(3), f"topology={topology}", n_layers=3)
    wanted = universal.state_dict().keys()
    universal.load_state_dict({name: value for name, value in shared.state_dict().items() if name in wanted})
    assert_same_outputs(shared, universal, padded=True)


@pytest.mark.parametrize("padded", [False, True])
def test_transparent_attention_to_the_last_state_is_plain(padded):
    plain, transparent = eval_model(), tiny("stack=transparent")
    mixture = torch.full((3, 2), -1e4)
    mixture[-1] = 0.0
    transparent.load_state_dict({**plain.state_dict(), "topology.decoder.stack.mixture": mixture})
    assert_same_outputs(plain, transparent, padded)


def test_a_gated_residual_whose_gates_are_closed_is_plain():
    plain, gated = eval_model(), tiny("residual=gated")
    gated.load_state_dict(plain.state_dict(), strict=False)
    with torch.no_grad():
        for name, parameter in gated.named_parameters():
            if name.endswith("residual.update.bias"):
                parameter.fill_(-1e4)
    assert_same_outputs(plain, gated, padded=True)


@pytest.mark.parametrize("name", ["universal", "universal_act"])
@pytest.mark.parametrize(("shape", "expected"), [("nano", 14), ("paper", 28)])
def test_a_universal_stack_has_seven_thirds_of_the_layers(name, shape, expected):
    """24 steps and 2 applications on either side at the paper's 12 layers; halting adds a step."""
    model = build_model(compose([f"shape={shape}", f"stack={name}", "residual=gated"]), device="meta")
    calls = []
    for stack in STACKS:
        blocks = getattr(model.topology, stack).stack.blocks
        assert len(blocks) == 1
        blocks[0].register_forward_hook(lambda *_, stack=stack: calls.append(stack))
    ids = torch.empty(1, 16, dtype=torch.long, device="meta")
    model({"encoder_ids": ids, "decoder_ids": ids, "targets": ids})
    assert [calls.count(stack) for stack in STACKS] == 2 * [expected + (name == "universal_act")]


# Their formulas, written out


@torch.no_grad()
def test_each_decoder_layer_looks_at_its_own_mixture():
    model = eval_model("stack=transparent")
    batch, seen = batch_for(model, padded=True), []
    encoder, decoder = model.topology.encoder.stack, model.topology.decoder.stack
    encoder.register_forward_hook(lambda module, args, out: seen.append(out[2]))
    for block in decoder.blocks:
        block.register_forward_pre_hook(lambda module, args: seen.append(args[1].memory.output))
    model.logits(batch)
    states, *looked_at = seen
    assert len(states) == 3 and len(looked_at) == 2
    for layer, found in enumerate(looked_at):
        weights = torch.softmax(decoder.mixture[:, layer], 0)
        expected = sum(weight * state for weight, state in zip(weights, states, strict=True))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("tanh", [False, True])
@torch.no_grad()
def test_gates(tanh):
    model = eval_model("residual=gated", f"residual.tanh={str(tanh).lower()}")
    gate = model.topology.encoder.stack.blocks[0].steps[0].residual
    x, y = random(2, LENGTH, D), random(2, LENGTH, D, seed=1)
    view = View(ids=torch.ones(2, LENGTH, dtype=torch.long))
    norm = lambda h: torch.nn.functional.layer_norm(h, (D,), gate.norm.scale, gate.norm.shift, 1e-6)  # noqa: E731
    pair = lambda linear, a, b: torch.cat((a, b), -1) @ linear.weight.T + linear.bias  # noqa: E731
    u = torch.sigmoid(pair(gate.update, norm(x), norm(y)))
    r = torch.sigmoid(pair(gate.reset, norm(norm(x)), norm(norm(y))))
    c = (torch.tanh if tanh else torch.sigmoid)(pair(gate.candidate, norm(r * x), norm(y)))
    torch.testing.assert_close(gate(x, lambda h: y, view), x + (1 - u) * y + u * c, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("bias", [-2.0, 0.0, 1.5])
@torch.no_grad()
def test_halting_token_by_token(bias):
    """Graves 2016 in plain words: p is added up until it exceeds the threshold; what is left is the last one's."""
    n_steps = 4
    stack = eval_model("stack=universal_act", *steps(n_steps), "topology=encoder").topology.encoder.stack
    stack.halt.bias.fill_(bias)
    x, ctx = random(2, LENGTH, D), Context(View(ids=torch.ones(2, LENGTH, dtype=torch.long)))
    marked, states, state = [], [], x
    for step in range(n_steps + 1):
        marked.append(state if step == n_steps else state + stack.step_table[step] * D**0.5)
        state, _ = stack.blocks[0](marked[-1], ctx)
        states.append(state)
    expected = torch.zeros_like(x)
    for b in range(2):
        for t in range(LENGTH):
            total, halted = 0.0, False
            for before, after in zip(marked, states, strict=True):
                p = torch.sigmoid(before[b, t] @ stack.halt.weight[0] + stack.halt.bias[0])
                if not halted:
                    halted = bool(total + p > 0.95)
                    weight = 1 - total if halted else p
                    total = total + weight
                    expected[b, t] += weight * after[b, t]
    torch.testing.assert_close(stack._recur(x, ctx)[-1], expected, atol=1e-5, rtol=1e-4)


def test_a_token_that_halts_at_once_has_one_step():
    once = eval_model("stack=universal", *steps(1))
    halting = tiny("stack=universal_act", *steps(1))
    halting.load_state_dict(once.state_dict(), strict=False)
    with torch.no_grad():
        for tower in (halting.topology.encoder, halting.topology.decoder):
            tower.stack.halt.weight.zero_()
            tower.stack.halt.bias.fill_(30.0)
    assert_same_outputs(once, halting, padded=True)


# The funnel


def transformers_pooling(*, separate: bool = False) -> FunnelAttentionStructure:
    return FunnelAttentionStructure(FunnelConfig(separate_cls=separate, truncate_seq=False))


@torch.no_grad()
def test_pooling_against_transformers():
    stack = eval_model("stack=funnel", "topology=encoder_decoder").topology.encoder.stack
    segments = packed(LENGTH, 2)[0]
    view = View(ids=torch.arange(2 * LENGTH).view(2, LENGTH), segments=segments)
    x, theirs = random(2, LENGTH, D), transformers_pooling()
    pooled, ctx = stack._halve(x, Context(view, cache={"of the longer sequence": None}))
    torch.testing.assert_close(pooled, theirs.pool_tensor(x, mode="mean"))
    for found, whole in ((ctx.view.segments, segments), (ctx.view.ids, view.ids)):
        assert torch.equal(found, theirs.stride_pool(whole, 1))
    assert not ctx.cache


def test_positions_start_again_on_the_short_grid():
    view = View(ids=torch.ones(1, 8, dtype=torch.long), positions=torch.arange(8)[None])
    assert halved(view).positions.tolist() == [[0, 1, 2, 3]]
    assert halved(halved(view)).positions.tolist() == [[0, 1]]


@torch.no_grad()
def test_the_funnel_halves_behind_the_first_attention_of_each_group_but_the_first():
    model = eval_model("stack=funnel", "stack.encoder.n_blocks=3", n_layers=6)
    lengths, memory = [], []
    for block in model.topology.encoder.stack.blocks:
        for step in block.steps:
            step.register_forward_hook(lambda module, args, out: lengths.append(out[0].shape[1]))
    model.topology.decoder.stack.register_forward_pre_hook(lambda module, args: memory.append(args[1].memory))
    model.logits(batch_for(model))
    assert lengths == [16] * 4 + [16, 8, 8, 8] + [8, 4, 4, 4]
    assert memory[0].output.shape[1] == memory[0].view.length == 4
    assert [state.shape[1] for state in memory[0].states] == [16, 16, 16, 8, 8, 4, 4]


@pytest.mark.parametrize("counts_padding", ["true", "false"])
def test_padding_in_a_funnel(counts_padding):
    """In the library's form the padded half of a pair counts: what is present then depends on what the padding is."""
    model = eval_model("stack=funnel", f"stack.encoder.counts_padding={counts_padding}")
    batch = batch_for(model)
    present = 9  # the pair of tokens 8 and 9 is half padding
    batch["encoder_segments"] = (torch.arange(LENGTH) < present).long().expand(2, -1)
    batch["decoder_segments"] = torch.ones(2, TARGETS, dtype=torch.long)
    assert changed(model, batch, "encoder", present - 1).all()
    assert changed(model, batch, "encoder", present).any() == (counts_padding == "true")
    assert not changed(model, batch, "encoder", present + 1).any()


def test_padding_that_does_not_count_is_as_if_it_were_not_there():
    model = eval_model("stack=funnel", "stack.encoder.counts_padding=false")
    batch = batch_for(model)
    short = {**batch, "encoder_ids": batch["encoder_ids"][:, :10]}
    padded = {**batch, "encoder_segments": (torch.arange(LENGTH) < 10).long().expand(2, -1)}
    padded["decoder_segments"] = torch.ones(2, TARGETS, dtype=torch.long)
    with torch.no_grad():
        torch.testing.assert_close(model.logits(padded), model.logits(short), atol=1e-5, rtol=1e-4)


def test_a_funnel_that_does_not_come_out_is_refused():
    with pytest.raises(UserError, match="stack.encoder.n_blocks=3: 2 blocks cannot be divided into 3 equal groups"):
        tiny("stack=funnel", "stack.encoder.n_blocks=3")
    with pytest.raises(UserError, match="objective.length=18 2 times; it must be a multiple of 4"):
        tiny("stack=funnel", "stack.encoder.n_blocks=3", n_layers=3, length=18, batch_tokens=36)


def test_a_funnel_asks_for_the_length_of_the_sequences_and_not_of_the_shape():
    tiny("stack=funnel", "objective.length=16", length=17, batch_tokens=32)


def test_a_sequence_that_cannot_be_halved_is_refused():
    model = tiny("stack=funnel")
    batch = batch_for(model)
    batch["encoder_ids"] = batch["encoder_ids"][:, :15]
    with pytest.raises(UserError, match="15 must be a multiple of 2"):
        model(batch)


def test_a_funnel_of_one_step_a_layer_pools_behind_it():
    model = eval_model("stack=funnel", "block=parallel")
    assert changed(model, batch_for(model), "encoder", 3).all()
    assert torch.isfinite(train_step(model, batch_for(model, padded=True)))


# Who sees whom


@pytest.mark.parametrize("stack", ["universal", "universal_act", "transparent", "funnel"])
@pytest.mark.parametrize("residual", ["plain", "gated"])
def test_a_decoder_sees_the_encoder_and_its_own_past(stack, residual):
    model = eval_model(f"stack={stack}", f"residual={residual}")
    batch = batch_for(model)
    assert changed(model, batch, "encoder", LENGTH - 1).all()
    assert changed(model, batch, "decoder", 5).tolist() == [at >= 5 for at in range(TARGETS)]


@pytest.mark.parametrize("stack", ["universal", "universal_act"])
def test_a_decoder_alone_sees_the_past(stack):
    model = eval_model(f"stack={stack}", "topology=causal_decoder")
    assert changed(model, batch_for(model), "decoder", 5).tolist() == [at >= 5 for at in range(TARGETS)]


@pytest.mark.parametrize("stack", ["universal", "universal_act", "transparent"])
@pytest.mark.parametrize("residual", ["plain", "gated"])
def test_segments_are_sequences_of_their_own(stack, residual):
    model = eval_model(f"stack={stack}", f"residual={residual}")
    batch = batch_for(model, rows=1, padded=True)
    with torch.no_grad():
        together = model.logits(batch)
        for segment in (1, 2):
            there = batch["decoder_segments"][0] == segment
            alone = {f"{name}_ids": batch[f"{name}_ids"][:, batch[f"{name}_segments"][0] == segment] for name in STACKS}
            torch.testing.assert_close(together[:, there], model.logits(alone), atol=1e-5, rtol=1e-4)


def test_dropout_falls_on_the_mixture():
    model = tiny("stack=transparent", "dropout=0.5")
    stack = model.topology.decoder.stack
    with torch.no_grad():
        stack.mixture.copy_(random(3, 2))
    seen = []
    stack.blocks[0].register_forward_pre_hook(lambda module, args: seen.append(args[1].memory.output))
    x, states = torch.zeros(1, 4, D), [torch.full((1, 4, D), float(at)) for at in range(3)]
    for _ in range(20):
        view = View(ids=torch.ones(1, 4, dtype=torch.long))
        stack.train()(x, Context(view, Memory(view, states[-1], states)))
    assert len({round(output[0, 0, 0].item(), 4) for output in seen}) > 2
