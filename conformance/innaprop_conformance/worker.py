"""The worker process of one backend: ``python -m innaprop_conformance.worker JOB BACKEND FOLDER``.

It writes its results to files in FOLDER. It answers ``{"case": name, "dtype": name}`` before every
case, ``{"seconds": s, "error": text or null}`` after it, and ``{"done": n}`` after every case or
training step.
"""

import json
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from innaprop_conformance.backends import Backend, load_backend
from innaprop_conformance.backends.protocol import followed
from innaprop_conformance.cases import Case
from innaprop_conformance.processes import Message, answers
from innaprop_conformance.training.task import Task

Say = Callable[[Message], None]


def follow_cases(backend: Backend, folder: Path, say: Say) -> None:
    """Run the cases of ``cases.json`` that the backend supports.

    Each trajectory is saved to ``DTYPE,CASE.npy``. If the run broke a promise, it is described in
    ``DTYPE,CASE.reason``.
    """
    document = json.loads((folder / "cases.json").read_text())
    cases = {case.name: case for case in map(Case.from_json, document)}
    done = 0
    for dtype in backend.dtypes:
        for case in backend.asked(cases, dtype).values():
            say({"case": case.name, "dtype": dtype})
            begun, failure = time.perf_counter(), None
            try:
                theta, reason = followed(backend, case, dtype)
                if reason:
                    (folder / f"{dtype},{case.name}.reason").write_text(reason, encoding="utf-8")
                np.save(folder / f"{dtype},{case.name}.npy", theta)
            except Exception as error:
                traceback.print_exc()
                failure = f"{type(error).__name__}: {error}"
            say({"seconds": round(time.perf_counter() - begun, 3), "error": failure})
            done += 1
            say({"done": done})


def train_task(backend: Backend, folder: Path, say: Say) -> None:
    """Train the task with every optimizer of the backend; save each to ``OPTIMIZER.json``."""
    task = Task()
    before = 0

    def progress(done: int) -> None:
        say({"done": before + done})

    for optimizer in backend.optimizers:
        training = backend.train(task, optimizer, progress)
        before += task.steps
        (folder / f"{optimizer}.json").write_text(json.dumps(asdict(training)))


JOBS: dict[str, Callable[[Backend, Path, Say], None]] = {
    "follow": follow_cases,
    "train": train_task,
}


def main() -> None:
    """Run the job named on the command line."""
    job, name, folder = sys.argv[1:]
    JOBS[job](load_backend(name)(), Path(folder), answers())


if __name__ == "__main__":
    main()
