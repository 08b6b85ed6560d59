"""Which lines a process comes by, and those that it starts."""

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
"""Line numbers by file, as a mutant's file is given."""


class Trace:
    """What is noted of processes that get ``environment``.

    Args:
        folder: An empty one, for what they write.
        packages: Folders of the packages whose lines are noted, by name.
        path: Folders for ``PYTHONPATH``. Default: this process's own.
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
        """Variables of the processes to be traced."""

    def lines(self) -> Lines:
        """Return which lines were run until now."""
        found: dict[str, set[int]] = {}
        for notes in self._notes.iterdir():
            # The last line may be cut off.
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
    """Note lines inside; what was noted is gone afterwards. Arguments as for ``Trace``."""
    with tempfile.TemporaryDirectory() as folder:
        yield Trace(Path(folder).resolve(), packages, path)


def places_of(packages: frozenset[str]) -> dict[str, Path]:
    """Return the folders of packages by name."""
    return {name: folder_of(name) for name in sorted(packages)}


def is_reached(mutant: Mutant, lines: Lines) -> bool:
    """Return whether lines that were run are those of a mutant."""
    return not mutant.change.lines.isdisjoint(lines.get(mutant.file, ()))
