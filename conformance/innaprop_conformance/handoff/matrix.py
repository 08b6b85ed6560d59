"""The first half of every training loop, continued by every other, and the verdicts on both."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from innaprop_conformance.handoff import runs
from innaprop_conformance.handoff.loop import load_loop
from innaprop_conformance.handoff.worker import trajectory_file
from innaprop_conformance.judge import Verdict, judge
from innaprop_conformance.processes import Worker
from innaprop_conformance.truth import Truth

TIMEOUT = 1200.0
"""Seconds after which a loop's process is ended."""


@dataclass(frozen=True)
class Handoff:
    """What became of the runs that one training loop began and another ended."""

    source: str
    target: str
    verdicts: list[Verdict]
    """One for each run in each dtype that both offer."""
    failure: str | None = None
    """Why verdicts are missing, or None."""

    @property
    def passed(self) -> bool:
        """Whether all runs are the trajectory that nobody has interrupted."""
        return self.failure is None and bool(self.verdicts) and all(v.passed for v in self.verdicts)

    @property
    def used(self) -> float:
        """The largest share of the allowed error that was used."""
        return max((v.tolerance_used for v in self.verdicts), default=float("inf"))


def hand_over(loops: Sequence[str], jobs: int | None = None) -> list[Handoff]:
    """Let every training loop continue what every one has begun, itself included.

    Args:
        loops: Names of training loops that can run here.
        jobs: Processes that work at a time. Default None, as many as there are cores.
    """
    truths = {name: runs.truth(name) for name in runs.names()}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)

        def first(loop: str) -> _Process:
            # Started here, so that no more run at a time than there are jobs.
            process = _Process(loop, stack.enter_context(_start(loop, folder)))
            process.first()
            return process

        with ThreadPoolExecutor(jobs or os.cpu_count()) as pool:
            processes = dict(zip(loops, pool.map(first, loops), strict=True))
            begun = [loop for loop, one in processes.items() if not one.death]
            list(pool.map(lambda one: one.second(begun), processes.values()))
        return [
            _handoff(folder, source, target, processes, truths)
            for source in loops
            for target in loops
        ]


@dataclass
class _Process:
    """A loop at work in its own process, which waits between the halves."""

    loop: str
    worker: Worker
    death: str | None = None
    errors: list[tuple[str, str]] = field(default_factory=list)
    """Sources from which it could not go on, and why."""

    def first(self) -> None:
        """Wait until it has run the first half."""
        self._wait("first")

    def second(self, sources: Sequence[str]) -> None:
        """Have it go on from where some loops have stopped, and wait until it has."""
        if self.death is None:
            self.worker.tell(list(sources))
            self._wait("second")

    def _wait(self, half: str) -> None:
        for answer in self.worker.answers():
            if "error" in answer:
                self.errors.append((answer["source"], answer["error"]))
            elif answer["finished"] == half:
                return
        self.death = f"{self.loop}: {self.worker.death() or 'its process ended early'}"


def _start(loop: str, folder: Path) -> Worker:
    # The arrays are small, and threads of several processes wait for each other.
    environment = {"OMP_NUM_THREADS": "1", **load_loop(loop).environment}
    module = "innaprop_conformance.handoff.worker"
    return Worker(module, loop, str(folder), environment=environment, timeout=TIMEOUT)


def hold(
    folder: Path, source: str, target: str, truths: Mapping[str, Truth]
) -> tuple[list[Verdict], int]:
    """Hold both halves of every run to the truth.

    Args:
        folder: Where the halves are.
        source: Who ran the first half.
        target: Who ran the second.
        truths: The truth of every run.

    Returns:
        The verdicts, and the number of runs of which a half is missing.
    """
    verdicts, missing = [], 0
    loops = load_loop(source), load_loop(target)
    for name, truth in truths.items():
        for dtype in runs.shared_dtypes(name, *loops):
            halves = [
                trajectory_file(folder, name, dtype, source),
                trajectory_file(folder, name, dtype, source, target),
            ]
            if not all(half.exists() for half in halves):
                missing += 1
                continue
            theta = np.concatenate([np.load(half) for half in halves])
            # A bfloat16 and its residual are to be float32's trajectory.
            judged = "float32" if dtype == "bfloat16" else dtype
            verdicts.append(judge(f"{name} in {dtype}", judged, theta, truth))
    return verdicts, missing


def _handoff(
    folder: Path,
    source: str,
    target: str,
    processes: Mapping[str, _Process],
    truths: Mapping[str, Truth],
) -> Handoff:
    verdicts, missing = hold(folder, source, target, truths)
    reasons = [text for where, text in processes[target].errors if where == source]
    deaths = [processes[loop].death for loop in (source, target)]
    failure = next(filter(None, [*deaths, *reasons]), None)
    if missing and failure is None:
        failure = f"{missing} runs are without verdict"
    return Handoff(source, target, verdicts, failure)
