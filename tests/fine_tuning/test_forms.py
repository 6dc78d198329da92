"""Pairs as batches: only the answer is scored, padding changes nothing, a prompt is the beginning of its pair."""

import numpy as np
import pytest
import torch

from ablate.config import compose
from ablate.fine_tuning.encoding import Encoder
from ablate.fine_tuning.forms import Joined, Split, form_for
from ablate.tasks.example import Example
from tests.fine_tuning import tiny

PAIRS = [(np.array([5, 6, 7, 8, 1]), np.array([9, 1])), (np.array([10, 1]), np.array([11, 12, 13, 1]))]


@pytest.mark.parametrize("topology", tiny.TOPOLOGIES)
def test_the_loss_is_that_of_the_answers_alone(topology):
    """Padded together: the mean over the answers' tokens of the same numbers as one by one."""
    torch.manual_seed(0)
    model = tiny.model(compose([*tiny.SHAPE, *tiny.TOPOLOGIES[topology]]))
    form = form_for(model.topology.reads)
    with torch.no_grad():
        loss, nll = model.forward(form.training(PAIRS))
        alone, count = 0.0, 0
        for number, pair in enumerate(PAIRS):
            batch = form.training([pair])
            _, own = model.forward(batch)
            scored = batch["weights"][0] > 0
            assert scored.sum() == len(pair[1])
            assert batch["targets"][0][scored].tolist() == pair[1].tolist()
            together = form.training(PAIRS)["weights"][number] > 0
            assert torch.allclose(nll[number][together], own[0][scored], atol=1e-5)
            alone, count = alone + own[0][scored].sum().item(), count + len(pair[1])
    assert loss.item() == pytest.approx(alone / count, abs=1e-5)


def test_the_answer_is_read_behind_the_input():
    batch = Joined(0, has_prefix=True).training(PAIRS)
    assert batch["decoder_ids"].tolist() == [[0, 5, 6, 7, 8, 1, 9], [0, 10, 1, 11, 12, 13, 0]]
    assert batch["prefix_lengths"].tolist() == [6, 3]  # with the start symbol
    assert (batch["weights"] > 0).tolist() == [[False] * 5 + [True] * 2, [False] * 2 + [True] * 4 + [False]]
    assert batch["decoder_segments"].tolist() == [[1] * 7, [1] * 6 + [0]]
    assert batch["weights"].mean() == pytest.approx(1)
    assert "prefix_lengths" not in Joined(0, has_prefix=False).training(PAIRS)


def test_the_stacks_have_a_side_each():
    batch = Split(0).training(PAIRS)
    assert batch["encoder_ids"].tolist() == [[5, 6, 7, 8, 1], [10, 1, 0, 0, 0]]
    assert batch["decoder_ids"].tolist() == [[0, 9, 0, 0], [0, 11, 12, 13]]
    assert batch["targets"].tolist() == [[9, 1, 0, 0], [11, 12, 13, 1]]


@pytest.mark.parametrize("has_prefix", [True, False])
def test_a_prompt_is_what_training_reads_before_the_answer(has_prefix):
    form = Joined(0, has_prefix)
    prompt, whole = form.prompt([PAIRS[1][0]]), form.training([PAIRS[1]])
    length = prompt["decoder_ids"].shape[1]
    assert prompt["decoder_ids"].tolist() == whole["decoder_ids"][:, :length].tolist()
    assert prompt.get("prefix_lengths") == whole.get("prefix_lengths")


def test_what_is_too_long_loses_the_end_of_its_passage():
    tokenizer, layout = tiny.tokenizer()
    example = Example("x", "cb hypothesis: so premise: ", "neutral " * 40, " question: so", ("so premise: " * 9,) * 2)
    encoder = Encoder(tokenizer, layout.eos_id, 30, 4)
    (found,) = encoder.encode([example], "train")
    assert len(found.inputs) == 30 and found.inputs[-1] == layout.eos_id
    text = tokenizer.decode(found.inputs[:-1])
    assert text.startswith("cb hypothesis: so premise: neutral neutral") and text.endswith(" question: so")
    assert encoder.cut == {"train inputs": 1, "train targets": 2}
    assert all(len(target) == 4 and target[-1] == layout.eos_id for target in found.targets)
    short = Encoder(tokenizer, layout.eos_id, 400, 400)
    (whole,) = short.encode([example], "train")
    assert tokenizer.decode(whole.inputs[:-1]) == example.inputs and short.cut == {}
