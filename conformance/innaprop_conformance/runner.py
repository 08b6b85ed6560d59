"""Every backend in a process of its own, and what came of it."""

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from innaprop_conformance.backends import Backend
from innaprop_conformance.cases import Case
from innaprop_conformance.cases.dtypes import STORAGE
from innaprop_conformance.judge import judge
from innaprop_conformance.processes import Worker
from innaprop_conformance.results import Conformance, Learning
from innaprop_conformance.training.task import Task, Training
from innaprop_conformance.truth import Truth
from innaprop_conformance.truths import truths_of

Backends = Mapping[str, type[Backend]]
Cases = Mapping[str, Case]
Truths = Mapping[tuple[str, str], Truth]
Result = TypeVar("Result")


def find_truths(
    backends: Backends, cases: Cases, progress: Progress, processes: int | None = None
) -> Truths:
    """Return the ground truths that backends are held to.

    Args:
        backends: By name.
        cases: By name.
        progress: Where a bar is shown.
        processes: How many compute. Default None, as many as there are cores.

    Returns:
        Truths by case and what the backend counts.
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
) -> list[Conformance]:
    """Let every backend that can run here follow every case that it can, and judge it.

    Args:
        backends: By name.
        cases: By name.
        truths: What ``find_truths`` has found.
        progress: Where bars are shown.
        processes: Backends at a time. Default None, as many as there are cores.
    """

    def one(name: str, backend: type[Backend], folder: Path, job: "_Job") -> list[Conformance]:
        document = [case.to_json() for case in cases.values()]
        Path(folder, "cases.json").write_text(json.dumps(document))
        death, errors = job.run("follow", name, backend, folder)
        results = []
        for dtype in backend.dtypes:
            asked = backend.asked(cases, dtype)
            verdicts = [
                judge(
                    case.name,
                    dtype,
                    np.load(file),
                    truths[_truth_of(backend, case)],
                    _reason(file.with_suffix(".reason")),
                )
                for case in asked.values()
                if (file := Path(folder, f"{dtype},{case.name}.npy")).exists()
            ]
            failure = death or _summary([text for where, text in errors if where == dtype])
            if dtype not in STORAGE:
                failure = f"dtypes must be of {', '.join(STORAGE)}, got {dtype!r}"
            if not failure and len(verdicts) < len(asked):
                failure = f"{len(asked) - len(verdicts)} cases are without verdict"
            missing = backend.not_applicable(cases, dtype)
            results.append(Conformance(name, dtype, len(asked), verdicts, failure, missing))
        return results

    def failed(name: str, backend: type[Backend], reason: str) -> list[Conformance]:
        return [
            Conformance(name, dtype, len(backend.asked(cases, dtype)), failure=reason)
            for dtype in backend.dtypes
        ]

    def total(backend: type[Backend]) -> int:
        return sum(len(backend.asked(cases, dtype)) for dtype in backend.dtypes)

    def updates(name: str) -> int:
        backend = backends[name]
        asked = [backend.asked(cases, dtype) for dtype in backend.dtypes]
        return sum(case.steps for some in asked for case in some.values())

    # Those with most to do first, or one process would be waited for.
    ordered = {name: backends[name] for name in sorted(backends, key=updates, reverse=True)}
    results = _each(ordered, total, one, failed, progress, processes)
    order = list(backends)
    return sorted(
        (conformance for result in results for conformance in result),
        key=lambda conformance: order.index(conformance.backend),
    )


def _truth_of(backend: type[Backend], case: Case) -> tuple[str, str]:
    # Only where a gradient is missing do the counts differ.
    return case.name, backend.counts if case.absences else "parameter"


def _reason(file: Path) -> str | None:
    return file.read_text(encoding="utf-8") if file.exists() else None


def run_training(
    backends: Backends, progress: Progress, processes: int | None = None
) -> list[Learning]:
    """Let every backend train the task, of those that can, as ``run_cases`` does."""

    def one(name: str, backend: type[Backend], folder: Path, job: "_Job") -> Learning:
        death, errors = job.run("train", name, backend, folder)
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
        return Learning(name, trainings, death or _summary([text for _, text in errors]))

    def failed(name: str, backend: type[Backend], reason: str) -> Learning:
        return Learning(name, failure=reason)

    trainable = {name: b for name, b in backends.items() if b.optimizers}
    return _each(
        trainable, lambda b: Task().steps * len(b.optimizers), one, failed, progress, processes
    )


@contextmanager
def progress_bars(console: Console) -> Iterator[Progress]:
    """Show a bar per piece of work while it is being done."""
    with Progress(
        TextColumn("{task.description:<18}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    ) as progress:
        yield progress


@dataclass
class _Job:
    """One backend's work in its own process, which can be ended from outside."""

    progress: Progress
    bar: TaskID
    worker: Worker | None = None

    def run(
        self, what: str, name: str, backend: type[Backend], folder: Path
    ) -> tuple[str | None, list[tuple[str | None, str]]]:
        """Run a worker to its end.

        Returns why it died, or None; and the errors it told, each with its dtype.
        """
        self.progress.start_task(self.bar)
        errors: list[tuple[str | None, str]] = []
        arguments = (what, name, str(folder))
        with Worker(
            "innaprop_conformance.worker", *arguments, environment=backend.environment
        ) as self.worker:
            for answer in self.worker.answers():
                if "error" in answer:
                    errors.append((answer.get("dtype"), answer["error"]))
                else:
                    self.progress.update(self.bar, completed=answer["done"])
            return self.worker.death(), errors

    def end(self) -> None:
        """End the process, if there is one."""
        if self.worker is not None:
            self.worker.end()


def _each(
    backends: Backends,
    total: Callable[[type[Backend]], int],
    one: Callable[[str, type[Backend], Path, _Job], Result],
    failed: Callable[[str, type[Backend], str], Result],
    progress: Progress,
    processes: int | None,
) -> list[Result]:
    """Do a job for every backend that can run here, some at a time."""

    def do(name: str, backend: type[Backend], job: _Job) -> Result:
        if backend.load_error:
            return failed(name, backend, backend.load_error)
        # A backend may be wrong in every way; what it does must not reach the others.
        try:
            with tempfile.TemporaryDirectory() as folder:
                return one(name, backend, Path(folder), job)
        except Exception as error:
            return failed(name, backend, f"{type(error).__name__}: {error}")

    installed = {name: backend for name, backend in backends.items() if not backend.missing()}
    jobs = {
        name: _Job(progress, progress.add_task(name, total=total(backend), start=False))
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


def _summary(errors: list[str]) -> str | None:
    if len(errors) < 2:
        return errors[0] if errors else None
    return f"{errors[0]} (and {len(errors) - 1} more)"
