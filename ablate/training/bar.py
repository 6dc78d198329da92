"""The bar of a run in a terminal: how far it is, its latest loss and the time left."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from ablate.training.metrics import progress_line

if TYPE_CHECKING:
    from rich.progress import Progress


class Bar:
    """A last line that each `show` replaces, below whatever is printed meanwhile; nothing where `out` is no terminal.

    It is drawn by the process that trains, between steps, when that says that it is alive.
    """

    def __init__(self, steps: int, out: TextIO | None = None, *, is_wanted: bool = True) -> None:
        self.steps = steps
        self.progress: Progress | None = None
        out = out or sys.stdout
        if not (is_wanted and out.isatty()):
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        console = Console(file=out)
        if not console.is_dumb_terminal:
            texts = [TextColumn(f"{{task.fields[{name}]}}", markup=False) for name in ("phase", "line")]
            self.progress = Progress(
                texts[0], BarColumn(16), texts[1], console=console, auto_refresh=False, transient=True
            )
            self.task = self.progress.add_task("", total=steps, phase="starting", line="")

    def __enter__(self) -> Bar:
        if self.progress:
            self._draw(self.progress.start)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    @property
    def is_shown(self) -> bool:
        """Whether there is a terminal that it is drawn in."""
        return self.progress is not None

    def show(self, phase: str, step: int, loss: float | None, steps_per_second: float | None) -> None:
        """Draw it as it is after `step`; a terminal that is gone ends it, and nothing else."""
        if self.progress:
            line = progress_line(step, self.steps, loss, steps_per_second)
            self.progress.update(self.task, completed=step, phase=phase, line=line)
            self._draw(self.progress.refresh)

    def _draw(self, draw: Callable[[], None]) -> None:
        try:
            draw()
        except OSError:
            self._stop()

    def _stop(self) -> None:
        if self.progress:
            progress, self.progress = self.progress, None
            with contextlib.suppress(OSError):
                progress.stop()
