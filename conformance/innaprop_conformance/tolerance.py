"""The tolerance of a case: the worst case of rounding per element, and a likely one for the norm.

The norm's tolerance is the sum of the arithmetic's worst case and of what independent roundings of
the stored parameters add up to with high probability: docs/tolerance.md derives it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from innaprop_conformance.bounds import ErrorBounds
from innaprop_conformance.cases import Array

SURPRISE = 30.0
"""Independent roundings exceed their bound with a probability of at most exp(-30)."""
FLOORS_ALLOWED = 1.5
"""Dependent roundings may add up to 1.5 times the floor."""
DISTANCE_ALLOWED = 1e-5
"""Fraction of the distance moved that is allowed in addition, for the presets in float32."""


@dataclass(frozen=True)
class Tolerance:
    """What error is allowed in one dtype after every update."""

    floor: Array
    """Largest norm of the error so far, of a run that is exact except for storing its parameters;
    of shape (steps,)."""
    elements: Array
    """Error allowed for each element, of shape (steps, elements)."""
    norm: Array
    """Allowed norm of the error over all elements, of shape (steps,)."""


def find_tolerance(error_bounds: Sequence[Sequence[ErrorBounds]]) -> Tolerance:
    """Return the tolerance of a case.

    Args:
        error_bounds: For every update, the error bounds of each segment.

    Source: for the norm, Hsu, Kakade, Zhang, arXiv 1110.2842, theorem 2.1.
    """
    # Where the truth is NaN, no tolerance is needed: the judge only requires non-finite values.
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
    """Return a tolerance whose norm is at most 1.5 floors + 1e-5 of the distance moved.

    All implementations measured stay within this for the presets in float32. Late in a run it is
    up to three times narrower than the worst case of rounding.

    Args:
        tolerance: The tolerance to narrow.
        distance: Largest distance from the start so far, of shape (steps,).
    """
    seen = FLOORS_ALLOWED * tolerance.floor + DISTANCE_ALLOWED * distance
    return replace(tolerance, norm=np.minimum(tolerance.norm, seen))
