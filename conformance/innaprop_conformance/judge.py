"""The verdict on a trajectory: is it the ground truth, as far as its dtype can hold it?

A trajectory passes if after every update no element's error is above the element's bound, nor
the norm of all errors above the norm's: ``innaprop_conformance.tolerance`` has both.
"""

from dataclasses import dataclass

import numpy as np

from innaprop_conformance.bounds import half_ulp
from innaprop_conformance.cases import Array
from innaprop_conformance.cases.dtypes import judged_as
from innaprop_conformance.truth import Truth

POINTS = 100
"""Number of updates, spread evenly, whose errors a verdict keeps."""


@dataclass(frozen=True)
class Verdict:
    """How one backend did on one case in one dtype."""

    case: str
    dtype: str
    passed: bool
    """Whether the error never exceeded the tolerance, and nothing else is wrong."""
    ulps: float
    """Largest error of an element, in units in the last place of the largest magnitude that
    its true value has had by then, in the case's dtype."""
    relative: float
    """Largest error, as a norm, relative to the distance moved in the whole case."""
    floors: float
    """Largest error, as a norm, in rounding floors of the whole case."""
    tolerance_used: float
    """Largest share of the allowed error that was used; above 1 is a failure."""
    bound: float
    """The same, of the elements' bounds alone."""
    worst_element: int
    """Place of the element that used most of its bound, among the judged ones of the case."""
    worst_update: int
    """The update after which it did, 1 for the first."""
    exceeded_at: int | None
    """The first update after which the error exceeded the tolerance, or None."""
    errors: tuple[float, ...]
    """Error, as a norm, relative to the distance moved in the whole case: after every update,
    or after 100 of them that are spread evenly and end with the last."""
    reason: str | None = None
    """What else is wrong with the run, or None: something that was given has been changed, or a
    run that should be equal in every bit is not."""


def judge(case: str, dtype: str, theta: Array, truth: Truth, reason: str | None = None) -> Verdict:
    """Hold a trajectory to the truth.

    Where the truth is not a number, because a gradient was none, the trajectory must be none.

    Args:
        case: Name of the case.
        dtype: What the backend stored its parameters in, of ``cases.dtypes.STORAGE``.
        theta: Parameters after every update, of the truth's shape (steps, elements).
        truth: The case's ground truth.
        reason: What else is wrong with the run. Default None, nothing.

    Raises:
        ValueError: theta has another shape than the truth, or the truth has no tolerance for
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
    # What is a number in one of them only is as wrong as can be.
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
    """Divide; no error is no error, also where the scale is zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(error == 0, 0.0, np.divide(error, scale))
