"""Runs the faults of all backends, each backend in its own process."""

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
"""Default number of updates to run of each case."""
SEEDS = 20
"""Default number of runs of each healthy backend with new values."""
FEW_SEEDS = 2
"""The same for slow backends, which compile every case or synchronize processes."""
SLOW = ("compiled", "distributed")


@dataclass
class Hunt:
    """The results for the faults of one backend."""

    backend: str
    catches: dict[str, Catch | None] = field(default_factory=dict)
    """How each fault was caught, or None; by the fault's name."""
    errors: dict[str, str] = field(default_factory=dict)
    """Errors while seeding or running a fault; by the fault's name."""
    runs: int = 0
    """Number of runs of the healthy backend."""
    false_alarms: list[str] = field(default_factory=list)
    """Runs of the healthy backend that failed."""
    death: str | None = None
    """Why the process died, or None."""

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
    """Seed every fault into each of its backends, and find the case that catches it.

    Args:
        faults: As returned by ``read_faults``.
        backends: Backends that can run here, by name.
        progress: Gets a bar.
        updates: Number of updates to run of each case. Default ``UPDATES``.
        seeds: Number of runs of each healthy backend with new values. Default ``SEEDS``.
        jobs: Number of backends at a time. Default None, the number of cores.
    """
    of = {name: [f for f in faults if name in f.backends] for name in backends}
    names = sorted((n for n in of if of[n]), key=lambda n: len(backends[n].cases()))
    truths = truths_folder()
    bar = progress.add_task("faults", total=sum(len(of[name]) for name in names))
    with (
        tempfile.TemporaryDirectory() as folder,
        ThreadPoolExecutor(jobs or os.cpu_count()) as pool,
    ):

        def hunt_one(name: str) -> Hunt:
            backend = backends[name]
            slow = backend.mode in SLOW or len(backend.cases()) < len(CASES)
            job = {
                "backend": name,
                "faults": [fault.as_dict() for fault in of[name]],
                "updates": updates,
                "seeds": min(seeds, FEW_SEEDS) if slow else seeds,
                "truths": truths and str(truths),
            }
            # A temporary cache, so that faulty kernels do not remain in the user's.
            environment = {"INNAPROP_CACHE": str(Path(folder).resolve()), **backend.environment}
            return _run(name, job, environment, lambda: progress.advance(bar))

        hunts = {hunt.backend: hunt for hunt in pool.map(hunt_one, names)}
    return [hunts[name] for name in backends if name in hunts]


def _run(
    name: str, job: dict[str, Any], environment: Mapping[str, str], advance: Callable[[], None]
) -> Hunt:
    """Run the worker of one backend."""
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
