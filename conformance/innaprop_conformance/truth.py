"""What a case's trajectory is, and how near to it each dtype can come."""

import decimal
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from innaprop_conformance.bounds import Bounds, ErrorBounds
from innaprop_conformance.cases import Array, Case, flat
from innaprop_conformance.exact import Exact, context, decimals
from innaprop_conformance.observed import Average, Psi, Theta
from innaprop_conformance.steps import Replacement, segments, steps_of
from innaprop_conformance.tolerance import Tolerance, find_tolerance, narrowed


@dataclass(frozen=True)
class Truth:
    """A case's ground truth; all judged elements stand in one axis."""

    start: Array
    """Initial parameters, of shape (elements,)."""
    theta: Array
    """Parameters after every update, or what else is judged; of shape (steps, elements)."""
    tolerances: Mapping[str, Tolerance]
    """What is allowed, for each dtype that the case may be judged in."""


def find_truth(case: Case, counts: str = "parameter") -> Truth:
    """Compute the ground truth of a case.

    It is Algorithm 1 as printed, in 40 decimal digits: some 8 microseconds for each judged
    element and update. Where alpha or beta change, or a parameter is replaced, psi is taken over
    such that the momentum stays. A parameter without gradient stays as it is.

    Args:
        case: Any case.
        counts: What Algorithm 1's k counts: "parameter", the updates of each parameter, or
            "run", those of the whole run, of which a parameter without gradient misses some.
            Default "parameter".

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
            for one in step:
                i = one.segment
                if isinstance(one, Replacement):
                    exact[i].replace(decimals(one.theta))
                    for of_dtype in bounds.values():
                        of_dtype[i].replace(one.theta)
                    continue
                exact[i].step(decimals(one.gradient), one.k, one.values)
                for of_dtype in bounds.values():
                    of_dtype[i].step(one)
                observers[i].updated(exact[i], one.values)
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
