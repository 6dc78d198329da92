"""The verbs of the command `ablate`, a module each, imported only when it is called."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ablate.errors import UserError, disk_error, nearest, print_error
from ablate.termination import Terminated, exit_code, raise_terminated, requests

VERBS = {
    "train": "train one configuration into one run folder",
    "sweep": "run every row of a sweep and write its report",
    "compare": "train a baseline and changes to it, without a sweep file, and report",
    "plan": "say what a sweep would run, how long it takes, what it can detect",
    "status": "say which runs of a sweep are done, running or missing",
    "evaluate": "score finished runs on the weights that they kept",
    "report": "write a sweep's report from its records",
    "transfer": "say whether changes carry over from one context to others",
    "forecast": "foresee the next size of a sweep before it runs",
    "cost": "count parameters and operations without allocating",
    "profile": "say what a training step spends its time on, by class of operators",
    "export": "write a finished run as the folder that transformers loads",
    "data": "prepare or check a corpus",
    "options": "list every group and what can be chosen in it",
    "diff": "say in which settings two runs differ",
    "init": "write a sweep file to begin with",
    "completion": "print the script by which a shell completes all this",
}
HIDDEN = ("complete",)  # what the shell's completion asks; whatever its words, they are not for it

FAILED = 1  # the exit code where the command was right and could not be carried out

HELP = f"""Which architectural change is worth having, and how sure are we?

usage: ablate VERB [arguments]        `ablate VERB --help` says more

{chr(10).join(f"  {verb:11} {does}" for verb, does in VERBS.items())}

A variant is a list of overrides against the baseline:
  ablate train norm=rmsnorm activation=swiglu shape=nano
  ablate sweep axes jobs=2
  ablate compare norm=rmsnorm 'activation=swiglu bias=none'
  ablate cost shape=paper position=rope

The TAB key completes all this after  source <(ablate completion bash)  (zsh and fish: `ablate completion --help`).
"""


def run(arguments: list[str]) -> int:
    """Run one verb; each mistake of the user is printed in a line, without traceback, and gives exit code 2."""
    try:
        with _terminable():
            return _dispatch(arguments)
    except UserError as error:
        if os.environ.get("ABLATE_TRACEBACK"):
            raise
        print_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        print_error("interrupted")
        return 130
    except Terminated:
        print_error("terminated")
        return exit_code(signal.SIGTERM)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `ablate options | head` is fine
        return 0
    except OSError as error:  # a place that cannot be read or written; a full disk
        if os.environ.get("ABLATE_TRACEBACK") or (error.filename is None and not disk_error(error)):
            raise
        if line := disk_error(error):
            print_error(line)
            return FAILED
        print_error(f"{error.filename}: {error.strerror}")
        return UserError.exit_code


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind the stack, which clears away what was begun; verbs that save take over."""
    numbers = set(requests()) - {signal.SIGINT} if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.signal(number, raise_terminated) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if arguments[0] == "--version":
        import ablate

        print(ablate.__version__)
        return 0
    verb, *rest = arguments
    if verb not in (*VERBS, *HIDDEN):
        raise UserError(f"{verb}: unknown verb{nearest(verb, VERBS)} ({', '.join(VERBS)})")
    module = importlib.import_module(f"ablate.cli.{verb}")
    if verb not in HIDDEN and any(argument in ("-h", "--help") for argument in rest):
        print(module.HELP, end="")
        return 0
    code: int = module.run(rest)
    sys.stdout.flush()
    return code
