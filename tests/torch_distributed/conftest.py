"""Two processes, started once for all tests of this folder."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

PROGRAM = Path(__file__).with_name("program.py")
RANKS = ("rank0", "rank1")
SECONDS = 120
"""What all processes together may take, whatever happens in them."""


def run_all(folder, phase, deadline):
    """Run both ranks to their end; return their results, and those of a single process."""
    processes, logs = [], [folder / f"{phase}-{name}.log" for name in RANKS]
    try:
        for name, log in zip(RANKS, logs, strict=True):
            with log.open("wb") as file:
                command = [sys.executable, str(PROGRAM), str(folder), phase, name]
                processes.append(subprocess.Popen(command, stdout=file, stderr=file))
        while any(process.poll() is None for process in processes):
            failed = any(process.poll() for process in processes)
            if failed or time.monotonic() > deadline:
                break
            time.sleep(0.05)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    codes = [process.returncode for process in processes]
    text = "\n".join(log.read_text() for log in logs)
    assert codes == [0, 0], f"{phase}: exit codes {codes} of {RANKS}\n{text}"
    # Files that these processes have just written.
    return [
        torch.load(folder / f"{phase}-{name}.pt", weights_only=False) for name in (*RANKS, "alone")
    ]


@pytest.fixture(scope="session")
def outcomes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    deadline = time.monotonic() + SECONDS
    phases = [run_all(folder, phase, deadline) for phase in ("train", "resume")]
    return [train | resume for train, resume in zip(*phases, strict=True)]


@pytest.fixture(scope="session")
def pair(outcomes):
    """The results that a job of the two ranks has left; a failed one fails the test."""

    def get(job):
        results = [of_rank[job] for of_rank in outcomes[:2]]
        for result in results:
            if isinstance(result, str):
                pytest.fail(f"{job}:\n{result}")
        return results

    return get


@pytest.fixture(scope="session")
def alone(outcomes):
    """The result that a job of the single process has left; a failed one fails the test."""

    def get(job):
        result = outcomes[2][job]
        if isinstance(result, str):
            pytest.fail(f"{job}:\n{result}")
        return result

    return get


def flat(tensors):
    return torch.cat([t.double().flatten() for t in tensors])


@pytest.fixture(scope="session")
def joined():
    """A function that puts together, end to end, what two ranks hold of each tensor."""
    return lambda first, second: flat(map(torch.cat, zip(first, second, strict=True)))


@pytest.fixture(scope="session")
def error():
    """A function of the distance to the truth, relative to the distance that led there."""

    def of(end, truth, start):
        end, truth, start = (flat(t) if isinstance(t, list) else t for t in (end, truth, start))
        return float((end - truth).norm() / (truth - start).norm())

    return of
