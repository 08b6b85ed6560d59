"""What a fault is, and how a file of faults is read."""

import tomllib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Edit:
    """A text of a source file, and what a fault puts in its place."""

    file: str
    """Path below the folder that is on ``sys.path``: ``innaprop/torch/kernel.c``."""
    old: str
    """What the file has there, exactly once if no line is given."""
    new: str
    """What the fault puts there."""
    line: int | None = None
    """The line that ``old`` begins at the start of, 1 for the first: for what stands in the file
    more than once. Default None."""


@dataclass(frozen=True)
class Fault:
    """One mistake that somebody could make in an adapter."""

    name: str
    """What is wrong, in a few words."""
    backends: tuple[str, ...]
    """Names of the backends that run the faulty lines, each of which has to catch it."""
    edits: tuple[Edit, ...]
    """How the source is changed: by one edit, mostly."""
    cases: tuple[str, ...] = ()
    """Names of cases to try before all others."""
    raises: str | None = None
    """Part of the message with which the backend itself refuses the faulty adapter; empty: of
    any. Where it is missing, an exception is a mistake in the fault."""

    @property
    def packages(self) -> set[str]:
        """The packages whose sources are changed."""
        return {edit.file.partition("/")[0] for edit in self.edits}

    def touches(self, file: str) -> bool:
        """Return whether it is in a file, given with or without the folder on ``sys.path``."""
        return any(f"/{file}".endswith(f"/{edit.file}") for edit in self.edits)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, of which ``from_dict`` makes it again."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Fault":
        """Return the fault of plain data.

        Args:
            values: The fields by name; one edit's may stand for ``edits``.

        Raises:
            TypeError: A field is missing, or not known.
        """
        values = dict(values)
        edits = values.pop("edits", None)
        if edits is None:
            names = ("file", "old", "new", "line")
            edits = [{key: values.pop(key) for key in names if key in values}]
        for name in ("backends", "cases"):
            values[name] = tuple(values.get(name, ()))
        return cls(**values, edits=tuple(Edit(**edit) for edit in edits))


def read_faults(paths: Iterable[Path]) -> list[Fault]:
    """Return the faults of files.

    Args:
        paths: TOML files, and folders of such.

    Raises:
        ValueError: A file is no TOML, an entry is not of a fault's form, or two faults of one
            backend have one name.
    """
    files = [file for path in paths for file in (sorted(path.glob("*.toml")) or [path])]
    faults: list[Fault] = []
    seen: set[tuple[str, str]] = set()
    for file in files:
        try:
            entries = tomllib.loads(file.read_text(encoding="utf-8"))["fault"]
            found = [Fault.from_dict(entry) for entry in entries]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{file} must hold faults: {error}") from error
        for fault in found:
            pairs = {(fault.name, backend) for backend in fault.backends}
            if not pairs or pairs & seen:
                raise ValueError(
                    f"{file}: every fault must have backends, and a name of its own among the "
                    f"faults of each, got {fault.name!r} for {fault.backends}"
                )
            seen |= pairs
        faults += found
    return faults
