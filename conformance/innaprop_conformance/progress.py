"""Progress: bars on a terminal, otherwise a plain line every half minute."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

EVERY = 30.0
"""Seconds between two lines if there is no terminal."""


@contextmanager
def progress_bars(console: Console, every: float = EVERY) -> Iterator[Progress]:
    """Show the progress of every task while the context is active.

    Args:
        console: Where to show it.
        every: Seconds between two lines if the console is not a terminal. Default ``EVERY``.
    """
    progress = Progress(
        TextColumn("{task.description:<18}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    with progress:
        if console.is_terminal:
            yield progress
            return
        is_over = threading.Event()
        begun = time.monotonic()

        def tell() -> None:
            while not is_over.wait(every):
                console.print(
                    f"{time.monotonic() - begun:.0f} s: {_so_far(progress)}",
                    markup=False,
                    highlight=False,
                    soft_wrap=True,
                )

        thread = threading.Thread(target=tell, daemon=True)
        thread.start()
        try:
            yield progress
        finally:
            is_over.set()
            thread.join()


def _so_far(progress: Progress) -> str:
    """Return how much of all is done, and the progress of the running tasks."""
    tasks = progress.tasks
    done, total = sum(t.completed for t in tasks), sum(t.total or 0 for t in tasks)
    working = [
        f"{t.description} {t.completed:.0f}/{t.total or 0:.0f}"
        for t in tasks
        if t.started and not t.finished
    ]
    return ", ".join([f"{done:.0f} of {total:.0f} done", *working])
