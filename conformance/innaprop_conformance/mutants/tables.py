"""The tables of mutants, for the terminal and for the documentation."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from innaprop_conformance.mutants.mutant import Mutant
from innaprop_conformance.mutants.operators import Change
from innaprop_conformance.mutants.results import SUITE, TESTS, Results

COLUMNS = (
    "target",
    "mutants",
    "which raise or hang in the suite",
    "caught by the judge",
    "by the tests alone",
    "by neither",
)
SURVIVORS = ("where", "change", "why nobody notices")
WITHOUT_REASON = "**not said**"


def rows(mutants: Sequence[Mutant], results: Results) -> list[tuple[str, ...]]:
    """Return a row per target, of ``COLUMNS``, and a row of totals."""
    counts: dict[str, list[int]] = {}
    for mutant in mutants:
        of_suite = results.caught(mutant, SUITE) is not None
        of_tests = results.caught(mutant, TESTS) is not None
        for name in (mutant.target, "all"):
            row = counts.setdefault(name, [0, 0, 0, 0, 0])
            row[0] += 1
            row[1] += of_suite and not results.follows(mutant)
            row[2] += of_suite and results.follows(mutant)
            row[3] += of_tests and not of_suite
            row[4] += not (of_tests or of_suite)
    if "all" in counts:
        counts["all"] = counts.pop("all")
    return [
        (name, str(number), *(f"{n} ({n / number:.0%})" for n in rest))
        for name, (number, *rest) in counts.items()
    ]


def survivors(mutants: Sequence[Mutant], results: Results) -> list[Mutant]:
    """Return the mutants that neither judge caught, ordered by file and line."""
    lived = [m for m in mutants if not (results.caught(m, SUITE) or results.caught(m, TESTS))]
    return sorted(lived, key=lambda m: (m.file, m.change.line, m.id))


def survivor_rows(mutants: Sequence[Mutant], reasons: Mapping[str, str]) -> list[tuple[str, ...]]:
    """Return a row per survivor, of ``SURVIVORS``."""
    return [
        (f"{m.file}:{m.change.line}", shown(m.change), reasons.get(m.id, WITHOUT_REASON))
        for m in mutants
    ]


def read_reasons(file: Path) -> dict[str, str]:
    """Return the reasons why mutants survive, by their ids.

    Args:
        file: A TOML file with a table ``[[survivor]]`` for each. It has ``id`` and ``reason``;
            further entries are ignored.

    Raises:
        ValueError: The file is not TOML, or does not have this form.
    """
    try:
        entries = tomllib.loads(file.read_text(encoding="utf-8")).get("survivor", [])
        return {str(entry["id"]): str(entry["reason"]) for entry in entries}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} must hold survivors: {error}") from error


def as_toml(mutant: Mutant) -> str:
    """Return a survivor as a table for the file of reasons, with an empty reason."""
    change = shown(mutant.change).replace("\\", "\\\\").replace('"', '\\"')
    where = f"{mutant.file}:{mutant.change.line}"
    return (
        f'[[survivor]]\nid = "{mutant.id}"\nwhere = "{where}"\nchange = "{change}"\nreason = ""\n'
    )


def shown(change: Change) -> str:
    """Return a change as a single line: the difference with some context."""
    old, new = (" ".join(text.replace("\\\n", " ").split()) for text in (change.old, change.new))
    start = _alike(old, new)
    end = _alike(old[start:][::-1], new[start:][::-1])
    # 16 characters of context on either side.
    low, tail = max(0, start - 16), max(0, end - 16)
    pieces = [_cut(text[low : len(text) - tail]) for text in (old, new)]
    return f"{change.operator}: `{pieces[0]}` → `{pieces[1]}`"


def _alike(one: str, two: str) -> int:
    """Return the length of the common prefix."""
    pairs = enumerate(zip(one, two, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(two)))


def _cut(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:50]} … {text[-27:]}"
