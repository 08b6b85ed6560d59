"""The mathematics of INNAprop: the exact update, its hyperparameters and its trajectories.

INNAprop is the optimizer of Bolte, Boustany, Pauwels and Purica, "A second-order-like optimizer
with adaptive gradient scaling for deep learning", arXiv 2410.05871. This package depends on NumPy
and array-api-compat only; the adapters in ``innaprop`` are built on it.

- ``algorithm``: Algorithm 1 of the paper, as printed.
- ``momentum``: the same iterates in a numerically stable form, the coefficients that every
  adapter uses, and the conversions to and from the paper's psi.
- ``residual``: splits float32 master weights into bfloat16 parameters and 16-bit residuals.
- ``packed``: momentum and second moment of an element packed into one 32-bit word.
- ``Hyperparameters``, and the presets ``FAST_TRAINING`` and ``BEST_ACCURACY``, of type
  ``Dampings``.
- ``INNAprop``: a stateful optimizer for arrays of any array-API library.
- ``trajectory``: every iterate of a run, to any number of digits.
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
