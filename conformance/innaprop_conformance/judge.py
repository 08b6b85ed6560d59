"""The verdict on a trajectory: is it the ground truth, as far as its dtype can hold it?

Norms are Euclidean, over all elements of all parameters of a case. With D_k the largest
distance from the start that the truth has reached by update k, and F_k the largest error that
storage in float32 alone has made by then, a trajectory passes if after every update k its
error is at most

    float32:  1.5 F_k + 1e-5 D_k
    float64:  1e-9 D_k
"""

from dataclasses import dataclass

import numpy as np

from innaprop_conformance.cases import Array
from innaprop_conformance.truth import Truth

FLOORS_ALLOWED = 1.5
DISTANCE_ALLOWED = {"float32": 1e-5, "float64": 1e-9}


@dataclass(frozen=True)
class Verdict:
    """How one backend did on one case in one dtype."""

    case: str
    dtype: str
    passed: bool
    """Whether the error stayed in the corridor after every update."""
    ulps: float
    """Largest error of an element, in units in the last place of the largest magnitude that
    its true value has had by then, in the case's dtype."""
    relative: float
    """Largest error, relative to the distance moved in the whole case."""
    floors: float
    """Largest error, in float32 rounding floors of the whole case."""
    corridor: float
    """Largest share of the allowed error that was used; above 1 is a failure."""
    left_at: int | None
    """The first update after which the error was outside the corridor, or None."""
    errors: tuple[float, ...]
    """Error after every update, relative to the distance moved in the whole case."""


def judge(case: str, dtype: str, theta: Array, truth: Truth) -> Verdict:
    """Hold a trajectory to the truth.

    Args:
        case: Name of the case.
        dtype: "float32" or "float64": the dtype the backend stored its parameters in.
        theta: Parameters after every update, of the truth's shape (steps, elements).
        truth: The case's ground truth.

    Raises:
        ValueError: theta has another shape than the truth.
    """
    if theta.shape != truth.theta.shape:
        raise ValueError(
            f"theta must have shape {truth.theta.shape} (steps, elements), got {theta.shape}"
        )
    # What is not a number is as wrong as can be.
    departure = np.nan_to_num(np.abs(theta - truth.theta), nan=np.inf, posinf=np.inf)
    error = np.linalg.norm(departure, axis=1)
    distance = _running_max(np.linalg.norm(truth.theta - truth.start, axis=1))
    floor = _running_max(np.linalg.norm(truth.floor - truth.theta, axis=1))
    allowed = DISTANCE_ALLOWED[dtype] * distance
    if dtype == "float32":
        allowed += FLOORS_ALLOWED * floor
    used = _ratio(error, allowed)
    outside = np.flatnonzero(used > 1)
    magnitude = _running_max(np.abs(np.concatenate([truth.start[None], truth.theta])))[1:]
    ulp = np.spacing(magnitude.astype(dtype)).astype(np.float64)
    return Verdict(
        case=case,
        dtype=dtype,
        passed=outside.size == 0,
        ulps=float(np.max(_ratio(departure, ulp), initial=0.0)),
        relative=float(_ratio(error.max(), distance[-1])),
        floors=float(_ratio(error.max(), floor[-1])),
        corridor=float(used.max()),
        left_at=int(outside[0]) + 1 if outside.size else None,
        errors=tuple(_ratio(error, distance[-1]).tolist()),
    )


def _running_max(values: Array) -> Array:
    maximum: Array = np.maximum.accumulate(values, axis=0)
    return maximum


def _ratio(error: Array, scale: Array) -> Array:
    """Divide; no error is no error, also where the scale is zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(error == 0, 0.0, np.divide(error, scale))
