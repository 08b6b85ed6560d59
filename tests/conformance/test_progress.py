"""Without a terminal, progress is printed as a line at regular intervals."""

import io
import threading

from rich.console import Console

from innaprop_conformance.progress import progress_bars


class Screen(io.StringIO):
    """A stream that signals when a text has been written."""

    def __init__(self, text):
        super().__init__()
        self.text, self.is_there = text, threading.Event()

    def write(self, text):
        written = super().write(text)
        if self.text in self.getvalue():
            self.is_there.set()
        return written


def test_a_line_now_and_then():
    screen = Screen("\n")
    with progress_bars(Console(file=screen, width=40), every=0.01) as progress:
        one = progress.add_task("one", total=3, start=False)
        progress.add_task("two", total=4, start=False)
        progress.start_task(one)
        progress.update(one, completed=2)
        screen.text = "2 of 7 done, one 2/3\n"
        assert screen.is_there.wait(60)
    assert "━" not in screen.getvalue()


def test_nothing_where_nothing_is_to_be_seen():
    screen = Screen("done")
    with progress_bars(Console(file=screen, quiet=True), every=0.01) as progress:
        progress.add_task("one", total=3)
        assert not screen.is_there.wait(0.1)
    assert screen.getvalue() == ""


def test_bars_on_a_terminal_and_no_lines():
    screen = Screen("done")
    console = Console(file=screen, force_terminal=True)
    with progress_bars(console, every=0.01) as progress:
        progress.add_task("one", total=3, completed=3)
        assert not screen.is_there.wait(0.1)
    assert "━" in screen.getvalue()
