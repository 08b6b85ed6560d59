"""The tables of faults, for the terminal and for the documentation."""

from collections.abc import Sequence

from innaprop_conformance.faults.fault import Fault
from innaprop_conformance.faults.run import Hunt

FAULTS_COLUMNS = ("fault", "backend", "caught by", "dtype", "at update")
RUNS_COLUMNS = ("backend", "faults", "caught", "healthy runs", "false alarms")


def fault_rows(faults: Sequence[Fault], hunts: Sequence[Hunt]) -> list[tuple[str, ...]]:
    """Return a row per fault and backend, of ``FAULTS_COLUMNS``.

    They name the first case and dtype that failed, and the update after which the tolerance was
    exceeded.
    """
    of = {hunt.backend: hunt for hunt in hunts}
    return [
        (fault.name, name, *_how(fault.name, of[name]))
        for fault in faults
        for name in fault.backends
        if name in of
    ]


def run_rows(hunts: Sequence[Hunt]) -> list[tuple[str, ...]]:
    """Return a row per backend, of ``RUNS_COLUMNS``, and a row of totals."""
    rows = [
        (
            hunt.backend,
            len(hunt.catches),
            sum(catch is not None for catch in hunt.catches.values()),
            hunt.runs,
            len(hunt.false_alarms),
        )
        for hunt in hunts
    ]
    sums = [sum(row[i] for row in rows) for i in range(1, 5)]  # type: ignore[misc]
    return [tuple(map(str, row)) for row in [*rows, ("all", *sums)]]


def complaints(hunts: Sequence[Hunt]) -> list[str]:
    """Return a line for everything that went wrong."""
    lines = []
    for hunt in hunts:
        lines += [f"{hunt.backend}: {hunt.death}"] if hunt.death else []
        lines += [f"{hunt.backend}, {name}: {text}" for name, text in hunt.errors.items()]
        lines += [
            f"{hunt.backend}, {name}: not caught"
            for name, catch in hunt.catches.items()
            if catch is None and name not in hunt.errors
        ]
        lines += [f"{hunt.backend}, false alarm: {text}" for text in hunt.false_alarms]
    return lines


def _how(name: str, hunt: Hunt) -> tuple[str, str, str]:
    catch = hunt.catches.get(name)
    if catch is None:
        return "error" if name in hunt.errors else "not caught", "–", "–"
    return catch.case, catch.dtype, catch.raised or str(catch.update)
