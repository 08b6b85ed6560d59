"""Every backend in a process of its own, and what came of it."""

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
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
from innaprop_conformance.cases import CASES
from innaprop_conformance.judge import Verdict, judge
from innaprop_conformance.training.task import Task, Training
from innaprop_conformance.truth import Truth, find_truth

Backends = Mapping[str, type[Backend]]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Conformance:
    """What the cases said of one backend."""

    backend: str
    missing: list[str]
    """Modules it needs that are not installed; it did not run then."""
    verdicts: list[Verdict] = field(default_factory=list)
    failure: str | None = None
    """Why cases are without verdict, or None."""

    @property
    def passed(self) -> bool:
        """Whether every case was followed within its corridor."""
        return self.failure is None and all(v.passed for v in self.verdicts)


@dataclass(frozen=True)
class Learning:
    """What became of the training in one backend."""

    backend: str
    missing: list[str]
    """Modules it needs that are not installed; it did not run then."""
    trainings: dict[str, Training] = field(default_factory=dict)
    """By optimizer: "INNAprop", and "AdamW" where the framework has one."""
    failure: str | None = None
    """Why a training is missing, or None."""


def find_truths(progress: Progress) -> dict[str, Truth]:
    """Compute the ground truth of every case, on all cores."""
    bar = progress.add_task("ground truth", total=len(CASES))
    # Not forked: the parent has threads, for its progress bars.
    context = multiprocessing.get_context("spawn")
    truths = {}
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context) as pool:
        for name, truth in zip(CASES, pool.map(find_truth, CASES.values()), strict=True):
            truths[name] = truth
            progress.advance(bar)
    return truths


def run_cases(
    backends: Backends, truths: Mapping[str, Truth], progress: Progress
) -> list[Conformance]:
    """Let every backend follow every case, and judge it."""

    def one(name: str, backend: type[Backend], bar: TaskID) -> Conformance:
        with tempfile.TemporaryDirectory() as folder:
            failure = _work("follow", name, backend, Path(folder), progress, bar)
            verdicts = [
                judge(case, dtype, np.load(file), truths[case])
                for dtype in backend.dtypes
                for case in CASES
                if (file := Path(folder, f"{dtype},{case}.npy")).exists()
            ]
        return Conformance(name, [], verdicts, failure)

    return _each(backends, lambda b: len(CASES) * len(b.dtypes), one, Conformance, progress)


def run_training(backends: Backends, progress: Progress) -> list[Learning]:
    """Let every backend that can train the task."""

    def one(name: str, backend: type[Backend], bar: TaskID) -> Learning:
        with tempfile.TemporaryDirectory() as folder:
            failure = _work("train", name, backend, Path(folder), progress, bar)
            trainings = {
                optimizer: Training(**json.loads(file.read_text()))
                for optimizer in backend.optimizers
                if (file := Path(folder, f"{optimizer}.json")).exists()
            }
        return Learning(name, [], trainings, failure)

    trainable = {name: b for name, b in backends.items() if b.optimizers}
    return _each(trainable, lambda b: Task().steps * len(b.optimizers), one, Learning, progress)


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


def _each(
    backends: Backends,
    total: Callable[[type[Backend]], int],
    one: Callable[[str, type[Backend], TaskID], Result],
    result: Callable[[str, list[str]], Result],
    progress: Progress,
) -> list[Result]:
    """Do a job for every backend that is installed, as many at a time as there are cores."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        futures = {}
        for name, backend in backends.items():
            if not backend.missing():
                bar = progress.add_task(name, total=total(backend), start=False)
                futures[name] = pool.submit(one, name, backend, bar)
        return [
            futures[name].result() if name in futures else result(name, backend.missing())
            for name, backend in backends.items()
        ]


def _work(
    job: str, name: str, backend: type[Backend], folder: Path, progress: Progress, bar: TaskID
) -> str | None:
    """Run a worker to its end; return why it did not do all its work, or None."""
    progress.start_task(bar)
    errors = []
    with tempfile.TemporaryFile("w+", errors="replace") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "innaprop_conformance.worker", job, name, str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **backend.environment},
        )
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                message = json.loads(line)
                if "error" in message:
                    errors.append(message["error"])
                else:
                    progress.update(bar, completed=message["done"])
        code = process.wait()
        stderr.seek(0)
        last = next((line for line in reversed(stderr.read().splitlines()) if line.strip()), "")
    if code:
        how = f"exit code {code}" if code > 0 else f"signal {-code}"
        return f"its process died with {how}: {last}"
    if errors:
        return errors[0] if len(errors) == 1 else f"{errors[0]} (and {len(errors) - 1} more)"
    return None
