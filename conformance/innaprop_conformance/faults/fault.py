"""Faults, and the TOML files that describe them."""

import tomllib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Edit:
    """The replacement of a text in a source file."""

    file: str
    """Path relative to the folder on ``sys.path``: ``innaprop/torch/kernel.c``."""
    old: str
    """The text to replace; must occur exactly once if no line is given."""
    new: str
    """The replacement."""
    line: int | None = None
    """The line, starting at 1, at whose start ``old`` begins; for a text that occurs more than
    once. Default None."""


@dataclass(frozen=True)
class Fault:
    """A mistake that could be made in an adapter."""

    name: str
    """A short description."""
    backends: tuple[str, ...]
    """Names of the backends that run the faulty code. The fault must be caught in each."""
    edits: tuple[Edit, ...]
    """The changes of the source, usually one."""
    cases: tuple[str, ...] = ()
    """Names of cases to try first."""
    raises: str | None = None
    """Part of the message of an expected exception, which counts as a catch; "" for any. With the
    default None, an exception is an error."""

    @property
    def packages(self) -> set[str]:
        """Names of the packages whose sources are changed."""
        return {edit.file.partition("/")[0] for edit in self.edits}

    def touches(self, file: str) -> bool:
        """Return whether it changes a file, given by its path from any parent folder."""
        return any(f"/{file}".endswith(f"/{edit.file}") for edit in self.edits)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, for ``from_dict``."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Fault":
        """Return the fault for plain data.

        Args:
            values: The fields by name; a single edit's fields may be given in place of ``edits``.

        Raises:
            TypeError: A field is missing or unknown.
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
        paths: TOML files, and folders of TOML files.

    Raises:
        ValueError: A file is not TOML, an entry does not describe a fault, or two faults of the
            same backend have the same name.
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
