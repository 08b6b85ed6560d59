"""Every backend's faults, some processes at a time, and what came of them."""

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.progress import Progress

from innaprop_conformance.backends import Backend
from innaprop_conformance.cases import CASES
from innaprop_conformance.faults.fault import Fault
from innaprop_conformance.faults.hunt import Catch
from innaprop_conformance.processes import Worker
from innaprop_conformance.truths import truths_folder

UPDATES = 30
"""How many updates of each case are followed, if nothing else is said."""
SEEDS = 20
"""How many runs with other values a healthy backend is followed in, if nothing else is said."""
FEW_SEEDS = 2
"""Likewise where every run takes long: in backends that compile, or wait for other processes."""
SLOW = ("compiled", "distributed")


@dataclass
class Hunt:
    """What came of the faults of one backend."""

    backend: str
    catches: dict[str, Catch | None] = field(default_factory=dict)
    """By the fault's name how it was caught; None if it was not."""
    errors: dict[str, str] = field(default_factory=dict)
    """By the fault's name what went wrong with seeding or following it."""
    runs: int = 0
    """Runs of the healthy backend."""
    false_alarms: list[str] = field(default_factory=list)
    """Those that the judge refused."""
    death: str | None = None
    """Why the process ended before its time, or None."""

    @property
    def good(self) -> bool:
        """Whether every fault was caught, and every healthy run passed."""
        caught = all(catch is not None for catch in self.catches.values())
        return caught and not (self.errors or self.false_alarms or self.death)


def hunt_all(
    faults: Sequence[Fault],
    backends: Mapping[str, type[Backend]],
    progress: Progress,
    *,
    updates: int = UPDATES,
    seeds: int = SEEDS,
    jobs: int | None = None,
) -> list[Hunt]:
    """Seed every fault into each of its backends, and see which case catches it.

    Args:
        faults: From ``read_faults``.
        backends: By name, those that can run here.
        progress: Where a bar is shown.
        updates: How many updates of each case are followed.
        seeds: How many runs with other values the healthy backends are followed in.
        jobs: Backends at a time. Default None, as many as there are cores.
    """
    of = {name: [f for f in faults if name in f.backends] for name in backends}
    names = sorted((n for n in of if of[n]), key=lambda n: len(backends[n].cases()))
    truths = truths_folder()
    bar = progress.add_task("faults", total=sum(len(of[name]) for name in names))
    with (
        tempfile.TemporaryDirectory() as folder,
        ThreadPoolExecutor(jobs or os.cpu_count()) as pool,
    ):

        def one(name: str) -> Hunt:
            backend = backends[name]
            slow = backend.mode in SLOW or len(backend.cases()) < len(CASES)
            job = {
                "backend": name,
                "faults": [fault.as_dict() for fault in of[name]],
                "updates": updates,
                "seeds": min(seeds, FEW_SEEDS) if slow else seeds,
                "truths": truths and str(truths),
            }
            # Faulty kernels are not to stay.
            environment = {"INNAPROP_CACHE": str(Path(folder).resolve()), **backend.environment}
            return _run(name, job, environment, lambda: progress.advance(bar))

        hunts = {hunt.backend: hunt for hunt in pool.map(one, names)}
    return [hunts[name] for name in backends if name in hunts]


def _run(
    name: str, job: dict[str, Any], environment: Mapping[str, str], advance: Callable[[], None]
) -> Hunt:
    """Run the worker of one backend to its end."""
    hunt = Hunt(name)
    with Worker("innaprop_conformance.faults.worker", environment=environment) as worker:
        worker.tell(job)
        for answer in worker.answers():
            if "run" in answer:
                hunt.runs += 1
                hunt.false_alarms += [answer["run"]] if answer["run"] else []
                continue
            advance()
            catch = answer["catch"]
            hunt.catches[answer["fault"]] = Catch(**catch) if catch else None
            if answer["error"]:
                hunt.errors[answer["fault"]] = answer["error"]
        hunt.death = worker.death()
    return hunt
