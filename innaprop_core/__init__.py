"""INNAprop as arithmetic: the exact update, its hyperparameters and its trajectories.

The optimizer of Bolte, Boustany, Pauwels and Purica, "A second-order-like optimizer with
adaptive gradient scaling for deep learning", arXiv 2410.05871. This package needs NumPy and
array-api-compat only; the adapters in ``innaprop`` and the suite in ``innaprop_conformance``
are built on it.

- ``algorithm``: Algorithm 1 of the paper, as printed.
- ``momentum``: the same iterates in coordinates that floating point can hold, the
  coefficients every adapter uses, and the conversions to and from the paper's psi.
- ``residual``: how a bfloat16 parameter follows the float32 trajectory.
- ``packed``: momentum and second moment in 32 bits together.
- ``Hyperparameters``; ``FAST_TRAINING`` and ``BEST_ACCURACY``, of type ``Dampings``.
- ``INNAprop``: a stateful optimizer for plain array loops.
- ``trajectory``: every iterate of a run, to as many digits as asked for.
"""

from innaprop_core import algorithm, momentum, packed, residual
from innaprop_core.hyperparameters import (
    BEST_ACCURACY,
    FAST_TRAINING,
    Dampings,
    Hyperparameters,
    check_hyperparameters,
)
from innaprop_core.optimizer import INNAprop
from innaprop_core.trajectory import Trajectory, trajectory

__all__ = [
    "BEST_ACCURACY",
    "FAST_TRAINING",
    "Dampings",
    "Hyperparameters",
    "INNAprop",
    "Trajectory",
    "algorithm",
    "check_hyperparameters",
    "momentum",
    "packed",
    "residual",
    "trajectory",
]
