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
"""Additional seconds before a process is killed, for its start and for the case it is running."""
FOLLOWED = 4
"""Number of updates of a case to run when measuring line coverage."""
TOGETHER = 50
"""Number of mutants per process: frameworks keep references to every adapter they have used."""
Note = Callable[[Mutant, str, dict[str, Any]], None]
"""Called with a mutant, the name of a backend, and the result."""


def reach_of(name: str, backend: type[Backend], packages: frozenset[str]) -> Lines:
    """Return the lines that a backend executes in one or two cases of each family.

    Args:
        name: Name of the backend.
        backend: Its class.
        packages: The packages whose lines are returned.

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
    """Judges mutants by the suite, in processes that keep the framework loaded.

    Cases that have caught the most mutants so far are tried first.

    Args:
        truths: Cache folder of ground truths; None for no cache.
        cache: Cache folder for kernels that mutants compile.
        seconds: Time after which no further case is started for a mutant.
        jobs: Number of processes at a time.
        grace: Additional seconds after which the process is killed. Default ``GRACE``.
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
        """Judge mutants in one backend.

        Args:
            name: Name of the backend.
            environment: Environment variables of its process.
            mutants: The mutants to judge.
            note: Called with each result, from one thread at a time. A result has "caught", a text
                or None; "case"; "follows", which is False if the mutant raised, died or hung;
                "late", a text or None; and "seconds".
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
                    outcome = self._ask_about(asked, name, mutant)
                    with lock:
                        note(mutant, name, outcome)
            except Empty:
                pass
            finally:
                asked.end()

        with ThreadPoolExecutor(self._jobs) as pool:
            for future in [pool.submit(work) for _ in range(min(self._jobs, len(mutants)))]:
                future.result()

    def _ask_about(self, asked: "_Asked", name: str, mutant: Mutant) -> dict[str, Any]:
        begin = time.monotonic()
        fault = mutant.fault(name).as_dict()
        answer: Message = {}
        for _ in range(2):
            fault["cases"] = [case for case, _ in self._caught.most_common(10)]
            answer = asked.ask({"fault": fault, "seconds": self._seconds}, self._limit)
            if not answer.get("unwell"):
                break
            # Traces of an earlier mutant in the framework may be the cause: try a new process.
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
    """A worker process that is restarted after it has died or was killed."""

    def __init__(self, name: str, environment: Mapping[str, str], truths: Path | None) -> None:
        self._environment = environment
        self._job = {"backend": name, "updates": UPDATES, "truths": truths and str(truths)}
        self._worker: Worker | None = None
        self._asked = 0

    def ask(self, message: Message, seconds: float) -> Message:
        """Return the answer, or how the process died or that it timed out."""
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
