"""Each contestant does the same work as ours: equal losses and gradients with equal weights."""

from __future__ import annotations

import importlib
import sys

import pytest
import torch

from benchmarks.contestants import comparison, roster, sources, weights
from benchmarks.contestants.work import STANDARD, batch, quick

pytest.importorskip("transformers")
pytest.importorskip("x_transformers")

PEERS = [
    (family, contestant)
    for family, contestants in roster.FAMILIES.items()
    for contestant in contestants
    if contestant.name != roster.OURS
]


def loss_and_norm(family, contestant):
    """Of the first batch: the loss, and the norm of the gradient."""
    work = quick(STANDARD[family])
    module = importlib.import_module(f"benchmarks.contestants.{contestant.module}")
    made = module.make(work, weights.draw(work), **contestant.options)
    loss = made.loss(batch(work, 0))
    loss.backward()
    parameters = list(made.model.parameters())
    assert all(parameter.grad is not None for parameter in parameters)
    return loss.item(), torch.nn.utils.get_total_norm([parameter.grad for parameter in parameters]).item()


@pytest.mark.parametrize("family, contestant", PEERS, ids=[f"{family}: {one.name}" for family, one in PEERS])
def test_equal_losses(family, contestant, monkeypatch):
    if contestant in comparison.present(family)[1]:
        pytest.skip(f"`{sources.COMMAND}` has not been run")
    monkeypatch.setattr(sys, "path", [*sys.path, str(sources.FOLDER / contestant.package)])
    ours, our_norm = loss_and_norm(family, roster.find(family, roster.OURS))
    theirs, norm = loss_and_norm(family, contestant)
    if contestant.other_work:
        assert abs(ours - theirs) > 100 * comparison.TOLERANCE, "it may as well be held to ours"
        return
    assert theirs == pytest.approx(ours, abs=comparison.TOLERANCE / 2)
    if not contestant.converted:
        assert norm == pytest.approx(our_norm, rel=1e-4)


def test_every_family_has_ours_first_and_names_that_differ():
    for contestants in roster.FAMILIES.values():
        names = [contestant.name for contestant in contestants]
        assert names[0] == roster.OURS and len(set(names)) == len(names)
    assert roster.FAMILIES.keys() == STANDARD.keys()


def test_batches_are_drawn_by_number():
    work = quick(STANDARD["t5"])
    first, again, second = batch(work, 0), batch(work, 0), batch(work, 1)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["encoder_ids"], second["encoder_ids"])
    assert torch.equal(first["decoder_ids"][:, 1:], first["targets"][:, :-1]) and not first["decoder_ids"][:, 0].any()
    causal = batch(quick(STANDARD["llama"]), 0)
    assert torch.equal(causal["decoder_ids"][:, 1:], causal["targets"][:, :-1])
