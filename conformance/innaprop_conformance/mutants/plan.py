"""Which files are mutated, and who judges their mutants: read from a TOML file."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Target:
    """Files that are reported together: an adapter, say."""

    name: str
    files: tuple[str, ...]
    """Patterns of paths below the folders on ``sys.path``: ``innaprop/torch/*.py``."""
    backends: tuple[str, ...]
    """Patterns of the names of backends that are asked, if they come by: ``torch*``."""
    tests: tuple[str, ...] = ()
    """Names of the runs of tests that are asked, likewise."""
    without: tuple[str, ...] = ()
    """Paths that are left alone."""


@dataclass(frozen=True)
class Run:
    """Tests that run in one environment."""

    name: str
    folders: tuple[str, ...]
    """Folders and files of tests, below the checkout."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables to set."""


@dataclass(frozen=True)
class Unseen:
    """A file whose lines are run where Python's tracing does not see it."""

    file: str
    backends: tuple[str, ...] = ()
    """Backends that are taken to come by all its lines."""
    tests: tuple[str, ...] = ()
    """Likewise test files."""
    compiles: tuple[str, ...] = ()
    """A command that gets the path of the file and fails if it does not compile."""


@dataclass(frozen=True)
class Plan:
    """All that a run needs to know of a project."""

    targets: tuple[Target, ...]
    backends: tuple[str, ...]
    """Backends that are asked, in this order: the fast ones first."""
    runs: tuple[Run, ...] = ()
    unseen: tuple[Unseen, ...] = ()


def read_plan(path: Path) -> Plan:
    """Return the plan of a TOML file.

    Args:
        path: It has ``backends`` and tables ``[[target]]``, ``[[tests]]`` and ``[[unseen]]``, of
            the fields of ``Target``, ``Run`` and ``Unseen``.

    Raises:
        ValueError: It is no TOML, or has not this form.
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
