"""What a case's trajectory is, and how near to it storage in float32 can come."""

from typing import NamedTuple

import numpy as np

from innaprop_conformance.cases import Array, Case, flat
from innaprop_core import trajectory


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

    Both are Algorithm 1 as printed, in 40 decimal digits; ``floor`` rounds the parameters to
    float32 after every update, and nothing else: what no float32 implementation can be
    expected to beat.

    Args:
        case: Any case.

    Source: arXiv 2410.05871, Algorithm 1.
    """
    start = flat(case.parameters())
    gradients = [flat(g) for g in case.gradients()]
    exact, stored = (
        trajectory(
            case.hyperparameters,
            start,
            gradients,
            schedule=case.schedule,
            stored_in=stored_in,
        )
        for stored_in in (None, np.float32)
    )
    return Truth(start, exact.theta, stored.theta)
