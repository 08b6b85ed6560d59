"""Every training loop continues the runs of every other; the verdicts on these handoffs."""

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
"""Seconds without an answer after which a training loop's process is killed."""


@dataclass(frozen=True)
class Handoff:
    """The results of the runs that one training loop starts and another continues."""

    source: str
    target: str
    verdicts: list[Verdict]
    """One for each run in each dtype that both support."""
    failure: str | None = None
    """Why verdicts are missing, or None."""

    @property
    def passed(self) -> bool:
        """Whether all runs follow the exact trajectory of the uninterrupted run."""
        return self.failure is None and bool(self.verdicts) and all(v.passed for v in self.verdicts)

    @property
    def used(self) -> float:
        """The largest error relative to the tolerance."""
        return max((v.tolerance_used for v in self.verdicts), default=float("inf"))


def hand_over(loops: Sequence[str], jobs: int | None = None) -> list[Handoff]:
    """Run the first half in every training loop, and continue each in every one, itself included.

    Args:
        loops: Names of training loops that can run here.
        jobs: Number of processes that compute at a time. Default None, the number of cores.
    """
    truths = {name: runs.truth(name) for name in runs.names()}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)

        def first(loop: str) -> _Process:
            # Started in the pool's thread, so that at most ``jobs`` start at a time.
            process = _Process(loop, stack.enter_context(_start(loop, folder)))
            process.first()
            return process

        with ThreadPoolExecutor(jobs or os.cpu_count()) as pool:
            processes = dict(zip(loops, pool.map(first, loops), strict=True))
            sources = [loop for loop, process in processes.items() if not process.death]
            list(pool.map(lambda process: process.second(sources), processes.values()))
        return [
            _handoff(folder, source, target, processes, truths)
            for source in loops
            for target in loops
        ]


@dataclass
class _Process:
    """The process of a training loop, which waits between the halves."""

    loop: str
    worker: Worker
    death: str | None = None
    errors: list[tuple[str, str]] = field(default_factory=list)
    """Sources whose runs it could not continue, and the errors."""

    def first(self) -> None:
        """Wait until it has run the first half."""
        self._wait("first")

    def second(self, sources: Sequence[str]) -> None:
        """Let it continue the runs of some training loops, and wait until it has."""
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
    # The arrays are small, and more threads would only compete for the cores.
    environment = {"OMP_NUM_THREADS": "1", **load_loop(loop).environment}
    module = "innaprop_conformance.handoff.worker"
    return Worker(module, loop, str(folder), environment=environment, timeout=TIMEOUT)


def hold(
    folder: Path, source: str, target: str, truths: Mapping[str, Truth]
) -> tuple[list[Verdict], int]:
    """Judge every run from its two halves.

    Args:
        folder: Folder of the trajectories.
        source: The training loop that ran the first half.
        target: The training loop that ran the second half.
        truths: The ground truth of every run, by its name.

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
            # bfloat16 parameters with residuals must follow float32's trajectory.
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
        failure = f"{missing} runs have no verdict"
    return Handoff(source, target, verdicts, failure)
