"""With `data.document_mask` no document changes the outputs of another, whatever the options; or they are refused."""

from __future__ import annotations

import pytest
import torch

from ablate.config import build_model
from ablate.config.composing import compose_resolved, restored
from ablate.errors import UserError
from ablate.model.contract import CAUSAL, FULL, View
from tests.model.test_options import OPTIONS, SWITCHES, TOPOLOGIES, awake
from tests.model.tiny import batch_for, overrides

CAN_MIX = {  # what is refused because of documents alone, in some topology
    "norm=batchnorm", "norm=batchnorm_encoder", "feedforward=mixture_of_experts", "feedforward=switch", "stack=funnel",
    "attention=lightweight_convolution", "attention=dynamic_convolution", "block=evolved",
}  # fmt: skip


def built(option, topology, document_mask):
    """The tiny model; None where the combination is refused."""
    given = [f"topology={topology}", f"data.document_mask={document_mask}", *option.split("|")]
    try:
        return build_model(restored(compose_resolved(overrides(*given))))  # resolved: half the time for a check
    except UserError:
        return None


def scored(model, batch):
    """What is known of each token in the end: its hidden state and its likelihood, (B,T,...) each."""
    torch.manual_seed(0)  # where a router draws
    with torch.no_grad():
        hidden, _ = model.topology(batch)
        return hidden, model.head(hidden, batch["targets"], batch["weights"])[1].view(hidden.shape[:2])


def scored_at_once(model, batches):
    """What `scored` gives of each batch, by one pass over the rows of all."""
    rows = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
    return list(zip(*(result.chunk(len(batches)) for result in scored(model, rows)), strict=True))


def changed(batch, document):
    """The batch with other ids in one document of each row, in whatever stack."""
    ids = {
        name: torch.where(batch[name.replace("_ids", "_segments")] == document, (tensor + 7) % 160 + 2, tensor)
        for name, tensor in batch.items()
        if name.endswith("_ids")
    }
    return {**batch, **ids}


def check_documents(model, scored_each=scored_at_once):
    batch = batch_for(model, padded=True)
    segments = batch[f"{model.topology.scored}_segments"]
    before, *after = scored_each(model, [batch, changed(batch, 1), changed(batch, 2)])
    for (document, other), now in zip([(1, 2), (2, 1)], after, strict=True):
        assert not torch.equal(now[0][segments == document], before[0][segments == document])
        for new, old in zip(now, before, strict=True):
            torch.testing.assert_close(new[segments == other], old[segments == other], atol=1e-5, rtol=0)


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("option", [*OPTIONS, *SWITCHES])
def test_documents_do_not_see_each_other(option, topology):
    model = built(option, topology, document_mask=True)
    if model is None:
        assert option.partition("|")[0] in CAN_MIX or built(option, topology, document_mask=False) is None
        return
    awake(model)
    for mode in (model.train, model.eval):
        mode()
        if "dropout" not in option:
            check_documents(model)


@pytest.mark.parametrize("option", ["feedforward=mixture_of_experts", "feedforward=switch"])
def test_what_is_refused_does_mix(option):
    """Experts with few places, which the tokens of all documents compete for."""
    places = [f"feedforward.experts.capacity.{stack}.train=0.25" for stack in ("encoder", "decoder")]
    model = built("|".join([option, *places, "feedforward.experts.min_capacity=1"]), "causal_decoder", False)
    with pytest.raises(AssertionError):  # alone: in one pass the rows compete, too
        check_documents(awake(model).train(), lambda model, batches: [scored(model, batch) for batch in batches])


def test_documents_are_no_plain_triangle():
    """Of which a fused kernel on a GPU is told by a flag, without a mask."""
    ids = torch.zeros(1, 4, dtype=torch.long)
    assert View(ids, CAUSAL).is_causal and not View(ids, FULL).is_causal
    assert not View(ids, CAUSAL, segments=torch.tensor([[1, 1, 2, 2]])).is_causal
