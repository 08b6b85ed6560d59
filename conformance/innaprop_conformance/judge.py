"""The verdict on a trajectory: does it stay within the tolerance around the ground truth?

A trajectory passes if after every update each element's error is within the element's tolerance,
and the norm of all errors is within the norm's: see ``innaprop_conformance.tolerance``.
"""

from dataclasses import dataclass

import numpy as np

from innaprop_conformance.bounds import half_ulp
from innaprop_conformance.cases import Array
from innaprop_conformance.cases.dtypes import judged_as
from innaprop_conformance.truth import Truth

POINTS = 100
"""Number of evenly spaced updates whose errors a verdict keeps."""


@dataclass(frozen=True)
class Verdict:
    """The verdict on one backend's trajectory of one case in one dtype."""

    case: str
    dtype: str
    passed: bool
    """Whether the error never exceeded the tolerance and ``reason`` is None."""
    ulps: float
    """Largest error of an element, in units in the last place, in the judged dtype, of the largest
    magnitude that the element's true value has had so far."""
    relative: float
    """Largest norm of the error, relative to the largest distance from the start."""
    floors: float
    """Largest norm of the error, relative to the floor at the end of the case."""
    tolerance_used: float
    """Largest error relative to the tolerance; above 1 is a failure."""
    bound: float
    """The same for the elements' tolerances only, without the norm's."""
    worst_element: int
    """Index, among the case's judged elements, of the element that used most of its tolerance."""
    worst_update: int
    """The update after which it did, starting at 1."""
    exceeded_at: int | None
    """The first update after which the error exceeded the tolerance, or None."""
    errors: tuple[float, ...]
    """Norm of the error relative to the largest distance from the start: after every update, or
    after 100 evenly spaced ones that include the first and the last."""
    reason: str | None = None
    """What else is wrong with the run, or None: an input was modified, or a repeated run differs
    where it must be bitwise equal."""


def judge(case: str, dtype: str, theta: Array, truth: Truth, reason: str | None = None) -> Verdict:
    """Judge a trajectory by the ground truth.

    Where the truth is NaN, because a gradient was, the trajectory must be NaN or infinite.

    Args:
        case: Name of the case.
        dtype: The dtype in which the backend stored its parameters, of ``cases.dtypes.STORAGE``.
        theta: Parameters after every update, of the truth's shape (steps, elements); float64.
        truth: The case's ground truth.
        reason: What else is wrong with the run. Default None, nothing.

    Raises:
        ValueError: theta's shape differs from the truth's, or the truth has no tolerance for
            the dtype.
    """
    if theta.shape != truth.theta.shape:
        raise ValueError(
            f"theta must have shape {truth.theta.shape} (steps, elements), got {theta.shape}"
        )
    if judged_as(dtype) not in truth.tolerances:
        raise ValueError(f"dtype must be one of {', '.join(truth.tolerances)}, got {dtype!r}")
    dtype, given_dtype = judged_as(dtype), dtype
    tolerance = truth.tolerances[dtype]
    # Finite in one of the two and not in the other is an infinite error.
    departure = np.nan_to_num(np.abs(theta - truth.theta), nan=np.inf, posinf=np.inf)
    departure[~np.isfinite(theta) & np.isnan(truth.theta)] = 0.0
    error = np.linalg.norm(departure, axis=1)
    moved = np.nan_to_num(truth.theta - truth.start)
    distance = np.linalg.norm(moved, axis=1).max(initial=0.0)
    of_bound = _ratio(departure, tolerance.elements)
    used = np.maximum(of_bound.max(axis=1, initial=0.0), _ratio(error, tolerance.norm))
    update, element = (
        np.unravel_index(of_bound.argmax(), of_bound.shape) if of_bound.size else (0, 0)
    )
    outside = np.flatnonzero(used > 1)
    values = np.nan_to_num(np.concatenate([truth.start[None], truth.theta]))
    magnitude = np.maximum.accumulate(np.abs(values))
    ulp = 2 * half_ulp(magnitude[1:], dtype)
    kept = np.unique(np.linspace(0, len(error) - 1, POINTS).astype(int))
    return Verdict(
        case=case,
        dtype=given_dtype,
        passed=outside.size == 0 and reason is None,
        ulps=float(np.max(_ratio(departure, ulp), initial=0.0)),
        relative=float(_ratio(error.max(), distance)),
        floors=float(_ratio(error.max(), tolerance.floor[-1])),
        tolerance_used=float(used.max()),
        bound=float(of_bound.max(initial=0.0)),
        worst_element=int(element),
        worst_update=int(update) + 1,
        exceeded_at=int(outside[0]) + 1 if outside.size else None,
        errors=tuple(_ratio(error[kept], distance).tolist()),
        reason=reason,
    )


def _ratio(error: Array, scale: Array) -> Array:
    """Return error / scale; 0 / 0 is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(error == 0, 0.0, np.divide(error, scale))
