"""Which case catches a fault, and whether a healthy adapter passes.

Cases are followed for their first updates only. The judge does not look ahead: what it says of
these it says in a whole run too.
"""

import importlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from innaprop_conformance.cases import CASES, Case
from innaprop_conformance.faults.fault import Fault
from innaprop_conformance.faults.seeding import seeded
from innaprop_conformance.judge import Verdict, judge
from innaprop_conformance.truth import Truth, find_truth


@dataclass(frozen=True)
class Catch:
    """How a fault was caught."""

    case: str
    """The first case of which it left the corridor."""
    updates: dict[str, int | None]
    """By dtype the first update after which it was outside; None if it stayed inside."""
    raised: str | None = None
    """The message with which the backend refused the adapter, if that is how it was caught."""


class Hunter:
    """Follows cases in one backend, with faults and without.

    Args:
        backend: Name of the backend.
        updates: How many updates of a case are followed.
        truths: A folder where ground truths are kept, which may be shared by processes.
    """

    def __init__(self, backend: str, updates: int, truths: Path) -> None:
        self._backend, self._updates, self._truths = backend, updates, truths

    def hunt(self, fault: Fault) -> Catch | None:
        """Return how a fault is caught, by the first case that does so; or None.

        Raises:
            ValueError: The fault does not fit its source.
            Exception: What the faulty adapter raised, unless the fault says that it does.
        """
        with seeded(fault):
            backend = self._load()
            # Large steps first: they stand out from what float32 rounds away.
            names = sorted(backend.cases(), key=lambda n: -CASES[n].hyperparameters.gamma)
            for name in [*(n for n in fault.cases if n in names), *names]:
                try:
                    verdicts = list(self._verdicts(backend, name))
                except Exception as error:
                    if fault.raises and fault.raises in str(error):
                        return Catch(name, {}, fault.raises)
                    raise
                updates = {verdict.dtype: verdict.left_at for verdict in verdicts}
                if any(updates.values()):
                    return Catch(name, updates)
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
        names = list(backend.cases())
        runs = [(name, 0) for name in cases]
        runs += [(names[seed % len(names)], seed) for seed in seeds]
        for name, seed in runs:
            for verdict in self._verdicts(backend, name, seed):
                where = f"{verdict.case} in {verdict.dtype} at update {verdict.left_at}"
                yield None if verdict.passed else where

    def _verdicts(self, backend: Any, name: str, seed: int = 0) -> Iterator[Verdict]:
        # The faulty adapter's suite has classes of its own; what judges is what was there before.
        fresh = importlib.import_module("innaprop_conformance.cases").CASES
        for dtype in backend.dtypes:
            theta = backend.follow(self._shortened(fresh[name], seed), dtype)
            case = self._shortened(CASES[name], seed)
            yield judge(case.name, dtype, theta, self._truth(case))

    def _load(self) -> Any:
        return importlib.import_module("innaprop_conformance.backends").load_backend(
            self._backend
        )()

    def _shortened(self, case: Case, seed: int) -> Case:
        # The name is what seeds a case's values.
        name = f"{case.name},seed={seed}" if seed else case.name
        return replace(case, name=name, steps=min(self._updates, case.steps))

    def _truth(self, case: Case) -> Truth:
        file = self._truths / f"{case.name},{case.steps}.npy"
        if not file.exists():
            truth = find_truth(case)
            start = np.broadcast_to(truth.start, truth.theta.shape)
            # Whole or not at all: other processes look for it.
            part = file.with_suffix(f".{self._backend}.npy")
            np.save(part, np.stack([start, truth.theta, truth.floor]))
            part.replace(file)
        start, theta, floor = np.load(file)
        return Truth(start[0], theta, floor)
