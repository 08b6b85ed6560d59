"""The project's tests as a judge of mutants."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from innaprop_conformance.mutants.checkout import Checkout
from innaprop_conformance.mutants.mutant import Mutant
from innaprop_conformance.mutants.plan import Run
from innaprop_conformance.mutants.reach import Lines, is_reached, traced

BASELINE = 1800.0
"""Seconds that a test file may take without a mutant."""
PATIENCE, GRACE = 3.0, 60.0
"""Tests hang if they take longer than this factor times their usual time, plus these seconds."""


@dataclass(frozen=True)
class File:
    """A test file, measured without a mutant."""

    path: str
    """Path relative to the checkout."""
    run: str
    """Name of its run."""
    seconds: float
    failed: list[str]
    """Names of tests that fail without a mutant, and are deselected."""
    lines: Lines
    """Lines that it executes, including those of processes that it starts."""


def files_of(run: Run, checkout: Checkout) -> list[str]:
    """Return a run's test files.

    Raises:
        ValueError: A folder has none.
    """
    found = []
    for folder in run.folders:
        place = checkout.copy / folder
        files = [place] if place.is_file() else sorted(place.rglob("test_*.py"))
        if not files:
            raise ValueError(f"{run.name} must have test files, got none in {folder}")
        found += [str(file.relative_to(checkout.copy)) for file in files]
    return found


def without_mutant(path: str, run: Run, checkout: Checkout) -> File:
    """Run a test file without a mutant; measure its line coverage, and find tests that fail."""
    begin = time.monotonic()
    with traced(checkout.packages, checkout.path) as trace:
        ran = checkout.run([path], {**run.environment, **trace.environment}, BASELINE)
        lines = trace.lines()
    seconds = time.monotonic() - begin
    if not ran.passed:
        # Some tests fail only while they are traced.
        ran = checkout.run([path], run.environment, BASELINE)
    failed = [] if ran.passed else ran.failed or [path]
    return File(path, run.name, round(seconds, 1), failed, lines)


def judged(
    mutant: Mutant, run: Run, files: Sequence[File], checkout: Checkout, seconds: float
) -> dict[str, Any]:
    """Run the tests that execute a mutant, short ones first, until one fails.

    Args:
        mutant: The mutant.
        run: The run of tests.
        files: Its test files that execute the mutant.
        checkout: The copy of the checkout in which they run.
        seconds: Time after which the tests are killed.

    Returns:
        "caught", a text or None; "late", a text or None; "seconds".
    """
    ordered = sorted(files, key=lambda file: file.seconds)
    hangs = PATIENCE * sum(file.seconds for file in files) + GRACE
    left_out = [name for file in files for name in file.failed]
    begin = time.monotonic()
    checkout.seed(mutant)
    try:
        paths = [file.path for file in ordered if file.path not in left_out]
        if not paths:
            return {"caught": None, "late": None, "seconds": 0.0}
        ran = checkout.run(paths, run.environment, min(hangs, seconds), left_out, ["-x"])
    finally:
        checkout.heal(mutant)
    caught, late = None, None
    if ran.code is None and hangs <= seconds:
        caught = f"no end in {hangs:.0f} s"
    elif ran.code is None:
        late = f"not caught in {seconds:.0f} s"
    elif not ran.passed:
        caught = (ran.failed or [f"exit code {ran.code}"])[0]
    return {"caught": caught, "late": late, "seconds": round(time.monotonic() - begin, 1)}


def covering_runs(
    mutant: Mutant, files: Sequence[File], runs: Mapping[str, Run], unseen: Sequence[str]
) -> Iterator[tuple[Run, list[File]]]:
    """Yield the runs whose tests execute a mutant, with their files; the shortest first.

    Args:
        mutant: The mutant.
        files: All test files.
        runs: Runs of tests to choose from, by name.
        unseen: Test files that execute the mutant although their coverage does not show it.
    """
    of: dict[str, list[File]] = {}
    for file in files:
        if file.run in runs and (is_reached(mutant, file.lines) or file.path in unseen):
            of.setdefault(file.run, []).append(file)
    for name in sorted(of, key=lambda name: sum(file.seconds for file in of[name])):
        yield runs[name], of[name]
