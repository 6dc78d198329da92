"""`ablate completion bash|zsh|fish`: the script by which a shell completes the command."""

from __future__ import annotations

from pathlib import Path

from ablate.cli import arguments
from ablate.errors import UserError, nearest

HELP = """Print the script by which a shell completes verbs, flags, groups, options and sweeps at the TAB key.

usage: ablate completion bash|zsh|fish

  ablate completion bash       in ~/.bashrc:  source <(ablate completion bash)
  ablate completion zsh        in ~/.zshrc, after compinit:  source <(ablate completion zsh)
  ablate completion fish       in ~/.config/fish/config.fish:  ablate completion fish | source
"""
SHELLS = ("bash", "zsh", "fish")
TEMPLATES = Path(__file__).parent / "templates"


def run(words: list[str]) -> int:
    """Print the script."""
    shell = arguments.one_name(arguments.sort(words), "shell (bash, zsh or fish)", "ablate completion")
    if shell not in SHELLS:
        raise UserError(f"completion {shell}: must be one of {', '.join(SHELLS)}{nearest(shell, SHELLS)}")
    print((TEMPLATES / f"completion.{shell}").read_text(encoding="utf-8"), end="")
    return 0
