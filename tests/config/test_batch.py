"""How a global batch is shared."""

import pytest

from ablate.config.batch import Share, share_by
from ablate.errors import UserError

ASKED = {"trainer.global_batch_tokens": 768, "objective.length": 32, "trainer.devices": 2, "trainer.nodes": 2}


def shared(micro=None, **changes):
    known = {
        **ASKED,
        "trainer.micro_batch": micro,
        **{key.replace("_", ".", 1): value for key, value in changes.items()},
    }
    return share_by(known.get)


def test_a_batch_is_shared_by_devices_nodes_and_micro_batches():
    assert shared() == Share(sequences=24, ranks=4, accumulation=1)
    share = shared(2)
    assert (share.ranks, share.accumulation, share.count, share.micro_batch) == (4, 3, 12, 2)
    assert [list(share.slices(rank)) for rank in range(4)] == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]


@pytest.mark.parametrize(
    ("changes", "line"),  # BATCH is the key of the tokens
    [
        (
            {"trainer_global_batch_tokens": 769},
            "BATCH=769 must be a multiple of objective.length=32",
        ),
        (
            {"trainer_devices": 5},
            "BATCH=768 makes 24 sequences, which 10 devices cannot share equally",
        ),
        ({"micro": 4}, "trainer.micro_batch=4 does not divide the 6 sequences that each device has"),
        ({"micro": 12}, "trainer.micro_batch=12 does not divide the 6 sequences that each device has"),
        ({"micro": 0}, "trainer.micro_batch=0: must be a whole number, 1 or more"),
        ({"trainer_nodes": True}, "trainer.nodes=True: must be a whole number, 1 or more"),
        ({"trainer_devices": 0}, "trainer.devices=0: must be a whole number, 1 or more"),
        ({"objective_length": 32.0}, "objective.length=32.0: must be a whole number, 1 or more"),
        ({"trainer_global_batch_tokens": None}, "trainer.global_batch_tokens=None: must be a whole number, 1 or more"),
    ],
)
def test_what_does_not_come_out_is_refused_with_the_numbers(changes, line):
    with pytest.raises(UserError) as caught:
        shared(**changes)
    assert str(caught.value) == line.replace("BATCH", "trainer.global_batch_tokens")
