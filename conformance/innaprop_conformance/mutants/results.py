"""Results of mutation testing: a file of JSON lines, to which each result is appended at once."""

import json
import threading
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from innaprop_conformance.mutants.mutant import Mutant

SUITE, TESTS = "suite", "tests"
"""The judges."""


class Results:
    """The results of the judges, by the mutants' ids.

    Args:
        file: The file; created if missing. Results that it holds are not computed again.
        again: Whether to ignore results of mutants that were not caught, so that these are judged
            again. Default False.

    Raises:
        ValueError: The file does not hold results.
    """

    def __init__(self, file: Path, *, again: bool = False) -> None:
        self._file, self._lock = file, threading.Lock()
        self._found: dict[tuple[str, str], dict[str, dict[str, Any]]] = defaultdict(dict)
        try:
            lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
            for line in lines:
                entry = json.loads(line)
                if entry["caught"] or not again:
                    self._found[entry["mutant"], entry["judge"]][entry["by"]] = entry
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{file} must hold results of mutants: {error}") from error

    def add(self, mutant: Mutant, judge: str, by: str, outcome: dict[str, Any]) -> None:
        """Add the result of one backend, or of one run of tests, for a mutant.

        Args:
            mutant: The mutant.
            judge: ``SUITE`` or ``TESTS``.
            by: Name of the backend or of the run.
            outcome: The result; has at least "caught", a text that says how, or None.
        """
        entry = {"mutant": mutant.id, "judge": judge, "by": by, **outcome}
        where = {"file": mutant.file, "line": mutant.change.line}
        with self._lock, self._file.open("a", encoding="utf-8") as file:
            print(json.dumps({**entry, **where}), file=file)
            self._found[mutant.id, judge][by] = entry

    @property
    def mutants(self) -> set[str]:
        """Ids of the mutants that have results."""
        return {mutant for (mutant, _), outcomes in self._found.items() if outcomes}

    def asked(self, mutant: Mutant, judge: str) -> set[str]:
        """Return the backends, or runs of tests, that have judged a mutant."""
        return set(self._found[mutant.id, judge])

    def caught(self, mutant: Mutant, judge: str) -> str | None:
        """Return how a judge has caught a mutant, or None."""
        outcomes = self._found[mutant.id, judge].values()
        return next((f"{o['by']}: {o['caught']}" for o in outcomes if o["caught"]), None)

    def follows(self, mutant: Mutant) -> bool:
        """Return whether a mutant did not raise, die or hang in any backend."""
        outcomes = self._found[mutant.id, SUITE].values()
        return all(outcome.get("follows", True) for outcome in outcomes)

    def late(self, mutants: Sequence[Mutant], judge: str) -> list[str]:
        """Return a line for every mutant for which a judge ran out of time."""
        return [
            f"{mutant.file}:{mutant.change.line} ({mutant.id}), {by}: {outcome['late']}"
            for mutant in mutants
            if not self.caught(mutant, judge)
            for by, outcome in self._found[mutant.id, judge].items()
            if outcome.get("late")
        ]
