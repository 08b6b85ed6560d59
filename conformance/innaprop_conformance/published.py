"""Results as rows of a documentation table, and as badges."""

from collections.abc import Sequence
from dataclasses import dataclass

from innaprop_conformance.results import Conformance, Outcome, Results, Subject

COLUMNS = ("backend", "dtype", "versions", "cases passed", "allowed error used", "date", "suite")


@dataclass(frozen=True)
class _Found:
    """A backend that ran, with its results."""

    subject: Subject
    conformance: list[Conformance]
    results: Results


def table_rows(every: Sequence[Results]) -> list[tuple[str, ...]]:
    """Return a row, of ``COLUMNS``, per dtype of each backend that ran.

    Args:
        every: Results of runs. If a backend is in several, the last one counts.
    """
    return [
        (
            found.subject.name,
            conformance.dtype,
            ", ".join(f"{name} {number}" for name, number in found.subject.versions.items()),
            _passed([conformance]),
            f"{max((v.tolerance_used for v in conformance.verdicts), default=float('inf')):.2g}",
            found.results.made[:10],
            found.results.suite,
        )
        for found in _ran(every).values()
        for conformance in found.conformance
        if conformance.asked
    ]


def badges(results: Results) -> dict[str, dict[str, str | int]]:
    """Return, by backend, the JSON that shields.io's endpoint badge expects.

    Green: every case passed. Yellow: all failures were expected. Red: some were not. Grey: the
    backend did not run.
    """
    ran = _ran([results])
    made: dict[str, dict[str, str | int]] = {}
    for subject in results.backends:
        message, color = "not run", "lightgrey"
        if subject.name in ran:
            conformance = ran[subject.name].conformance
            message = _passed(conformance)
            expected = any(c.counts(Outcome.XFAILED) for c in conformance)
            color = "yellow" if expected else "brightgreen"
            color = color if all(c.passed for c in conformance) else "red"
        made[subject.name] = {
            "schemaVersion": 1,
            "label": f"INNAprop conformance {results.suite}",
            "message": message,
            "color": color,
        }
    return made


def _ran(every: Sequence[Results]) -> dict[str, _Found]:
    found = {}
    for results in every:
        for subject in results.backends:
            of = [c for c in results.conformance if c.backend == subject.name and c.asked]
            if of and not subject.missing:
                found[subject.name] = _Found(subject, of, results)
    return found


def _passed(conformance: Sequence[Conformance]) -> str:
    """Return how many of the cases passed, failed as expected, and passed unexpectedly."""
    asked = sum(len(c.asked) for c in conformance)
    passed = sum(sum(v.passed for v in c.verdicts) for c in conformance)
    expected = sum(c.counts(Outcome.XFAILED) for c in conformance)
    surprising = sum(c.counts(Outcome.XPASSED) for c in conformance)
    parts = [f"{passed}/{asked}"]
    parts += [f"{expected} expected to fail"] if expected else []
    parts += [f"{surprising} passed unexpectedly"] if surprising else []
    return ", ".join(parts)
