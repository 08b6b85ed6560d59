"""Worker processes, which exchange lines of JSON with the suite.

A worker is a module with a ``main``. It reads JSON objects from standard input, one per line, and
writes its own with ``answers``. Everything that frameworks print goes to standard error.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

Message = dict[str, Any]

TIMEOUT = 3600.0
"""Default number of seconds without an answer after which a process is killed."""


class Worker:
    """A process that runs a module in this interpreter; a context manager that kills it.

    Args:
        module: The module's full name.
        *arguments: Its command line.
        environment: Environment variables, added to those of this process.
        timeout: Seconds without an answer after which it is killed. Default ``TIMEOUT``.
    """

    def __init__(
        self,
        module: str,
        *arguments: str,
        environment: Mapping[str, str],
        timeout: float = TIMEOUT,
    ) -> None:
        self._timeout, self._is_late = timeout, False
        self._ended = threading.Event()
        # Closed in __exit__.
        self._stderr = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        )
        self._heard()
        threading.Thread(target=self._watch, daemon=True).start()

    def tell(self, message: Any) -> None:
        """Write a line of JSON to its standard input; if it has died, ``death`` says why."""
        assert self._process.stdin is not None
        self._heard()
        with suppress(BrokenPipeError):
            print(json.dumps(message), file=self._process.stdin, flush=True)

    def answers(self) -> Iterator[Message]:
        """Yield its answers until it exits."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._heard()
            yield json.loads(line)

    @property
    def is_late(self) -> bool:
        """Whether it was killed because it did not answer in time."""
        return self._is_late

    def death(self) -> str | None:
        """Wait for the process to exit; return why it died, or None if it ended normally."""
        code = self._process.wait()
        if not code:
            return None
        how = f"exit code {code}" if code > 0 else f"signal {-code}"
        said = f"its process died with {how}"
        if self._is_late:
            said = f"its process was ended after {self._timeout:g} s without an answer"
        self._stderr.seek(0)
        lines = [line for line in self._stderr.read().splitlines() if line.strip()]
        return ": ".join([said, *lines[-1:]])

    def end(self) -> None:
        """Kill the process if it is still running; may be called from another thread."""
        self._ended.set()
        self._process.kill()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        # Waits, and closes the pipes; unread answers are lost.
        with suppress(BrokenPipeError):
            self._process.__exit__(None, None, None)
        self._stderr.close()

    def _heard(self) -> None:
        self._deadline = time.monotonic() + self._timeout

    def _watch(self) -> None:
        while (left := self._deadline - time.monotonic()) > 0:
            if self._ended.wait(left):
                return
        self._is_late = True
        self._process.kill()


def answers() -> Callable[[Message], None]:
    """Return a function that writes a line of JSON to standard output; for a worker's ``main``.

    From then on, everything else that is printed to standard output goes to standard error.
    """
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def say(message: Message) -> None:
        print(json.dumps(message), file=channel)

    return say
