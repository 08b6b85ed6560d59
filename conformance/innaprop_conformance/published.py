"""What results look like in other places: a row each in a page, a badge each in a README."""

from collections.abc import Sequence
from dataclasses import dataclass

from innaprop_conformance.results import Conformance, Outcome, Results, Subject

COLUMNS = ("backend", "dtype", "versions", "cases passed", "allowed error used", "date", "suite")


@dataclass(frozen=True)
class _Found:
    """A backend that ran, and the results that it is in."""

    subject: Subject
    conformance: list[Conformance]
    results: Results


def table_rows(every: Sequence[Results]) -> list[tuple[str, ...]]:
    """Return a row per backend that ran and dtype, of ``COLUMNS``.

    Args:
        every: Results of runs. Of a backend that is in several the last ones count.
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
    """Return by backend an answer for the endpoint badge of shields.io.

    Green: every case passed. Yellow: some failed as expected. Red: others failed. Grey: it did
    not run.
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
    """Return how many cases of how many passed, and what was expected of others."""
    asked = sum(len(c.asked) for c in conformance)
    passed = sum(sum(v.passed for v in c.verdicts) for c in conformance)
    expected = sum(c.counts(Outcome.XFAILED) for c in conformance)
    surprising = sum(c.counts(Outcome.XPASSED) for c in conformance)
    parts = [f"{passed}/{asked}"]
    parts += [f"{expected} expected to fail"] if expected else []
    parts += [f"{surprising} passed unexpectedly"] if surprising else []
    return ", ".join(parts)
