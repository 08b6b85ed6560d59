"""A case as a sequence of updates, with the gradient and hyperparameters of each element."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from innaprop_conformance.cases import Array, Case, Group, flat

COUNTS = ("parameter", "run")


@dataclass(frozen=True)
class Segment:
    """Consecutive parameters of a case of the same group, with gradients at the same updates."""

    start: Array
    """Initial values of their judged elements, of shape (elements,)."""
    group: Group
    places: tuple[int, ...]
    """Their indices among the case's parameters."""
    gaps: tuple[tuple[int, int], ...]
    """Ranges of updates, from start to before stop and counted from 0, without gradient."""


@dataclass(frozen=True)
class Update:
    """One update of one segment."""

    segment: int
    gradient: Array
    k: int
    """Number of the update in Algorithm 1, starting at 1."""
    values: dict[str, Any]
    """The hyperparameters of this update, by their names in ``Hyperparameters``."""


@dataclass(frozen=True)
class Replacement:
    """New values of a segment, set from outside the optimizer."""

    segment: int
    theta: Array


def segments(case: Case) -> list[Segment]:
    """Divide a case's parameters into as few segments as possible, in order."""
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
    """Yield, for every step of the run, the replacements and updates of the case's segments.

    Replacements come first. A segment without gradient has no update.

    Args:
        case: Any case.
        counts: What k counts: "parameter", the updates of each parameter, or "run", the updates of
            the whole run. Schedules of alpha and beta are evaluated at this count, those of gamma
            at the run's. Default "parameter".

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
    """Return the gradients after the clipping of a way, if it has any."""

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
