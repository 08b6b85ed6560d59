"""The suite as tests, with ``-p innaprop_conformance.pytest_plugin --backend NAME`` or of all.

A test per backend, dtype and case. A backend runs once, when its first test does, in a process of
its own.
"""

from functools import cache
from typing import Any

from rich.console import Console

from innaprop_conformance.backends import load_backends
from innaprop_conformance.cases import Case, select
from innaprop_conformance.results import Conformance
from innaprop_conformance.runner import find_truths, progress_bars, run_cases


def pytest_generate_tests(metafunc: Any) -> None:
    """Make a test of every case that a chosen backend follows."""
    names = metafunc.config.getoption("innaprop_backend", [])
    families = tuple(metafunc.config.getoption("innaprop_family", []))
    backends = load_backends()
    if unknown := set(names) - backends.keys():
        raise ValueError(
            f"--backend must be one of {', '.join(backends)}, got {', '.join(sorted(unknown))}"
        )
    arguments = []
    for name, backend in backends.items():
        if name in names or not (names or backend.missing() or backend.load_error):
            arguments += [
                (name, families, dtype, case)
                for dtype in backend.dtypes
                for case in backend.asked(select(families, 0), dtype)
            ]
    metafunc.parametrize(
        ("backend", "families", "dtype", "case"),
        arguments,
        ids=[f"{name}-{dtype}-{case}" for name, _, dtype, case in arguments],
    )


def test_follows_the_ground_truth(
    backend: str, families: tuple[str, ...], dtype: str, case: str
) -> None:
    """The trajectory stays within what its dtype explains."""
    conformance = _results(backend, families)[dtype]
    verdict = next((v for v in conformance.verdicts if v.case == case), None)
    assert verdict is not None, conformance.failure
    assert verdict.passed, (
        f"left its corridor at update {verdict.left_at}; at its worst, element "
        f"{verdict.worst_element} after update {verdict.worst_update} was {verdict.ulps:.3g} ulp "
        f"off, and {verdict.corridor:.3g} times what is allowed was used"
    )


@cache
def _results(name: str, families: tuple[str, ...]) -> dict[str, Conformance]:
    backend = load_backends()[name]
    missing = backend.load_error or ", ".join(backend.missing())
    assert not missing, f"{name} cannot run here: {missing}"
    cases: dict[str, Case] = select(families, 0)
    with progress_bars(Console(quiet=True)) as progress:
        truths = find_truths({name: backend}, cases, progress)
        results = run_cases({name: backend}, cases, truths, progress)
    return {conformance.dtype: conformance for conformance in results}
