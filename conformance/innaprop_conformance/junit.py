"""Verdicts as JUnit XML, which continuous integration services read."""

from pathlib import Path

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from innaprop_conformance.files import write_whole
from innaprop_conformance.results import Results


def write_junit(path: Path, results: Results) -> None:
    """Write a test suite per backend, with a test per case and dtype.

    A case without verdict is an error, with the backend's reason; a backend that cannot run
    here is a skipped test, and so is a family of which it follows no case.

    Args:
        path: Where to write it; the file appears whole or not at all.
        results: What a run has found.

    Raises:
        OSError: The file cannot be written.
    """
    xml = JUnitXml("innaprop-conformance")
    for subject in results.backends:
        suite = TestSuite(subject.name)
        suite.timestamp = results.made
        for name, version in results.versions.items():
            suite.add_property(name, version)
        if subject.missing:
            needs = f"needs {', '.join(subject.missing)}"
            suite.add_testcase(_case(subject.name, "runs", Skipped(needs)))
        for found in results.conformance:
            if found.backend != subject.name:
                continue
            for verdict in found.verdicts:
                problem = None
                if not verdict.passed:
                    problem = Failure(
                        f"left its corridor at update {verdict.left_at}: the largest error is "
                        f"{verdict.corridor:.3g} of what is allowed, {verdict.relative:.3g} of the "
                        f"distance moved"
                    )
                suite.add_testcase(_case(f"{subject.name}.{found.dtype}", verdict.case, problem))
            for family, reason in found.not_applicable.items():
                where = f"{subject.name}.{found.dtype}"
                suite.add_testcase(_case(where, family, Skipped(f"not applicable: {reason}")))
            if found.failure:
                where = f"{subject.name}.{found.dtype}"
                suite.add_testcase(_case(where, "every case has a verdict", Error(found.failure)))
        xml.add_testsuite(suite)
    xml.update_statistics()
    write_whole(path, xml.tostring().decode())


def _case(where: str, name: str, problem: Error | Failure | Skipped | None) -> TestCase:
    case = TestCase(name, classname=where)
    if problem is not None:
        case.result = [problem]
    return case
