"""How the command speaks of mistakes."""

from ablate.errors import UserError, nearest, print_error
from ablate.run.lock import Busy


def test_each_line_of_a_mistake_is_the_commands_own(capsys):
    print_error(UserError("norm=x: unknown\nand more").of("sweep", "row"))
    assert capsys.readouterr().err == "ablate: sweep: row: norm=x: unknown\nablate: sweep: row: and more\n"


def test_exit_codes():
    assert (UserError.exit_code, Busy.exit_code) == (2, 75)


def test_the_nearest_word_is_offered():
    assert nearest("Norm", ["nrom", "norm"]) == "; did you mean 'norm'?" and nearest("x", ["norm"]) == ""
