"""The suite as the judge of mutants."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from innaprop_conformance.backends import Backend
from innaprop_conformance.faults.run import UPDATES
from innaprop_conformance.mutants.mutant import Mutant
from innaprop_conformance.mutants.reach import Lines, places_of, traced
from innaprop_conformance.processes import Message, Worker

MODULE = "innaprop_conformance.mutants.worker"
GRACE = 120.0
"""Seconds that a process may take to start, and for the case that it is at when time is up."""
FOLLOWED = 4
"""Updates of a case that are followed to see which lines are run."""
TOGETHER = 50
"""Mutants of one process: frameworks keep something of every adapter that they have met."""
Note = Callable[[Mutant, str, dict[str, Any]], None]
"""Takes a mutant, a backend, and what came of it."""


def reach_of(name: str, backend: type[Backend], packages: frozenset[str]) -> Lines:
    """Return which lines a backend comes by when it follows a case or two of each family.

    Args:
        name: Of the backend.
        backend: Its class.
        packages: Those whose lines are wanted.

    Raises:
        RuntimeError: Its process died.
    """
    with traced(places_of(packages)) as trace:
        environment = {**backend.environment, **trace.environment}
        with Worker(MODULE, environment=environment) as worker:
            worker.tell({"backend": name, "updates": FOLLOWED, "truths": None})
            worker.tell({"follow": FOLLOWED})
            if next(worker.answers(), None) is None:
                raise RuntimeError(f"{name}: {worker.death()}")
        return trace.lines()


class SuiteJudge:
    """Asks one backend after another about mutants, with its framework loaded once.

    Cases that have caught most until now come first.

    Args:
        truths: A folder where ground truths are kept; None if there is none.
        cache: A folder for what mutants compile.
        seconds: After which no other case is begun for a mutant.
        jobs: Processes at a time.
        grace: Seconds more, after which the process is ended. Default ``GRACE``.
    """

    def __init__(
        self, truths: Path | None, cache: Path, seconds: float, jobs: int, grace: float = GRACE
    ) -> None:
        self._truths, self._cache = truths, cache
        self._seconds, self._jobs, self._limit = seconds, jobs, seconds + grace
        self._caught: Counter[str] = Counter()

    def ask(
        self, name: str, environment: Mapping[str, str], mutants: Sequence[Mutant], note: Note
    ) -> None:
        """Ask one backend about mutants.

        Args:
            name: Of the backend.
            environment: Variables of its process.
            mutants: Those to ask about.
            note: Is called, from one thread at a time, with what came of each: "caught", a text
                or None, "case", "follows", which is False if it raised, died or hung, "late", a
                text or None, and "seconds".
        """
        queue: SimpleQueue[Mutant] = SimpleQueue()
        for mutant in mutants:
            queue.put(mutant)
        lock = threading.Lock()
        environment = {"INNAPROP_CACHE": str(self._cache), **environment}

        def work() -> None:
            asked = _Asked(name, environment, self._truths)
            try:
                while True:
                    mutant = queue.get_nowait()
                    outcome = self._one(asked, name, mutant)
                    with lock:
                        note(mutant, name, outcome)
            except Empty:
                pass
            finally:
                asked.end()

        with ThreadPoolExecutor(self._jobs) as pool:
            for future in [pool.submit(work) for _ in range(min(self._jobs, len(mutants)))]:
                future.result()

    def _one(self, asked: "_Asked", name: str, mutant: Mutant) -> dict[str, Any]:
        begin = time.monotonic()
        fault = mutant.fault(name).as_dict()
        answer: Message = {}
        for _ in range(2):
            fault["cases"] = [case for case, _ in self._caught.most_common(10)]
            answer = asked.ask({"fault": fault, "seconds": self._seconds}, self._limit)
            if not answer.get("unwell"):
                break
            # What an earlier mutant has left in the framework may have caught this one.
            asked.end()
        catch = answer.get("catch")
        if catch and catch["case"]:
            self._caught[catch["case"]] += 1
        return {
            "caught": answer.get("died") or (catch and _how(catch)),
            "case": catch["case"] if catch else None,
            "follows": not answer.get("died") and not (catch and catch["update"] is None),
            "late": answer.get("late"),
            "seconds": round(time.monotonic() - begin, 1),
        }


class _Asked:
    """A process that is started anew whenever it has died or was ended."""

    def __init__(self, name: str, environment: Mapping[str, str], truths: Path | None) -> None:
        self._environment = environment
        self._job = {"backend": name, "updates": UPDATES, "truths": truths and str(truths)}
        self._worker: Worker | None = None
        self._asked = 0

    def ask(self, message: Message, seconds: float) -> Message:
        """Return the answer; or how the process died, also of being too late."""
        if self._asked == TOGETHER:
            self.end()
        self._asked += 1
        if self._worker is None:
            self._worker = Worker(MODULE, environment=self._environment, timeout=24 * 3600.0)
            self._worker.tell(self._job)
        late = threading.Event()
        worker = self._worker

        def end() -> None:
            late.set()
            worker.end()

        timer = threading.Timer(seconds, end)
        timer.start()
        try:
            worker.tell(message)
            answer = next(worker.answers(), None)
            if answer is not None:
                return answer
            how = f"no answer in {seconds:g} s" if late.is_set() else worker.death()
        finally:
            timer.cancel()
        self.end()
        return {"died": how or "its process ended"}

    def end(self) -> None:
        if self._worker is not None:
            self._worker.__exit__()
            self._worker, self._asked = None, 0


def _how(catch: Mapping[str, Any]) -> str:
    if catch["update"] is None:
        return str(catch["raised"])
    return f"{catch['case']} in {catch['dtype']} at update {catch['update']}"
