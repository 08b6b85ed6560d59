"""Line coverage of a process and of the processes that it starts."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from innaprop_conformance.faults.seeding import folder_of
from innaprop_conformance.mutants import tracer
from innaprop_conformance.mutants.mutant import Mutant

Lines = dict[str, list[int]]
"""Line numbers by file, with paths as in ``Mutant.file``."""


class Trace:
    """The line coverage of processes that are started with ``environment``.

    Args:
        folder: An empty folder, to which they write.
        packages: Folders of the packages whose lines are recorded, by name.
        path: ``PYTHONPATH`` of the processes. Default: that of this process.
    """

    def __init__(self, folder: Path, packages: Mapping[str, Path], path: str | None = None) -> None:
        self._packages = {name: Path(place).resolve() for name, place in packages.items()}
        self._notes = folder / "notes"
        self._notes.mkdir()
        begins = folder / "begins"
        begins.mkdir()
        assert tracer.__file__ is not None
        shutil.copy(tracer.__file__, begins / "sitecustomize.py")
        inherited = os.environ.get("PYTHONPATH", "") if path is None else path
        self.environment = {
            tracer.FOLDER: str(self._notes),
            tracer.ROOTS: os.pathsep.join(f"{place}{os.sep}" for place in self._packages.values()),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(begins), inherited])),
        }
        """Environment variables of the processes to trace."""

    def lines(self) -> Lines:
        """Return the lines executed so far."""
        found: dict[str, set[int]] = {}
        for notes in self._notes.iterdir():
            # The last line may be incomplete.
            for note in notes.read_text().splitlines(keepends=True):
                path, _, line = note.partition("\t")
                if line.endswith("\n"):
                    found.setdefault(self._file(Path(path)), set()).add(int(line))
        return {file: sorted(lines) for file, lines in sorted(found.items())}

    def _file(self, path: Path) -> str:
        for name, place in self._packages.items():
            if path.is_relative_to(place):
                return f"{name}/{path.relative_to(place).as_posix()}"
        return str(path)


@contextmanager
def traced(packages: Mapping[str, Path], path: str | None = None) -> Iterator[Trace]:
    """Return a context with a ``Trace`` in a temporary folder; arguments as for ``Trace``."""
    with tempfile.TemporaryDirectory() as folder:
        yield Trace(Path(folder).resolve(), packages, path)


def places_of(packages: frozenset[str]) -> dict[str, Path]:
    """Return the folders of packages, by name."""
    return {name: folder_of(name) for name in sorted(packages)}


def is_reached(mutant: Mutant, lines: Lines) -> bool:
    """Return whether the executed lines cover a mutant."""
    return not mutant.change.lines.isdisjoint(lines.get(mutant.file, ()))
