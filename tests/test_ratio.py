"""Parts of whole numbers."""

import pytest

from ablate.errors import UserError
from ablate.ratio import ratio_of


@pytest.mark.parametrize(
    ("ratio", "whole", "least", "part"),
    [
        ("2/3", 3072, 0, 2048),
        (0.5, 6, 3, 3),  # the least itself is allowed
        ("0.5", 6.0, 0, 3),
        (2, 5, 0, 10),
        ("0", 5, 0, 0),
        (0.1, 30, 0, 3),  # as it is written, not as it is in binary
    ],
)
def test_a_part(ratio, whole, least, part):
    found = ratio_of(ratio, whole, "shape.d_ff", least=least)
    assert found == part and type(found) is int


@pytest.mark.parametrize(
    ("ratio", "whole", "message"),
    [
        ("1/3", 4, "1/3 of shape.d_ff = 4 is 1.33333, and must be whole"),
        ("x", 4, "shape.d_ff: 'x' is not a ratio such as 2/3 or 0.5"),
        ("1/0", 4, "shape.d_ff: '1/0' is not a ratio such as 2/3 or 0.5"),
        (0.5, 2, "0.5 of shape.d_ff = 2 is 1, and must be at least 2"),
    ],
)
def test_refusals(ratio, whole, message):
    with pytest.raises(UserError) as caught:
        ratio_of(ratio, whole, "shape.d_ff", least=2)
    assert str(caught.value) == message
