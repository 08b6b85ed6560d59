"""A pytest plugin: deselects tests that fail without a mutant, and records which tests fail.

Loaded by ``-p innaprop_conformance.mutants.plugin``. Its environment variables name files with a
test per line: ``INNAPROP_MUTANTS_FAILED`` for tests that failed, which it writes, and
``INNAPROP_MUTANTS_LEFT_OUT`` for tests to deselect, which it reads.
"""

import os
from pathlib import Path
from typing import Any

FAILED, LEFT_OUT = "INNAPROP_MUTANTS_FAILED", "INNAPROP_MUTANTS_LEFT_OUT"


def pytest_collection_modifyitems(config: Any, items: list[Any]) -> None:
    """Deselect tests."""
    file = os.environ.get(LEFT_OUT)
    left_out = set(Path(file).read_text(encoding="utf-8").splitlines()) if file else set()
    gone = [item for item in items if item.nodeid in left_out]
    if gone:
        config.hook.pytest_deselected(items=gone)
        items[:] = [item for item in items if item.nodeid not in left_out]


def _note(name: str) -> None:
    if FAILED in os.environ:
        with open(os.environ[FAILED], "a", encoding="utf-8") as file:
            print(name, file=file)


def pytest_runtest_logreport(report: Any) -> None:
    """Record a test that failed."""
    if report.failed:
        _note(report.nodeid)


def pytest_collectreport(report: Any) -> None:
    """Record a file that could not be imported."""
    if report.failed:
        _note(report.nodeid)
