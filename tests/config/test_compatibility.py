"""Parts that do not fit together are refused with a reason and a way out."""

from __future__ import annotations

import itertools

import pytest

from ablate.config import build_model, check_parts, compose, options
from ablate.errors import UserError


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["norm=batchnorm"], ["norm=batchnorm", "those after it", "batchnorm_encoder"]),
        (["norm=batchnorm", "topology=causal_decoder"], ["norm=batchnorm", "decoder", "rmsnorm"]),
        (
            ["stack=funnel", "topology=causal_decoder"],
            ["stack=funnel is for models of encoder and decoder", "has no encoder"],
        ),
        (["stack=funnel", "topology=encoder"], ["topology=encoder has no decoder", "topology=encoder_decoder"]),
        (
            ["stack=transparent", "topology=prefix_decoder", "stack.decoder.n_layers=3"],
            ["stack=transparent", "has no encoder"],
        ),
        (["objective=causal"], ["objective=causal does not fit topology=encoder_decoder", "topology=causal_decoder"]),
        (["topology=encoder", "objective=span_corruption"], ["trained on masked", "topology=encoder_decoder"]),
        (
            ["stack=funnel", "data.document_mask=true"],
            ["stack=funnel mixes the tokens of neighbours", "data.document_mask=false"],
        ),
        (
            ["feedforward=switch", "data.document_mask=true"],
            [
                "feedforward=switch lets what one document holds change the outputs of another",
                "set data.document_mask=false, or choose feedforward=dense or",
            ],
        ),
        (
            ["norm=batchnorm_encoder", "data.document_mask=true"],
            ["norm=batchnorm_encoder lets what one document holds change", "or choose norm=layernorm or"],
        ),
        (
            ["norm=batchnorm_encoder", "sharing=encoder"],
            [
                "the batch statistics of norm=batchnorm_encoder would be mixed",
                "sharing.encoder=true",
                "choose norm=layernorm",
            ],
        ),
        (
            ["norm=batchnorm", "topology=encoder", "stack=universal"],
            ["stack=universal reuses one norm of the encoder at several points"],
        ),
        (
            ["norm=batchnorm_encoder", "residual=gated"],
            ["residual=gated reuses one norm of the encoder at several points"],
        ),
        (
            ["residual=deepnorm", "block.placement=pre"],
            ["residual=deepnorm does not work with block.placement=pre", "placement=post"],
        ),
        (
            ["sharing=encoder", "topology=causal_decoder"],
            ["sharing is set for the encoder", "its layers: 6 in the decoder"],
        ),
        (["embedding.tie=[encoder,head]"], ["embedding.tie must name decoder and head, or leave out head"]),
        (
            ["block.sublayers.encoder=[cross_attention,feedforward]"],
            ["block.sublayers.encoder", "has no memory to attend to"],
        ),
        (["block=evolved", "block.d_narrow=60"], ["block.d_narrow=60", "d_model=48"]),
        (["attention=weighted", "block=evolved"], ["sets block.sublayers, which block=evolved", "block=parallel"]),
    ],
)
def test_refusals(overrides, told):
    with pytest.raises(UserError) as caught:
        build_model(compose(overrides), device="meta")
    for part in told:
        assert part in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["norm=batchnorm", "topology=encoder"],
        ["norm=batchnorm_encoder"],
        ["norm=batchnorm_encoder", "sharing=decoder"],
        ["topology=prefix_decoder"],
        ["residual=deepnorm"],
    ],
)
def test_what_fits(overrides):
    check_parts(compose(overrides))


@pytest.mark.parametrize("topology", ["encoder_decoder", "causal_decoder"])
def test_every_position_and_attention_works_or_is_refused(topology):
    for position, attention in itertools.product(*(options.groups()[group] for group in ("position", "attention"))):
        cfg = compose([f"topology={topology}", f"position={position}", f"attention={attention}"])
        try:
            check_parts(cfg)
        except UserError as refusal:
            assert f"position={position}" in str(refusal) and "choose position=" in str(refusal)
            with pytest.raises(UserError):
                build_model(cfg, device="meta")


def test_hooks_that_an_attention_does_not_call(monkeypatch):
    from ablate.model.attention import Attention

    monkeypatch.setattr(Attention, "supports", frozenset())
    with pytest.raises(UserError) as caught:
        check_parts(compose(["position=rope"]))
    assert str(caught.value).startswith("position=rope needs the hook 'rotate', which attention=full does not support")
    assert "choose position=learned or none or sinusoidal" in str(caught.value)


def test_an_order_that_an_attention_cannot_keep(monkeypatch):
    from ablate.model.attention import Attention

    monkeypatch.setattr(Attention, "mask_orders", frozenset({"full"}))
    with pytest.raises(UserError, match="attention=full cannot keep the causal order of the decoder"):
        check_parts(compose())


def test_what_a_class_does_not_say_of_itself_is_named(monkeypatch):
    from ablate.model.norm import Norm
    from ablate.model.position import Position

    monkeypatch.delattr(Norm, "uses_batch_statistics")
    monkeypatch.delattr(Position, "shared_by")
    with pytest.raises(UserError) as caught:
        check_parts(compose(["position=rope"]))
    norm, position = str(caught.value).splitlines()
    assert norm == (
        "norm=layernorm: ablate.model.norm.LayerNorm has no uses_batch_statistics; "
        "inherit ablate.model.norm.Norm, or declare it"
    )
    assert position.startswith("position=rope: ablate.model.position.Rotary has no shared_by")


def test_an_objective_and_a_topology_are_compared_by_the_fields_of_a_batch(monkeypatch):
    from ablate.data.objective import Causal

    with pytest.raises(UserError) as caught:
        check_parts(compose(["objective=causal"]))
    assert str(caught.value) == (
        "objective=causal does not fit topology=encoder_decoder, which reads decoder_ids and encoder_ids and is "
        "trained on prefix or span_corruption; choose topology=causal_decoder"
    )
    monkeypatch.setattr(Causal, "gives", (frozenset({"decoder_ids"}), frozenset({"encoder_ids", "decoder_ids"})))
    check_parts(compose(["objective=causal"]))
