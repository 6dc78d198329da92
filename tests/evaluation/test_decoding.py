"""Greedy and beam search: the outputs of the authors' library, and what must hold of any model."""

import numpy as np
import pytest
import torch

from ablate.config import build_model, compose
from ablate.errors import UserError
from ablate.evaluation.decoding import beam_search, greedy
from ablate.model.reading import reader_of
from tests.golden.names import GOLDEN, TOY, Golden

STORED = np.load(GOLDEN / "decoding_untied.npz")
LENGTH = 16


@pytest.fixture(scope="module")
def untied():
    model = build_model(compose([*TOY, "embedding.tie=[]"]))
    Golden("untied_embeddings").load(model)
    with torch.no_grad():
        model.head.projection.weight.copy_(torch.from_numpy(STORED["logits_kernel"]).T)
    return model


def inputs():
    ids = torch.from_numpy(STORED["inputs"]).long()
    return {"encoder_ids": ids, "encoder_segments": (ids != 0).long()}


def test_greedy_as_the_library(untied):
    theirs = torch.from_numpy(STORED["beam1_alpha0.0"]).long()
    behind_end = (theirs == 1).cumsum(1) - (theirs == 1).long() > 0  # where it goes on for the sake of others
    assert torch.equal(greedy(untied, inputs(), LENGTH), theirs.masked_fill(behind_end, 0))


@pytest.mark.parametrize("name", sorted(name for name in STORED.files if name.startswith("beam")))
def test_beams_as_the_library(untied, name):
    beams, alpha = int(name[4]), float(name.partition("alpha")[2])
    ours = beam_search(untied, inputs(), LENGTH, beams=beams, alpha=alpha)
    np.testing.assert_array_equal(ours.numpy(), STORED[name])


def likelihood(model, batch, written):
    """log p(written | inputs) of each example, up to its end."""
    decoder_ids = torch.nn.functional.pad(written, (1, 0))[:, :-1]
    ended = ((written == 1).cumsum(1) - (written == 1).long()) > 0
    target = {"decoder_ids": decoder_ids, "decoder_segments": torch.ones_like(written), "targets": written}
    with torch.no_grad():
        _, nll = model.eval()({**batch, **target})
    return -(nll * ~ended).sum(1)


def test_more_beams_find_what_is_likelier(untied):
    """With alpha 0 the score is the likelihood itself; no single example must gain, all together do."""
    by_width = [likelihood(untied, inputs(), greedy(untied, inputs(), LENGTH))]
    by_width += [
        likelihood(untied, inputs(), beam_search(untied, inputs(), LENGTH, beams=n, alpha=0.0)) for n in (2, 4)
    ]
    assert by_width[0].sum() < by_width[1].sum() < by_width[2].sum()


ROWS = [
    [], ["stack=funnel"], ["stack=transparent"], ["head=adaptive_softmax"], ["head=mixture_of_softmaxes"],
    ["attention=lightweight_convolution"], ["attention=synthesizer_random"], ["block=evolved"], ["position=learned"],
    ["position=rope"], ["feedforward=product_key_memory"], ["attention=weighted"],
    ["stack=universal", "residual=gated"],
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=" ".join)
def test_token_by_token_as_all_at_once(row):
    """What follows a beginning is as likely as where the whole text is scored in one pass, for every beam's copy."""
    torch.manual_seed(0)
    model = build_model(compose(["shape.vocab_size=256", "shape.n_layers=6", *row])).eval()
    ids, text = torch.randint(2, 256, (3, 64)), torch.randint(2, 256, (3, 9))
    ids[1, 40:] = 0
    batch = {"encoder_ids": ids, "encoder_segments": (ids != 0).long()}
    beginning = torch.nn.functional.pad(text, (1, 0))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        target = {"decoder_ids": beginning, "decoder_segments": torch.ones_like(beginning)}
        at_once = model.logits({**batch, **target}).log_softmax(-1)
        for keep_keys in (True, False):
            reader = reader_of(model, keep_keys=keep_keys)
            hidden, state = reader.read({**batch, "decoder_ids": beginning[:, :1]})
            state, hidden = state.repeated(2), hidden.repeat_interleave(2, 0)
            for written in range(1, 10):
                found = reader.logits(hidden)[:, 0].log_softmax(-1)
                torch.testing.assert_close(found[::2], at_once[:, written - 1], atol=1e-4, rtol=1e-4)
                torch.testing.assert_close(found[::2], found[1::2])
                hidden, state = reader.extend(state, beginning[:, written : written + 1].repeat_interleave(2, 0))


def test_ends_with_zeros_and_leaves_the_mode():
    model = build_model(compose(TOY)).train()
    batch = {"encoder_ids": torch.randint(2, 64, (2, 32))}
    for end in range(2, 64):  # whatever it writes is an end at one of these
        for written in (greedy(model, batch, 5, end=end), beam_search(model, batch, 5, beams=3, alpha=0.6, end=end)):
            assert written.shape == (2, 5)
            ended = ((written == end).cumsum(1) - (written == end).long()) > 0
            assert not written[ended].any()
    assert model.training


def test_an_encoder_alone_is_refused():
    model = build_model(compose([*TOY, "topology=encoder"]))
    with pytest.raises(UserError, match="topology=encoder_decoder, causal_decoder or prefix_decoder"):
        greedy(model, {"encoder_ids": torch.ones(1, 4, dtype=torch.long)}, 3)
