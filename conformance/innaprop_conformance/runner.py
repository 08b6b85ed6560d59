"""Runs every backend in its own process, and judges its results."""

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from rich.progress import Progress, TaskID

from innaprop_conformance.backends import Backend
from innaprop_conformance.cases import Case
from innaprop_conformance.cases.dtypes import NARROW_STATE, STORAGE
from innaprop_conformance.judge import judge
from innaprop_conformance.processes import Message, Worker
from innaprop_conformance.results import Conformance, Learning
from innaprop_conformance.training.task import Task, Training
from innaprop_conformance.truth import Truth
from innaprop_conformance.truths import truths_of

Backends = Mapping[str, type[Backend]]
Cases = Mapping[str, Case]
Truths = Mapping[tuple[str, str], Truth]
Result = TypeVar("Result")

TIMEOUT = 600.0
"""Seconds that a backend may take for one case, or for one step of the training. The first case
includes the imports."""


def find_truths(
    backends: Backends, cases: Cases, progress: Progress, processes: int | None = None
) -> Truths:
    """Return the ground truths of all cases that these backends run.

    Args:
        backends: By name.
        cases: By name.
        progress: Gets a bar.
        processes: Number of processes. Default None, the number of cores.

    Returns:
        Ground truths, by name of the case and ``Backend.counts``.
    """
    keys = {
        _truth_of(backend, case): case
        for backend in backends.values()
        for dtype in backend.dtypes
        for case in backend.asked(cases, dtype).values()
    }
    return truths_of(keys, progress, processes)


def run_cases(
    backends: Backends,
    cases: Cases,
    truths: Truths,
    progress: Progress,
    processes: int | None = None,
    timeout: float = TIMEOUT,
) -> list[Conformance]:
    """Run every case in every backend that supports it and can run here, and judge the results.

    Args:
        backends: By name.
        cases: By name.
        truths: As returned by ``find_truths``.
        progress: Gets a bar per backend.
        processes: Number of backends at a time. Default None, the number of cores.
        timeout: Seconds for a case after which a backend is killed. Default ``TIMEOUT``.
    """

    def run_one(name: str, backend: type[Backend], folder: Path, job: "_Job") -> list[Conformance]:
        document = [case.to_json() for case in cases.values()]
        Path(folder, "cases.json").write_text(json.dumps(document))
        followed = _Followed()
        death = job.run("follow", name, backend, folder, followed.hear)
        return [
            _judged(name, backend, cases, dtype, truths, folder, followed, death)
            for dtype in backend.dtypes
        ]

    def failed(name: str, backend: type[Backend], reason: str) -> list[Conformance]:
        return [
            Conformance(name, dtype, list(backend.asked(cases, dtype)), failure=reason)
            for dtype in backend.dtypes
        ]

    def total(backend: type[Backend]) -> int:
        return sum(len(backend.asked(cases, dtype)) for dtype in backend.dtypes)

    def updates(name: str) -> int:
        backend = backends[name]
        asked = [backend.asked(cases, dtype) for dtype in backend.dtypes]
        return sum(case.steps for some in asked for case in some.values())

    # Longest first: a long one that starts last would run alone at the end.
    ordered = {name: backends[name] for name in sorted(backends, key=updates, reverse=True)}
    results = _each(ordered, total, run_one, failed, progress, processes, timeout)
    order = list(backends)
    return sorted(
        (conformance for result in results for conformance in result),
        key=lambda conformance: order.index(conformance.backend),
    )


def _judged(
    name: str,
    backend: type[Backend],
    cases: Cases,
    dtype: str,
    truths: Truths,
    folder: Path,
    followed: "_Followed",
    death: str | None,
) -> Conformance:
    """Judge the trajectories in one dtype that a worker has written to a folder."""
    asked = backend.asked(cases, dtype)
    errors = {case: text for (of, case), text in followed.errors.items() if of == dtype}
    verdicts = []
    for case in asked.values():
        file = folder / f"{dtype},{case.name}.npy"
        if not file.exists():
            continue
        try:
            truth, reason = truths[_truth_of(backend, case)], _reason(file.with_suffix(".reason"))
            verdicts.append(judge(case.name, dtype, np.load(file), truth, reason))
        except Exception as error:
            errors[case.name] = f"{type(error).__name__}: {error}"
    missing = len(asked) - len(verdicts) - len(errors)
    failure = f"{missing} cases have no verdict" if missing else None
    # If a process dies after its last case, the failure belongs to that case's dtype.
    if death and (missing or dtype == followed.dtype):
        failure = f"{followed.where}{death}"
    if dtype not in (*STORAGE, *NARROW_STATE):
        offered = ", ".join((*STORAGE, *NARROW_STATE))
        failure = f"dtypes must be of {offered}, got {dtype!r}"
    return Conformance(
        name,
        dtype,
        asked=list(asked),
        verdicts=verdicts,
        errors=errors,
        failure=failure,
        not_applicable=backend.not_applicable(cases, dtype),
        seconds={case: s for (of, case), s in followed.seconds.items() if of == dtype},
    )


def _truth_of(backend: type[Backend], case: Case) -> tuple[str, str]:
    # The two ways of counting differ only if a gradient is missing.
    return case.name, backend.counts if case.absences else "parameter"


def _reason(file: Path) -> str | None:
    return file.read_text(encoding="utf-8") if file.exists() else None


def run_training(
    backends: Backends,
    progress: Progress,
    processes: int | None = None,
    timeout: float = TIMEOUT,
) -> list[Learning]:
    """Train the task in every backend that can; arguments as in ``run_cases``."""

    def run_one(name: str, backend: type[Backend], folder: Path, job: "_Job") -> Learning:
        death = job.run("train", name, backend, folder, lambda answer: None)
        trainings = {
            optimizer: Training(**json.loads(file.read_text()))
            for optimizer in backend.optimizers
            if (file := Path(folder, f"{optimizer}.json")).exists()
        }
        for optimizer, training in trainings.items():
            if len(training.losses) != Task().steps:
                raise ValueError(
                    f"{optimizer} must have {Task().steps} losses, got {len(training.losses)}"
                )
        return Learning(name, trainings, death)

    def failed(name: str, backend: type[Backend], reason: str) -> Learning:
        return Learning(name, failure=reason)

    trainable = {name: b for name, b in backends.items() if b.optimizers}

    def total(backend: type[Backend]) -> int:
        return Task().steps * len(backend.optimizers)

    return _each(trainable, total, run_one, failed, progress, processes, timeout)


@dataclass
class _Followed:
    """What a worker has reported of its cases, by dtype and name."""

    seconds: dict[tuple[str, str], float] = field(default_factory=dict)
    errors: dict[tuple[str, str], str] = field(default_factory=dict)
    now: tuple[str, str] | None = None
    """The running case."""
    dtype: str | None = None
    """Dtype of the last case that it started."""

    def hear(self, answer: Message) -> None:
        """Record an answer."""
        if "case" in answer:
            self.dtype = answer["dtype"]
            self.now = answer["dtype"], answer["case"]
        elif "seconds" in answer and self.now:
            self.seconds[self.now] = answer["seconds"]
            if answer["error"]:
                self.errors[self.now] = answer["error"]
            self.now = None

    @property
    def where(self) -> str:
        """The case that was running when the process ended, as a prefix for the reason."""
        return f"{self.now[1]} in {self.now[0]}: " if self.now else ""


@dataclass
class _Job:
    """One backend's worker process, which can be killed from another thread."""

    progress: Progress
    bar: TaskID
    timeout: float
    worker: Worker | None = None

    def run(
        self,
        what: str,
        name: str,
        backend: type[Backend],
        folder: Path,
        hear: Callable[[Message], None],
    ) -> str | None:
        """Run a worker, pass its answers to ``hear``, and return why it died, or None."""
        self.progress.start_task(self.bar)
        with Worker(
            "innaprop_conformance.worker",
            what,
            name,
            str(folder),
            environment=backend.environment,
            timeout=self.timeout,
        ) as self.worker:
            for answer in self.worker.answers():
                hear(answer)
                if "done" in answer:
                    self.progress.update(self.bar, completed=answer["done"])
            return self.worker.death()

    def end(self) -> None:
        """Kill the process, if there is one."""
        if self.worker is not None:
            self.worker.end()


def _each(
    backends: Backends,
    total: Callable[[type[Backend]], int],
    run_one: Callable[[str, type[Backend], Path, _Job], Result],
    failed: Callable[[str, type[Backend], str], Result],
    progress: Progress,
    processes: int | None,
    timeout: float,
) -> list[Result]:
    """Run a job for every backend that can run here, ``processes`` at a time."""

    def do(name: str, backend: type[Backend], job: _Job) -> Result:
        if backend.load_error:
            return failed(name, backend, backend.load_error)
        # No error of one backend may stop the others.
        try:
            with tempfile.TemporaryDirectory() as folder:
                return run_one(name, backend, Path(folder), job)
        except Exception as error:
            return failed(name, backend, f"{type(error).__name__}: {error}")

    installed = {name: backend for name, backend in backends.items() if not backend.missing()}
    jobs = {
        name: _Job(progress, progress.add_task(name, total=total(backend), start=False), timeout)
        for name, backend in installed.items()
    }
    with ThreadPoolExecutor(processes or os.cpu_count()) as pool:
        futures = [pool.submit(do, name, b, jobs[name]) for name, b in installed.items()]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for job in jobs.values():
                job.end()
            raise
