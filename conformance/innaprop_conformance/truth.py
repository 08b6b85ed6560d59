"""What a case's trajectory is, and how near to it storage in float32 can come."""

from dataclasses import asdict
from typing import NamedTuple

import numpy as np

from innaprop_conformance.cases import Array, Case, flat
from innaprop_core import momentum, trajectory


class Truth(NamedTuple):
    """A case's ground truth; all parameters' elements stand in one axis."""

    start: Array
    """Initial parameters, of shape (elements,)."""
    theta: Array
    """Parameters after every update, of shape (steps, elements)."""
    floor: Array
    """Parameters of a run that is exact but for their storage in float32, likewise."""


def find_truth(case: Case) -> Truth:
    """Compute the ground truth of a case.

    ``theta`` is Algorithm 1 as printed, in 40 decimal digits. ``floor`` rounds the parameters
    to float32 after every update and computes everything else in float64: what no float32
    implementation can be expected to beat.

    Args:
        case: Any case.

    Source: arXiv 2410.05871, Algorithm 1.
    """
    start = flat(case.parameters())
    gradients = [flat(g) for g in case.gradients()]
    exact = trajectory(case.hyperparameters, start, gradients, schedule=case.schedule)
    return Truth(start, exact.theta, _floor(case, start, gradients))


def _floor(case: Case, start: Array, gradients: list[Array]) -> Array:
    values = asdict(case.hyperparameters)
    theta, m, v = start, np.zeros_like(start), np.zeros_like(start)
    stored = []
    for k, g in enumerate(gradients, start=1):
        values["gamma"] = case.schedule(k - 1)
        theta, m, v = momentum.step(theta, m, v, g, momentum.coefficients(k, **values))
        theta = theta.astype(np.float32).astype(np.float64)
        stored.append(theta)
    return np.array(stored)
