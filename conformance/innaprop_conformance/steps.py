"""A case, update by update: which elements get which gradient and which hyperparameters."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from innaprop_conformance.cases import Array, Case, Group, flat

COUNTS = ("parameter", "run")


@dataclass(frozen=True)
class Segment:
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
    """One update of one segment."""

    segment: int
    gradient: Array
    k: int
    """Algorithm 1's number of the update, 1 at the first."""
    values: dict[str, Any]
    """The hyperparameters of this update, by the names of ``Hyperparameters``."""


@dataclass(frozen=True)
class Replacement:
    """Other values for one segment, from outside of the optimizer."""

    segment: int
    theta: Array


def segments(case: Case) -> list[Segment]:
    """Return a case's parameters in as few segments as can be, in order."""
    parameters = case.picked(case.parameters())
    groups = [i for i, group in enumerate(case.groups) for _ in group.shapes]
    replaced = {event.parameter for event in case.events if event.kind == "replace"}

    def alike(i: int) -> tuple[int, tuple[tuple[int, int], ...], int | None]:
        return groups[i], tuple(_missed(case, i)), i if i in replaced else None

    runs = [(key, tuple(same)) for key, same in groupby(range(len(parameters)), alike)]
    return [
        Segment(flat([parameters[i] for i in places]), case.groups[group], places, gaps)
        for (group, gaps, _), places in runs
    ]


def steps_of(case: Case, counts: str = "parameter") -> Iterator[list[Update | Replacement]]:
    """Yield what happens to a case's segments, update by update of the run.

    A segment without gradient has no update; what replaces parameters comes first.

    Args:
        case: Any case.
        counts: What k counts: "parameter", the updates of each parameter, or "run", those of
            the whole run. Schedules of alpha and beta follow it, those of gamma the run.

    Raises:
        ValueError: counts is neither.
    """
    if counts not in COUNTS:
        raise ValueError(f"counts must be one of {', '.join(COUNTS)}, got {counts!r}")
    parts = segments(case)
    groups = [case.groups.index(part.group) for part in parts]
    segment_of = {place: i for i, part in enumerate(parts) for place in part.places}
    made, made_by_run = [case.counted] * len(parts), case.counted
    for updates, gradients in enumerate(case.stream()):
        step: list[Update | Replacement] = [
            Replacement(segment_of[event.parameter], np.ravel(case.replacement(event)))
            for event in case.events
            if event.kind == "replace" and event.at == updates and event.parameter is not None
        ]
        picked = case.picked(_clipped(gradients, case.way, case.amount))
        active = [
            i
            for i, part in enumerate(parts)
            if not any(start <= updates < stop for start, stop in part.gaps)
        ]
        for i in active:
            before = made_by_run if counts == "run" else made[i]
            values = case.numbers(groups[i], updates, before)
            made[i] += 1
            gradient = flat([picked[p] for p in parts[i].places])
            step.append(Update(i, gradient, before + 1, values))
        made_by_run += bool(active)
        yield step


def _clipped(gradients: Sequence[Array | None], way: str, amount: float) -> list[Array | None]:
    """Return the gradients as the update gets them."""

    def norm(*arrays: Array) -> float:
        return float(np.sqrt(sum(np.sum(array * array) for array in arrays)))

    present = [g for g in gradients if g is not None]
    shares = [1.0] * len(present)
    if way == "clip by value":
        present = [np.clip(g, -amount, amount) for g in present]
    elif way == "clip by norm":
        shares = [min(1.0, amount / max(norm(g), amount)) for g in present]
    elif way == "clip by global norm":
        shares = [min(1.0, amount / max(norm(*present), amount))] * len(present)
    clipped = iter([share * g for share, g in zip(shares, present, strict=True)])
    return [None if g is None else next(clipped) for g in gradients]


def _missed(case: Case, parameter: int) -> Iterator[tuple[int, int]]:
    return ((g.start, g.stop) for g in case.absences if g.parameter == parameter)
