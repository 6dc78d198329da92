"""Names of sweeps, and labels as names of folders."""

import pytest

from ablate.errors import UserError
from ablate.naming import check_sweep_name, is_sweep_name, slug


@pytest.mark.parametrize("name", ["a", "axes-c4", "norm=rms_norm.v2", "-", "x" * 100])
def test_a_sweeps_name(name):
    assert is_sweep_name(name)
    check_sweep_name(name)


@pytest.mark.parametrize("name", ["", ".a", "..", "a/b", "a b", "ä", "a\n", "x" * 101])
def test_no_sweeps_name(name):
    assert not is_sweep_name(name)
    with pytest.raises(UserError, match="a sweep's name has 1 to 100 letters"):
        check_sweep_name(name)


@pytest.mark.parametrize(
    ("label", "folder"),
    [
        ("rmsnorm", "rmsnorm"),
        ("norm=rms_norm.v2", "norm=rms_norm.v2"),
        ("x" * 100, "x" * 100),
        ("RMS Norm", "rms-norm-a9745a"),
        ("..", "row-5ec1f7"),
        ("日本", "row-cf2abf"),
    ],
)
def test_a_label_as_a_folder(label, folder):
    """These names are on disk: a change here loses the runs that are there."""
    assert slug(label) == folder


def test_labels_never_share_a_folder():
    labels = ["a", "A", "a ", "a.", " a", "-a", "a-", "x" * 100, "x" * 101, "x" * 102, slug("A"), slug("x" * 101), "ä"]
    folders = [slug(label) for label in labels]
    assert len(set(folders)) == len(labels)
    assert max(map(len, folders)) <= 100
