"""The results of a run, as an object and as a JSON file.

``schema/results.json`` describes the file. JSON has no infinities and NaNs: the file has null for
them, and null is read as infinity.
"""

import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema

from innaprop import __version__ as innaprop_version
from innaprop_conformance import __version__
from innaprop_conformance.backends import Backend
from innaprop_conformance.cases import Case
from innaprop_conformance.files import write_whole
from innaprop_conformance.judge import Verdict
from innaprop_conformance.training.task import Training

FORMAT = "innaprop-conformance-results"
VERSION = 3
_PLAIN = ("families", "seed", "unmatched", "made", "machine", "innaprop", "suite")
"""Fields of ``Results`` that the file holds as they are."""
_ERRORS = ("ulps", "relative", "floors", "tolerance_used", "bound")


@dataclass(frozen=True)
class Subject:
    """A backend that was chosen to run."""

    name: str
    versions: dict[str, str]
    """Versions of its distributions."""
    missing: list[str]
    """What it lacks to run here; empty if it ran."""
    trains: bool
    """Whether it can train the demo's network."""
    mode: str = "eager"
    """How it runs; see ``Backend.mode``."""

    @classmethod
    def of(cls, name: str, backend: type[Backend]) -> "Subject":
        """Return the description of a backend that has not run yet."""
        trains = bool(backend.optimizers)
        return cls(name, backend.versions(), backend.missing(), trains, backend.mode)


class Outcome(StrEnum):
    """The outcome of a case."""

    PASSED = "passed"
    FAILED = "failed"
    """It exceeded its tolerance."""
    ERROR = "error"
    """It has no verdict."""
    XFAILED = "failed as expected"
    """It exceeded its tolerance or has no verdict, which was expected."""
    XPASSED = "passed unexpectedly"
    """It passed, although it was expected to fail."""


@dataclass(frozen=True)
class Conformance:
    """The results of one backend in one dtype."""

    backend: str
    dtype: str
    asked: list[str]
    """Names of the cases that it had to run."""
    verdicts: list[Verdict] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)
    """Errors raised by single cases, which have no verdict; by case."""
    failure: str | None = None
    """Why the backend did not run all cases, or None."""
    not_applicable: dict[str, str] = field(default_factory=dict)
    """Why it runs no case of a family; by family."""
    seconds: dict[str, float] = field(default_factory=dict)
    """How long a case took; by case, for those that ran."""
    expected: dict[str, str] = field(default_factory=dict)
    """Why a case is expected to fail; by case."""
    strict: bool = True
    """Whether a case that passes although it is expected to fail is a failure."""

    @property
    def outcomes(self) -> dict[str, Outcome]:
        """The outcome of every case in ``asked``."""
        passed = {verdict.case: verdict.passed for verdict in self.verdicts}
        return {case: self._outcome(passed.get(case), case in self.expected) for case in self.asked}

    @property
    def passed(self) -> bool:
        """Whether every case passed, or failed as expected."""
        outcomes = self.outcomes.values()
        bad = {Outcome.FAILED, Outcome.ERROR, *([Outcome.XPASSED] if self.strict else [])}
        # A case that is expected to kill the process also costs the later cases their verdicts. So
        # a failure of the process counts by itself only if every case has a verdict.
        ended_well = self.failure is None or len(self.verdicts) < len(self.asked)
        return ended_well and bad.isdisjoint(outcomes)

    def counts(self, outcome: Outcome) -> int:
        """Return how many cases have an outcome."""
        return list(self.outcomes.values()).count(outcome)

    def why_no_verdict(self, case: str) -> str:
        """Return why a case in ``asked`` has no verdict."""
        return self.errors.get(case) or self.failure or "it returned neither a result nor an error"

    @staticmethod
    def _outcome(passed: bool | None, is_expected_to_fail: bool) -> Outcome:
        if is_expected_to_fail:
            return Outcome.XPASSED if passed else Outcome.XFAILED
        return {True: Outcome.PASSED, False: Outcome.FAILED, None: Outcome.ERROR}[passed]


def complaint(verdict: Verdict) -> str:
    """Return a sentence that says what is wrong with a trajectory, with case and dtype."""
    if verdict.reason:
        return f"{verdict.case} in {verdict.dtype}: {verdict.reason}"
    return (
        f"{verdict.case} in {verdict.dtype} exceeded its tolerance at update "
        f"{verdict.exceeded_at}; element {verdict.worst_element} was worst, at update "
        f"{verdict.worst_update}: {verdict.ulps:.3g} ulp off, "
        f"{verdict.tolerance_used:.3g} times what is allowed"
    )


@dataclass(frozen=True)
class Learning:
    """The results of the training in one backend."""

    backend: str
    trainings: dict[str, Training] = field(default_factory=dict)
    """By optimizer: "INNAprop", and "AdamW" if the framework has one."""
    failure: str | None = None
    """Why a training is missing, or None."""


@dataclass(frozen=True)
class Results:
    """All results of a run."""

    backends: list[Subject]
    conformance: list[Conformance] = field(default_factory=list)
    training: list[Learning] = field(default_factory=list)
    reference: Training | None = None
    """NumPy's training in float64; None if nothing was trained."""
    families: dict[str, list[str]] = field(default_factory=dict)
    """Names of the cases, by family."""
    seed: int = 0
    """Seed of the cases' values."""
    unmatched: list[str] = field(default_factory=list)
    """Expectations that match no case of any backend."""
    made: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    machine: str = field(
        default_factory=lambda: (
            f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
            f"Python {platform.python_version()}"
        )
    )
    innaprop: str = innaprop_version
    """The version of this project."""
    suite: str = __version__
    """The version of the suite."""

    @property
    def versions(self) -> dict[str, str]:
        """The versions of the suite, of this project and of all distributions involved."""
        every = {"innaprop-conformance": self.suite, "innaprop": self.innaprop}
        for subject in self.backends:
            every |= subject.versions
        return every


def by_family(cases: Mapping[str, Case]) -> dict[str, list[str]]:
    """Return the names of cases, by family."""
    families: dict[str, list[str]] = {}
    for case in cases.values():
        families.setdefault(case.family, []).append(case.name)
    return families


def write_results(path: Path, results: Results) -> None:
    """Write results as JSON; the write is atomic.

    Raises:
        OSError: The file cannot be written.
    """
    document = {"format": FORMAT, "version": VERSION, **_without_infinities(asdict(results))}
    write_whole(path, json.dumps(document, allow_nan=False) + "\n")


def read_results(path: Path) -> Results:
    """Read what ``write_results`` has written.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is not a file of results, or has another version.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} must be a JSON file: {error}") from error
    try:
        jsonschema.validate(document, schema())
    except jsonschema.ValidationError as error:
        raise ValueError(f"{path} must hold results: {error.message}, {error.json_path}") from error
    reference = document["reference"]
    return Results(
        backends=[Subject(**subject) for subject in document["backends"]],
        conformance=[
            Conformance(**{**c, "verdicts": [_verdict(v) for v in c["verdicts"]]})
            for c in document["conformance"]
        ],
        training=[
            Learning(
                t["backend"], {k: _training(v) for k, v in t["trainings"].items()}, t["failure"]
            )
            for t in document["training"]
        ],
        reference=None if reference is None else _training(reference),
        **{key: document[key] for key in _PLAIN},
    )


def schema() -> Any:
    """Return the JSON schema of a file of results."""
    text = files("innaprop_conformance").joinpath("schema/results.json").read_text("utf-8")
    return json.loads(text)


def _verdict(document: Mapping[str, Any]) -> Verdict:
    numbers = {key: _number(document[key]) for key in _ERRORS}
    errors = tuple(_number(error) for error in document["errors"])
    return Verdict(**{**document, **numbers, "errors": errors})


def _training(document: Mapping[str, Any]) -> Training:
    return Training([_number(loss) for loss in document["losses"]], document["accuracy"])


def _number(value: float | None) -> float:
    return math.inf if value is None else value


def _without_infinities(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _without_infinities(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_without_infinities(item) for item in value]
    return value
