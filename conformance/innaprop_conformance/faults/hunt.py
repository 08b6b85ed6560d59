"""Which case catches a fault, and whether a healthy adapter passes.

Cases are followed for their first updates only. The judge does not look ahead: what it says of
these it says in a whole run too.
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
    """The first case that exceeded its tolerance."""
    dtype: str
    """The first dtype in which it did so."""
    update: int | None
    """The first update after which it was outside; None if the backend itself refused."""
    raised: str | None = None
    """The message with which it did so."""


class Hunter:
    """Follows cases in one backend, with faults and without.

    Args:
        backend: Name of the backend.
        updates: How many updates of a case are followed.
        truths: A folder where ground truths are kept; None if there is none.
    """

    def __init__(self, backend: str, updates: int, truths: Path | None) -> None:
        self._backend, self._updates, self._truths = backend, updates, truths

    def hunt(self, fault: Fault, seconds: float = math.inf) -> Catch | None:
        """Return how a fault is caught, by the first case that does so; or None.

        Args:
            fault: What to seed.
            seconds: After which no other case is begun. Default: never.

        Raises:
            ValueError: The fault does not fit its source, or names a case that is not there.
            TimeoutError: Time is up, and no case has caught the fault.
            Exception: What the faulty adapter raised, unless the fault says that it does.
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
        """Follow cases without a fault, and with other values; yield a line on each.

        Args:
            cases: Names of cases to follow as they are.
            seeds: Seeds of other values, each for the next of the backend's cases.

        Yields:
            What the judge wrongly found, or None.
        """
        backend = self._load()
        names = [n for n, c in backend.cases().items() if any(self._dtypes(backend, c))]
        runs = [(name, 0) for name in cases]
        # From everywhere in the list, which is sorted by family.
        runs += [(names[seed * 7 % len(names)], seed) for seed in seeds]
        for name, seed in runs:
            for dtype in self._dtypes(backend, CASES[name]):
                verdict = self._verdict(backend, name, dtype, seed)
                where = f"{name}, seed {seed}, in {dtype} at update {verdict.exceeded_at}"
                yield None if verdict.passed else where

    def _verdict(self, backend: Any, name: str, dtype: str, seed: int = 0) -> Verdict:
        # The faulty adapter's suite has classes of its own; what judges is what was there before.
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
    """Return an error as a line."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return ": ".join([type(error).__name__, *lines[-1:]])


def _large_steps_first(cases: dict[str, Case]) -> list[str]:
    """Return names of cases such that those come early in which float32 rounds away least."""

    def size(name: str) -> float:
        return max(group.hyperparameters.gamma for group in CASES[name].groups)

    return sorted(cases, key=size, reverse=True)
