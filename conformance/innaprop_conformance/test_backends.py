"""The suite as pytest tests: ``-p innaprop_conformance.pytest_plugin --backend NAME``.

There is a test per backend, dtype and case. A backend runs all its cases at once, in its own
process, when its first test starts.
"""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from innaprop_conformance.backends import load_backends
from innaprop_conformance.cases import Case, select
from innaprop_conformance.expectations import read_expectations
from innaprop_conformance.progress import progress_bars
from innaprop_conformance.results import Conformance, complaint
from innaprop_conformance.runner import TIMEOUT, find_truths, run_cases


def pytest_generate_tests(metafunc: Any) -> None:
    """Parametrize the test with every case that a chosen backend runs."""
    option = metafunc.config.getoption
    names = option("innaprop_backend", [])
    families = tuple(option("innaprop_family", []))
    timeout = option("innaprop_timeout", None) or TIMEOUT
    expectations = read_expectations(map(Path, option("innaprop_xfails", [])))
    backends = load_backends(names)
    if unknown := set(names) - backends.keys():
        raise ValueError(
            f"--backend must be one of {', '.join(backends)}, or MODULE:CLASS, "
            f"got {', '.join(sorted(unknown))}"
        )
    tests = []
    for name, backend in backends.items():
        if name in names or not (names or backend.missing() or backend.load_error):
            for dtype in backend.dtypes:
                for case in backend.asked(select(families, 0), dtype):
                    reasons = [e.reason for e in expectations if e.matches(name, dtype, case)]
                    marks = [pytest.mark.xfail(reason=why, strict=True) for why in reasons[:1]]
                    values = (name, families, timeout, dtype, case)
                    tests.append(pytest.param(*values, marks=marks, id=f"{name}-{dtype}-{case}"))
    if not tests:
        raise ValueError("nothing to run: no chosen backend follows a case of a chosen family")
    metafunc.parametrize(("backend", "families", "timeout", "dtype", "case"), tests)


def test_follows_the_ground_truth(
    backend: str, families: tuple[str, ...], timeout: float, dtype: str, case: str
) -> None:
    """The trajectory stays within the tolerance of its dtype."""
    conformance = _results(backend, families, timeout)[dtype]
    verdict = next((v for v in conformance.verdicts if v.case == case), None)
    assert verdict is not None, f"{case} in {dtype}: {conformance.why_no_verdict(case)}"
    assert verdict.passed, complaint(verdict)


@cache
def _results(name: str, families: tuple[str, ...], timeout: float) -> dict[str, Conformance]:
    backend = load_backends([name])[name]
    missing = backend.load_error or ", ".join(backend.missing())
    assert not missing, f"{name} cannot run here: {missing}"
    cases: dict[str, Case] = select(families, 0)
    with progress_bars(Console(quiet=True)) as progress:
        truths = find_truths({name: backend}, cases, progress)
        results = run_cases({name: backend}, cases, truths, progress, timeout=timeout)
    return {conformance.dtype: conformance for conformance in results}
