"""The ground truth of a case: its exact trajectory, and the tolerance of each dtype."""

import decimal
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

import numpy as np

from innaprop_conformance.bounds import Bounds, ErrorBounds
from innaprop_conformance.cases import Array, Case, flat
from innaprop_conformance.exact import Exact, context, decimals
from innaprop_conformance.observed import Average, Psi, Theta
from innaprop_conformance.steps import Replacement, segments, steps_of
from innaprop_conformance.tolerance import Tolerance, find_tolerance, narrowed


@dataclass(frozen=True)
class Truth:
    """A case's ground truth; the judged elements of all parameters form one axis."""

    start: Array
    """Initial parameters, of shape (elements,)."""
    theta: Array
    """Parameters, or the case's other judged quantity, after every update; of shape
    (steps, elements)."""
    tolerances: Mapping[str, Tolerance]
    """The tolerance for each dtype that the case may be judged in."""


def find_truth(case: Case, counts: str = "parameter") -> Truth:
    """Compute the ground truth of a case.

    It is Algorithm 1 as printed, in 40 decimal digits, and takes about 8 microseconds for each
    judged element and update. When alpha or beta changes or a parameter is replaced, psi is
    recomputed so that the momentum stays the same. A parameter without gradient is not updated.

    Args:
        case: Any case.
        counts: What Algorithm 1's k counts: "parameter", the updates of each parameter, or
            "run", the updates of the whole run, including those in which a parameter has no
            gradient. Default "parameter".

    Raises:
        ValueError: counts is neither.

    Source: arXiv 2410.05871, Algorithm 1.
    """
    parts = segments(case)
    exact = [Exact(decimals(part.start)) for part in parts]
    bounds = {
        dtype: [Bounds(part, dtype, case.steps, case.way) for part in parts]
        for dtype in case.judged_dtypes()
    }
    observers = [_observer(case) for _ in parts]
    error_bounds: dict[str, list[list[ErrorBounds]]] = {dtype: [] for dtype in bounds}
    theta = []
    with decimal.localcontext(context()):
        for step in steps_of(case, counts):
            for change in step:
                i = change.segment
                if isinstance(change, Replacement):
                    exact[i].replace(decimals(change.theta))
                    for of_dtype in bounds.values():
                        of_dtype[i].replace(change.theta)
                    continue
                exact[i].step(decimals(change.gradient), change.k, change.values)
                for of_dtype in bounds.values():
                    of_dtype[i].step(change)
                if case.way == "constraint":
                    exact[i].constrain(Decimal(case.amount))
                    for of_dtype in bounds.values():
                        of_dtype[i].constrain(case.amount)
                observers[i].updated(exact[i], change.values)
            theta.append(flat([o.value(e) for o, e in zip(observers, exact, strict=True)]))
            for dtype, of_dtype in bounds.items():
                error_bounds[dtype].append(
                    [o.errors(dtype, b) for o, b in zip(observers, of_dtype, strict=True)]
                )
    start = flat([part.start for part in parts])
    tolerances = {dtype: find_tolerance(rows) for dtype, rows in error_bounds.items()}
    truth = Truth(start, np.array(theta), tolerances)
    if case.family == "presets":
        distance = np.maximum.accumulate(np.linalg.norm(truth.theta - start, axis=1))
        narrow = {"float32": narrowed(truth.tolerances["float32"], distance)}
        truth = replace(truth, tolerances={**truth.tolerances, **narrow})
    return truth


def _observer(case: Case) -> Theta:
    if case.way == "psi":
        return Psi()
    return Average(case.amount) if case.way == "moving average" else Theta()
