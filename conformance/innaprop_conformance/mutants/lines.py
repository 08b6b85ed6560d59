"""Line coverage of backends and test files, cached until sources change."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from innaprop_conformance.backends import Backend
from innaprop_conformance.faults.seeding import OURS, folder_of
from innaprop_conformance.files import write_whole
from innaprop_conformance.mutants.checkout import Checkout
from innaprop_conformance.mutants.plan import Run
from innaprop_conformance.mutants.reach import Lines
from innaprop_conformance.mutants.suite import reach_of
from innaprop_conformance.mutants.tests import File, files_of, without_mutant


class KeptLines:
    """A cache of line coverage in a file.

    Args:
        file: The cache file.
        packages: The packages that are mutated.
        told: Called with a line of text for every measurement.
    """

    def __init__(self, file: Path, packages: frozenset[str], told: Callable[[str], None]) -> None:
        self._file, self._packages, self._told = file, packages, told
        self._kept: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}

    def of_backend(self, name: str, backend: type[Backend]) -> Lines:
        """Return the lines that a backend executes.

        Raises:
            RuntimeError: Its process died.
        """
        sources = [path for package in OURS for path in _sources(folder_of(package))]
        key = f"{name} {_hash(sources)}"
        if key not in self._kept:
            self._told(f"measuring the line coverage of {name}")
            self._keep(key, reach_of(name, backend, self._packages))
        lines: Lines = self._kept[key]
        return lines

    def of_tests(self, run: Run, checkout: Checkout) -> list[File]:
        """Return a run's test files, with the lines that they execute."""
        sources = [p for name in sorted(self._packages) for p in _sources(folder_of(name))]
        code = _hash(sources)
        found = []
        for path in files_of(run, checkout):
            beside = [checkout.copy / path, *(checkout.copy / path).parent.glob("conftest.py")]
            key = f"{run.name} {path} {code} {_hash(beside)}"
            if key not in self._kept:
                self._told(f"measuring the line coverage of {path} ({run.name})")
                self._keep(key, asdict(without_mutant(path, run, checkout)))
            found.append(File(**self._kept[key]))
        return found

    def _keep(self, key: str, value: Any) -> None:
        self._kept[key] = value
        write_whole(self._file, json.dumps(self._kept))


def _sources(folder: Path) -> list[Path]:
    # Without the packages that only make and judge mutants and faults.
    found = (p for p in folder.rglob("*") if not {"mutants", "faults"} & set(p.parts))
    return sorted(path for path in found if path.suffix in (".py", ".c") and path.is_file())


def _hash(files: Sequence[Path]) -> str:
    parts = hashlib.sha256()
    for file in files:
        parts.update(file.read_bytes())
    return parts.hexdigest()[:16]
