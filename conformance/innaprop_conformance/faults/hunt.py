"""Finds the case that catches a fault, and false alarms of a healthy adapter.

Only the first updates of each case are run. This is enough, since the judge uses no later updates:
a case that fails here also fails in full length.
"""

import importlib
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from innaprop_conformance.cases import CASES, Case
from innaprop_conformance.faults.fault import Fault
from innaprop_conformance.faults.seeding import seeded
from innaprop_conformance.judge import Verdict, judge
from innaprop_conformance.truths import truth_of


@dataclass(frozen=True)
class Catch:
    """How a fault was caught."""

    case: str
    """The first case that failed."""
    dtype: str
    """The first dtype in which it failed."""
    update: int | None
    """The first update after which the tolerance was exceeded; None if the backend raised."""
    raised: str | None = None
    """The message of the exception."""


class Hunter:
    """Runs cases in one backend, with faults and without.

    Args:
        backend: Name of the backend.
        updates: Number of updates to run of each case.
        truths: Cache folder of ground truths; None for no cache.
    """

    def __init__(self, backend: str, updates: int, truths: Path | None) -> None:
        self._backend, self._updates, self._truths = backend, updates, truths

    def hunt(self, fault: Fault, seconds: float = math.inf) -> Catch | None:
        """Return how the first case that catches a fault does so, or None if none does.

        Args:
            fault: The fault to seed.
            seconds: Time after which no further case is started. Default: no limit.

        Raises:
            ValueError: The fault does not fit its source, or names an unknown case.
            TimeoutError: No case has caught the fault in time.
            Exception: The faulty adapter raised an exception that the fault does not declare.
        """
        end = time.monotonic() + seconds
        if unknown := set(fault.cases) - CASES.keys():
            raise ValueError(f"{fault.name}: there is no case {', '.join(unknown)}")
        with seeded(fault):
            backend = self._load()
            names = _large_steps_first(backend.cases())
            for name in dict.fromkeys([*(n for n in fault.cases if n in names), *names]):
                if time.monotonic() > end:
                    raise TimeoutError(f"not caught in {seconds:g} s, when {name} would be next")
                for dtype in self._dtypes(backend, CASES[name]):
                    try:
                        verdict = self._verdict(backend, name, dtype)
                    except Exception as error:
                        if fault.raises is None or fault.raises not in str(error):
                            raise
                        return Catch(name, dtype, None, fault.raises or told(error))
                    if not verdict.passed:
                        return Catch(name, dtype, verdict.exceeded_at)
        return None

    def false_alarms(self, cases: Iterable[str], seeds: Iterable[int]) -> Iterator[str | None]:
        """Run cases without a fault, in every dtype, and yield for each run whether it fails.

        Args:
            cases: Names of cases to run with their own values.
            seeds: Seeds for new values; each is used for another of the backend's cases.

        Yields:
            A description of the false alarm, or None.
        """
        backend = self._load()
        names = [n for n, c in backend.cases().items() if any(self._dtypes(backend, c))]
        runs = [(name, 0) for name in cases]
        # The factor spreads them over the families, by which the list is ordered.
        runs += [(names[seed * 7 % len(names)], seed) for seed in seeds]
        for name, seed in runs:
            for dtype in self._dtypes(backend, CASES[name]):
                verdict = self._verdict(backend, name, dtype, seed)
                where = f"{name}, seed {seed}, in {dtype} at update {verdict.exceeded_at}"
                yield None if verdict.passed else where

    def _verdict(self, backend: Any, name: str, dtype: str, seed: int = 0) -> Verdict:
        # While a fault is seeded, the backend has freshly imported classes of the suite. The judge
        # and the ground truth use those from before.
        fresh = importlib.import_module("innaprop_conformance.cases").CASES
        followed = importlib.import_module("innaprop_conformance.backends.protocol").followed
        theta, reason = followed(backend, self._shortened(fresh[name], seed), dtype)
        truth = truth_of(self._shortened(CASES[name], seed), backend.counts, self._truths)
        return judge(name, dtype, theta, truth, reason)

    @staticmethod
    def _dtypes(backend: Any, case: Case) -> Iterator[str]:
        return (dtype for dtype in backend.dtypes if not backend.lacks(case, dtype))

    def _load(self) -> Any:
        return importlib.import_module("innaprop_conformance.backends").load_backend(
            self._backend
        )()

    def _shortened(self, case: Case, seed: int) -> Case:
        return replace(case, seed=seed, steps=min(self._updates, case.steps))


def told(error: Exception) -> str:
    """Return an error as a single line."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return ": ".join([type(error).__name__, *lines[-1:]])


def _large_steps_first(cases: dict[str, Case]) -> list[str]:
    """Return names of cases by decreasing step size: rounding hides least where steps are large."""

    def size(name: str) -> float:
        return max(group.hyperparameters.gamma for group in CASES[name].groups)

    return sorted(cases, key=size, reverse=True)
