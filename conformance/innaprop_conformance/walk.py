"""A case, update by update: which elements get which gradient and which hyperparameters."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import groupby

from innaprop_conformance.cases import Array, Case, Gap, Group, flat

COUNTS = ("parameter", "run")


@dataclass(frozen=True)
class Chunk:
    """Neighbouring parameters of a case that have all but their values in common."""

    start: Array
    """Initial values of their judged elements."""
    group: Group
    places: tuple[int, ...]
    """Which of the case's parameters they are."""
    gaps: tuple[tuple[int, int], ...]
    """When they have no gradient: from start to stop, in updates made before."""


@dataclass(frozen=True)
class Update:
    """One update of one chunk."""

    chunk: int
    gradient: Array
    k: int
    """Algorithm 1's number of the update, 1 at the first."""
    values: dict[str, float]
    """The hyperparameters of this update, by the names of ``Hyperparameters``."""


def chunks(case: Case) -> list[Chunk]:
    """Return a case's parameters in as few chunks as can be, in order."""
    parameters = case.picked(case.parameters())
    owners = case.owners

    def alike(i: int) -> tuple[int, tuple[tuple[int, int], ...]]:
        return case.groups.index(owners[i]), tuple(_missed(case.gaps, i))

    runs = [(key, tuple(same)) for key, same in groupby(range(len(parameters)), alike)]
    return [
        Chunk(flat([parameters[i] for i in places]), case.groups[group], places, gaps)
        for (group, gaps), places in runs
    ]


def walk(case: Case, counts: str = "parameter") -> Iterator[list[Update]]:
    """Yield the updates of a case's chunks, list by list; those without gradient have none.

    Args:
        case: Any case.
        counts: What k counts: "parameter", the updates of each parameter, or "run", those of
            the whole run. Schedules of alpha and beta follow it, those of gamma the run.

    Raises:
        ValueError: counts is neither.
    """
    if counts not in COUNTS:
        raise ValueError(f"counts must be one of {', '.join(COUNTS)}, got {counts!r}")
    parts = chunks(case)
    made = [0] * len(parts)
    for updates, gradients in enumerate(case.stream()):
        picked = case.picked(gradients)
        turn = []
        for i, part in enumerate(parts):
            if any(start <= updates < stop for start, stop in part.gaps):
                continue
            before = updates if counts == "run" else made[i]
            values = asdict(part.group.hyperparameters)
            values["gamma"] = part.group.at("gamma", updates)
            values |= {name: part.group.at(name, before) for name in ("alpha", "beta")}
            made[i] += 1
            turn.append(Update(i, flat([picked[p] for p in part.places]), before + 1, values))
        yield turn


def _missed(gaps: tuple[Gap, ...], parameter: int) -> Iterator[tuple[int, int]]:
    return ((gap.start, gap.stop) for gap in gaps if gap.parameter == parameter)
