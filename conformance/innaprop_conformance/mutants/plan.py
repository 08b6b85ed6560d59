"""The plan: which files are mutated, and which backends and tests judge them; a TOML file."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Target:
    """Files that are reported together, such as those of an adapter."""

    name: str
    files: tuple[str, ...]
    """Glob patterns of paths relative to the folders on ``sys.path``: ``innaprop/torch/*.py``."""
    backends: tuple[str, ...]
    """Patterns of the names of backends that judge the mutants they execute: ``torch*``."""
    tests: tuple[str, ...] = ()
    """Names of the runs of tests that do so."""
    without: tuple[str, ...] = ()
    """Paths that are not mutated."""


@dataclass(frozen=True)
class Run:
    """Tests that run in the same environment."""

    name: str
    folders: tuple[str, ...]
    """Folders and files of tests, relative to the checkout."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Environment variables to set."""


@dataclass(frozen=True)
class Unseen:
    """A file whose line coverage Python's tracing cannot measure."""

    file: str
    backends: tuple[str, ...] = ()
    """Backends that are assumed to execute all its lines."""
    tests: tuple[str, ...] = ()
    """Test files that are assumed to do so."""
    compiles: tuple[str, ...] = ()
    """A command that gets the path of the file and fails if it does not compile."""


@dataclass(frozen=True)
class Plan:
    """The configuration of mutation testing for a project."""

    targets: tuple[Target, ...]
    backends: tuple[str, ...]
    """Backends in the order in which they judge: the fast ones first."""
    runs: tuple[Run, ...] = ()
    unseen: tuple[Unseen, ...] = ()


def read_plan(path: Path) -> Plan:
    """Return the plan in a TOML file.

    Args:
        path: The file. It has ``backends`` and tables ``[[target]]``, ``[[tests]]`` and
            ``[[unseen]]``, with the fields of ``Target``, ``Run`` and ``Unseen``.

    Raises:
        ValueError: The file is not TOML, or does not have this form.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        plan = Plan(
            targets=tuple(Target(**_tuples(entry)) for entry in document["target"]),
            backends=tuple(document["backends"]),
            runs=tuple(Run(**_tuples(entry)) for entry in document.get("tests", ())),
            unseen=tuple(Unseen(**_tuples(entry)) for entry in document.get("unseen", ())),
        )
        unknown = {name for target in plan.targets for name in target.tests}
        unknown -= {run.name for run in plan.runs}
        if unknown:
            raise ValueError(f"there are no tests {', '.join(sorted(unknown))}")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} must hold a plan: {error}") from error
    return plan


def _tuples(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(v) if isinstance(v, list) else v for key, v in entry.items()}
