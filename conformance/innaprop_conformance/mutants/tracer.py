"""Records which lines of some folders are executed, in this process and in those that it starts.

A copy of this file on ``PYTHONPATH`` is named ``sitecustomize``, which every Python imports at its
start. So it must not import the suite. Every line is written at once, since processes may be
killed.
"""

import os
import sys
import threading
from types import CodeType, FrameType
from typing import Any

FOLDER, ROOTS = "INNAPROP_TRACE", "INNAPROP_TRACE_ROOTS"
"""Environment variables: the folder to write to, and the folders whose lines are recorded."""


def begin(folder: str, roots: tuple[str, ...]) -> None:
    """Record lines from now on.

    Args:
        folder: Folder in which every process writes a file with lines "PATH<tab>LINE".
        roots: Folders, with a separator at the end.
    """
    name = os.path.join(folder, f"{os.getpid()}-{os.urandom(4).hex()}")
    out = os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    seen: set[tuple[CodeType, int]] = set()

    def note(code: CodeType, line: int) -> None:
        if line and (code, line) not in seen:
            seen.add((code, line))
            os.write(out, f"{os.path.abspath(code.co_filename)}\t{line}\n".encode())

    def on_line(frame: FrameType, event: str, _: Any) -> Any:
        if event == "line":
            note(frame.f_code, frame.f_lineno)
        return on_line

    def on_call(frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(roots):
            return None
        note(frame.f_code, frame.f_lineno)
        return on_line

    threading.settrace(on_call)
    sys.settrace(on_call)


if __name__ == "sitecustomize" and FOLDER in os.environ:
    begin(os.environ[FOLDER], tuple(os.environ[ROOTS].split(os.pathsep)))
