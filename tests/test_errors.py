"""How the command speaks of mistakes."""

import errno
import os

import pytest

from ablate.errors import UserError, disk_error, nearest, print_error
from ablate.run.lock import Busy


def test_each_line_of_a_mistake_is_the_commands_own(capsys):
    print_error(UserError("norm=x: unknown\nand more").of("sweep", "row"))
    assert capsys.readouterr().err == "ablate: sweep: row: norm=x: unknown\nablate: sweep: row: and more\n"


def test_exit_codes():
    assert (UserError.exit_code, Busy.exit_code) == (2, 75)


def test_the_nearest_word_is_offered():
    assert nearest("Norm", ["nrom", "norm"]) == "; did you mean 'norm'?" and nearest("x", ["norm"]) == ""


@pytest.mark.parametrize(
    "number, words",
    [
        (errno.ENOSPC, "the file system at / has no room left ("),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
        (errno.EIO, "input/output error"),
        (errno.EACCES, "no permission"),
        (errno.EPERM, "does not allow"),
        (errno.EFBIG, "ulimit -f"),
    ],
)
def test_what_a_disk_refuses_is_a_line_that_names_the_place(number, words, monkeypatch):
    monkeypatch.setattr(os.path, "ismount", lambda path: str(path) == "/")
    error = OSError(number, os.strerror(number), "/no/such/file")
    assert disk_error(error).startswith("/no/such/file: ") and words in disk_error(error)
    said = disk_error(error, "runs/a")
    assert said.startswith("runs/a: ") and words in said and "\n" not in said


def test_an_error_raised_while_one_of_the_disk_is_handled_is_the_disks():
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        finally:
            raise RuntimeError("unexpected pos 704 vs 598")
    except RuntimeError as error:
        assert "has no room left" in disk_error(error, "runs/a")


@pytest.mark.parametrize("error", [FileNotFoundError(errno.ENOENT, "no such file", "x"), ValueError("x"), OSError("x")])
def test_other_errors_are_not_the_disks(error):
    assert disk_error(error) == ""


def test_the_disk_is_named_by_where_it_is_mounted():
    assert "the file system at /proc is mounted read-only" in disk_error(OSError(errno.EROFS, "", "/proc/x/y"))
