"""One change of one file, with a stable id."""

import hashlib
import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from innaprop_conformance.faults.fault import Edit, Fault
from innaprop_conformance.faults.seeding import folder_of
from innaprop_conformance.mutants.operators import Change, apply, changes
from innaprop_conformance.mutants.plan import Target
from innaprop_conformance.mutants.tokens import changes_in_c


@dataclass(frozen=True)
class Mutant:
    """A change of a source, which the judges should catch."""

    id: str
    """Hash of the file's text and the change."""
    target: str
    """Name of the target."""
    file: str
    """Path relative to the folder on ``sys.path``."""
    change: Change

    def fault(self, backend: str) -> Fault:
        """Return it as a fault, for which any exception counts as a catch."""
        edit = Edit(self.file, self.change.old, self.change.new, self.change.line)
        return Fault(self.id, (backend,), (edit,), raises="")


def mutants_of(target: Target) -> list[Mutant]:
    """Return all mutants of a target's files, ordered by file and line.

    Raises:
        ValueError: A package cannot be imported, or no file matches a pattern.
    """
    return [mutant for file in _files(target) for mutant in _of(target.name, file)]


def _of(target: str, file: str) -> Iterator[Mutant]:
    text = path_of(file).read_text(encoding="utf-8")
    find = changes if file.endswith(".py") else changes_in_c
    for change in find(text):
        key = json.dumps([text, change.line, change.old, change.new])
        yield Mutant(hashlib.sha256(key.encode()).hexdigest()[:12], target, file, change)


def path_of(file: str) -> Path:
    """Return the path of a file that is given relative to the folder on ``sys.path``."""
    package, _, rest = file.partition("/")
    return folder_of(package) / rest


def compiles(mutant: Mutant, command: Sequence[str]) -> bool:
    """Return whether the changed file compiles.

    Args:
        mutant: The mutant.
        command: A command that gets the path of the file as its last argument, and fails if it
            does not compile. Empty for Python.
    """
    path = path_of(mutant.file)
    if not command:
        try:
            compile(apply(path.read_text(encoding="utf-8"), mutant.change), path.name, "exec")
        except (SyntaxError, ValueError):
            return False
        return True
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, path.name)
        file.write_text(apply(path.read_text(encoding="utf-8"), mutant.change), encoding="utf-8")
        return not subprocess.run([*command, str(file)], capture_output=True).returncode


def _files(target: Target) -> list[str]:
    files: dict[str, None] = {}
    for pattern in target.files:
        package, _, rest = pattern.partition("/")
        folder = folder_of(package)
        found = sorted(f"{package}/{p.relative_to(folder).as_posix()}" for p in folder.glob(rest))
        if not found:
            raise ValueError(f"{target.name} must have files, got none for {pattern!r}")
        files |= dict.fromkeys(found)
    return [file for file in files if file not in target.without]
