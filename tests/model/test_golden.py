"""With the weights of the authors' library, our rows give the library's numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ablate.config import build_model, compose
from tests.golden.gradients import summary
from tests.golden.names import TOY, Golden

ADAM = ["init=paper_adam"]
SHARED = "embedding.tie=[encoder,decoder]"
ROWS = {
    "vanilla": [],
    **{f"act_{name}": [f"activation={name}"] for name in (
        "elu", "gelu", "selu", "sigmoid", "softplus", "swish", "glu", "geglu", "reglu", "swiglu", "liglu")},
    "rms_norm_full": ["norm=rmsnorm"],
    "rms_norm_partial": ["norm=partial_rmsnorm"],
    "rezero": ["residual=rezero", "norm=none", *ADAM],
    "rezero_layer_norm": ["residual=rezero", *ADAM],
    "rezero_rms_norm": ["residual=rezero", "norm=rmsnorm", *ADAM],
    "pos_learned": ["position=learned"],
    "pos_sinusoidal": ["position=sinusoidal"],
    "rel_bias_per_layer": ["position.per_layer=true"],
    "rel_contextual": ["position=contextual"],
    "untied_embeddings": ["embedding.tie=[]"],
    "tied_encoder_decoder": [SHARED],
    "tied_decoder_in_out": ["embedding.tie=[decoder,head]"],
    "block_sharing_encoder": ["sharing=encoder", SHARED],
    "block_sharing_decoder": ["sharing=decoder", SHARED],
    "transparent": ["stack=transparent"],
    "universal": ["stack=universal", "residual=gated", SHARED],
    "universal_act": ["stack=universal_act", "residual=gated", SHARED],
    "funnel_layer_norm": ["stack=funnel"],
    "funnel_rms_norm": ["stack=funnel", "norm=rmsnorm_encoder"],
    "evolved": ["block=evolved"],
    "evolved_2cells": ["block=evolved"],
    "depth_toy": [  # heads times their width differ from d_model
        "stack.encoder.n_layers=${of:3/2,shape.n_layers}", "stack.decoder.n_layers=${of:3/2,shape.n_layers}",
        "feedforward.d_ff=${of:3/4,shape.d_ff}", "attention.n_heads=${of:1/2,shape.n_heads}"],
    **{f"synthesizer_{name}": [f"attention=synthesizer_{name}"] for name in (
        "dense", "dense_plus", "dense_plus_alpha", "factorized", "random", "random_plus", "random_plus_alpha")},
    "lightweight_conv": ["attention=lightweight_convolution"],
    "dynamic_conv": ["attention=dynamic_convolution", "feedforward.d_ff=${of:1/6,shape.d_ff}"],
    "weighted": ["attention=weighted"],
    "fixup": ["residual=fixup"],
    "block_sharing": ["sharing=all", SHARED],
    "block_sharing_factorized": ["sharing=all", "embedding=factorized", SHARED],
    "block_sharing_factorized_shared": ["sharing=all", "embedding=factorized"],
    "factorized_embedding": ["embedding=factorized", SHARED],
    "factorized_shared_embedding": ["embedding=factorized"],
    "adaptive_input": ["embedding=clusters"],
    "adaptive_softmax": ["head=adaptive_softmax"],
    "adaptive_softmax_noproj": ["head=adaptive_softmax", "embedding=clusters_no_projection"],
    "mixture_of_softmaxes": ["head=mixture_of_softmaxes"],
    "moe_top2": ["feedforward=mixture_of_experts"],
    "moe_top2_overflow": ["feedforward=mixture_of_experts"],
    "switch": ["feedforward=switch"],
    "switch_overflow": ["feedforward=switch"],
    "product_key_memory": ["feedforward=product_key_memory"],
}  # fmt: skip


def experts(capacity: float, **numbers: float) -> list[str]:
    """Every second layer has four experts; groups of 16 tokens."""
    numbers |= {f"capacity.{stack}.{mode}": capacity for stack in ("encoder", "decoder") for mode in ("train", "eval")}
    numbers |= {"n_experts": 4, "group_tokens": 16}
    return [
        "feedforward.pattern=[dense,experts]",
        *(f"feedforward.experts.{key}={number}" for key, number in numbers.items()),
    ]


# Numbers of the golden files that no ratio of the paper's gives: tables of synthesizers are stored up to length 16.
NUMBERS = {
    **{f"act_{name}": ["feedforward.gated_ratio=3/4"] for name in ("glu", "geglu", "reglu", "swiglu", "liglu")},
    "moe_top2": experts(4.0),
    "moe_top2_overflow": experts(1.0, min_capacity=2),
    "switch": experts(4.0),
    "switch_overflow": experts(0.5, min_capacity=1),
    "product_key_memory": [f"feedforward.there.{key}" for key in ("n_heads=2", "n_keys=8", "key_dim=4", "n_read=4")],
    **{row: ["attention.n_heads=4", "attention.head_dim=8", "attention.max_length=16", "objective.length=16"]
       for row in ROWS if row.startswith("synthesizer")},
    "dynamic_conv": ["feedforward.d_ff=48"],
    **{row: ["embedding.d_inner=8"] for row in ROWS if "embedding=factorized" in ROWS[row]},
    "adaptive_input": ["embedding.shares=[1/4,1/4]", "embedding.widths=[32,16,8]", "embedding.special=0"],
    "adaptive_softmax": ["embedding.shares=[5/14,2/7]", "embedding.widths=[32,16,8]", "embedding.special=8"],
    "adaptive_softmax_noproj": ["embedding.shares=[5/14,2/7]", "embedding.special=8"],
    "mixture_of_softmaxes": ["head.n_softmaxes=3"],
    **{row: [f"stack.{stack}.{steps}" for stack in ("encoder", "decoder") for steps in (
        "n_steps=3", "steps_before=2", "steps_after=2")] for row in ("universal", "universal_act")},
    "evolved_2cells": [f"stack.{stack}.n_layers=4" for stack in ("encoder", "decoder")],
    **{row: ["stack.encoder.n_layers=3"] for row in ("funnel_layer_norm", "funnel_rms_norm")},
}  # fmt: skip


def at_toy_size(row: str) -> list[str]:
    """The overrides of a row's golden file."""
    numbers = NUMBERS.get(row, [])
    keys = {number.partition("=")[0] for number in numbers}
    return [*TOY, *(one for one in ROWS[row] if one.partition("=")[0] not in keys), *numbers]


@pytest.fixture(scope="module", params=ROWS)
def row(request):
    golden = Golden(request.param)
    model = build_model(compose(at_toy_size(request.param)))
    golden.load(model)
    return golden, model


def test_outputs(row):
    golden, model = row
    model.eval()
    for case in golden.cases():
        batch = golden.batch(case)
        present = batch["weights"].bool()
        with torch.no_grad():
            hidden, _ = model.topology(batch)
            logits = model.head.logits(hidden)
            loss, nll = model(batch)
        np.testing.assert_allclose(logits.numpy(), golden(case, "logits"), atol=2e-5)
        np.testing.assert_allclose((nll * present).numpy(), golden(case, "token_loss"), atol=2e-5)
        np.testing.assert_allclose(loss.item(), golden(case, "loss"), atol=2e-5)


def test_encoder(row):
    golden, model = row
    model.eval()
    states, steps = {}, len(model.topology.encoder.stack.blocks[0].steps)
    hook = model.topology.encoder.stack.register_forward_hook(lambda module, args, out: states.update(out=out))
    with torch.no_grad():
        for case in golden.cases():
            model(golden.batch(case))
            output, _, layers = states["out"]
            np.testing.assert_allclose(output.numpy(), golden(case, "encoder_output"), atol=2e-5)
            stored = sum(name.startswith("plain/encoder_state") for name in golden.arrays.files)
            if case == "plain" and stored == steps * (len(layers) - 1) + 1:  # a universal stack's are others
                for layer, state in enumerate(layers):
                    name = f"encoder_state_{steps * layer:02d}"
                    np.testing.assert_allclose(state.numpy(), golden(case, name), atol=2e-5)
    hook.remove()


def test_gradients(row):
    golden, model = row
    if golden.row == "evolved_2cells":
        pytest.skip("its gradients were not stored")
    model.eval()
    model.zero_grad()
    loss, _ = model(golden.batch("plain"))
    loss.backward()
    expected = golden.gradients()
    gradients: dict[str, list[np.ndarray]] = {}
    for ours, parameter in model.named_parameters():
        for name, gradient in golden.theirs(golden.name_of(ours), parameter.grad.numpy()).items():
            gradients.setdefault(name, []).append(gradient)
    for name, parts in gradients.items():  # two of ours may be rows of one of theirs
        found = summary(name, parts[0] if len(parts) == 1 else np.concatenate(parts))
        tolerance = 1e-4 * expected[name]["largest"] + 1e-9
        assert abs(found["largest"] - expected[name]["largest"]) <= tolerance, name
        np.testing.assert_allclose(
            found["projections"], expected[name]["projections"], atol=4 * tolerance, err_msg=name
        )


@pytest.mark.parametrize(
    ("row", "plain", "packed"),
    [
        ("vanilla", 3.4179797172546387, 3.739805221557617),
        ("adaptive_softmax", 8.058422088623047, 8.456162452697754),
        ("adaptive_softmax_noproj", 8.208037376403809, 7.282137870788574),
    ],
)
def test_training_loss(row, plain, packed):
    golden = Golden(row)
    model = build_model(compose(at_toy_size(row)))
    golden.load(model)
    model.train()
    for case, expected in (("plain", plain), ("packed", packed)):
        assert model(golden.batch(case))[0].item() == pytest.approx(expected, abs=2e-5)
