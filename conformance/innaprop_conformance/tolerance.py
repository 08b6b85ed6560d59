"""What is allowed: per element what rounding does at worst, as a norm what is likely.

The norm of the error is held to the worst of the arithmetic, and to what independent roundings
of the stored parameters add up to: docs/tolerance.md has the derivation.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from innaprop_conformance.bounds import ErrorBounds
from innaprop_conformance.cases import Array

SURPRISE = 30.0
"""Independent roundings exceed their bound with a probability of exp(-30) at most."""
FLOORS_ALLOWED = 1.5
"""Roundings that depend on each other may add up to half as much again as in the floor."""
DISTANCE_ALLOWED = 1e-5
"""Of the distance moved: allowed on top of that in the presets in float32."""


@dataclass(frozen=True)
class Tolerance:
    """What is allowed in one dtype after every update."""

    floor: Array
    """Largest error so far, as a norm, of a run that is exact but for storing its parameters;
    of shape (steps,)."""
    elements: Array
    """Largest error of each element, of shape (steps, elements)."""
    norm: Array
    """Largest norm of the error over all elements, of shape (steps,)."""


def find_tolerance(error_bounds: Sequence[Sequence[ErrorBounds]]) -> Tolerance:
    """Return the tolerance of a case.

    Args:
        error_bounds: After every update, those of each of its segments.

    Source: for the norm, Hsu, Kakade, Zhang, arXiv 1110.2842, theorem 2.1.
    """
    # What is not a number in truth has no error: the judge asks that it is none either.
    floor, storage, arithmetic, variance = (
        np.nan_to_num([np.concatenate([part[i] for part in parts]) for parts in error_bounds])
        for i in range(4)
    )
    floors = np.maximum.accumulate(np.linalg.norm(floor, axis=1))
    independent = np.sqrt(
        variance.sum(axis=1)
        + 2 * np.sqrt(SURPRISE * (variance**2).sum(axis=1))
        + 2 * SURPRISE * variance.max(axis=1, initial=0.0)
    )
    stored = np.maximum(np.maximum.accumulate(independent), FLOORS_ALLOWED * floors)
    return Tolerance(
        floor=floors,
        elements=storage + arithmetic,
        norm=stored + np.linalg.norm(arithmetic, axis=1),
    )


def narrowed(tolerance: Tolerance, distance: Array) -> Tolerance:
    """Return a tolerance that is nowhere wider than 1.5 floors + 1e-5 of the distance moved.

    That is what implementations of the presets were seen to keep in float32; late in a run it
    is up to three times narrower than what the worst of roundings would need.

    Args:
        tolerance: What to narrow.
        distance: Largest distance from the start so far, of shape (steps,).
    """
    seen = FLOORS_ALLOWED * tolerance.floor + DISTANCE_ALLOWED * distance
    return replace(tolerance, norm=np.minimum(tolerance.norm, seen))
