"""Results as JUnit XML, for continuous integration services."""

from pathlib import Path

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from innaprop_conformance.files import write_whole
from innaprop_conformance.results import Conformance, Outcome, Results, complaint


def write_junit(path: Path, results: Results) -> None:
    """Write a test suite per backend, with a timed test per case and dtype.

    A case without a verdict is an error, with its reason. An expected failure is a skipped test,
    and so are a backend that cannot run here and a family of which the backend runs no case. An
    unexpected pass is a failure if expectations are strict.

    Args:
        path: File to write; the write is atomic.
        results: Results of a run.

    Raises:
        OSError: The file cannot be written.
    """
    xml = JUnitXml("innaprop-conformance")
    for subject in results.backends:
        suite = TestSuite(subject.name)
        suite.timestamp = results.made
        for name, version in results.versions.items():
            suite.add_property(name, version)
        suite.add_property("seed", str(results.seed))
        if subject.missing:
            needs = f"needs {', '.join(subject.missing)}"
            suite.add_testcase(_case(subject.name, "runs", Skipped(needs)))
        for found in results.conformance:
            if found.backend == subject.name:
                suite.add_testcases(_tests(found))
        xml.add_testsuite(suite)
    xml.update_statistics()
    write_whole(path, xml.tostring().decode())


def _tests(found: Conformance) -> list[TestCase]:
    where = f"{found.backend}.{found.dtype}"
    tests = [
        _case(where, case, _problem(found, case, outcome), found.seconds.get(case, 0.0))
        for case, outcome in found.outcomes.items()
    ]
    if found.failure and len(found.verdicts) == len(found.asked):
        tests.append(_case(where, "its process ends well", Error(found.failure)))
    tests += [
        _case(where, family, Skipped(f"not applicable: {reason}"))
        for family, reason in found.not_applicable.items()
    ]
    return tests


def _problem(found: Conformance, name: str, outcome: Outcome) -> Error | Failure | Skipped | None:
    match outcome:
        case Outcome.FAILED:
            return Failure(complaint(next(v for v in found.verdicts if v.case == name)))
        case Outcome.ERROR:
            return Error(f"{name} in {found.dtype}: {found.why_no_verdict(name)}")
        case Outcome.XFAILED:
            return Skipped(f"fails as expected: {found.expected[name]}")
        case Outcome.XPASSED if found.strict:
            expected = found.expected[name]
            return Failure(f"{name} in {found.dtype} passed although expected to fail: {expected}")
    return None


def _case(
    where: str, name: str, problem: Error | Failure | Skipped | None, seconds: float = 0.0
) -> TestCase:
    case = TestCase(name, classname=where, time=seconds)
    if problem is not None:
        case.result = [problem]
    return case
