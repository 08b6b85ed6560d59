"""What a state of 16 bits does to a trajectory: docs/state.md has the derivation.

The format is written down once more here, as spacings: the suite shares nothing with what it
judges.
"""

from typing import Any, NamedTuple

import numpy as np

from innaprop_conformance.cases import Array
from innaprop_conformance.exact import Scalars

SURPRISE = 30.0
"""An element exceeds its bound with a probability of 2 exp(-30) at most."""
LARGEST = 15.873
"""A momentum of 16 bits ends here."""


class Made(NamedTuple):
    """One update of the exact run, as the rounding of its state depends on it."""

    m: Array
    """Momentum before the update, and after it."""
    new_m: Array
    v: Array
    """Second moment before the update, and after it."""
    new_v: Array
    direction: Array
    """Size of u."""
    scalars: Scalars
    viscous: float
    """1 - alpha beta."""
    alpha: float
    beta: float


def spacing_of_momentum(m: Array) -> Array:
    """Return the distance of a momentum's neighbours among the numbers of its format."""
    _, exponent = np.frexp(np.abs(m) + 2.0**-3)
    spacing: Array = np.ldexp(1.0, exponent - 1 - 12)
    return spacing


def spacing_of_second_moment(v: Array) -> Array:
    """Likewise of a second moment."""
    _, exponent = np.frexp(v + 2.0**-47)
    spacing: Array = np.ldexp(1.0, exponent - 1 - np.where(exponent > 22, 5, 10))
    return spacing


class StateRounding:
    """The errors of theta and m that come from a state's rounding alone.

    Each rounding is right in the mean, whatever came before, so that variances add up. They are
    carried on for (theta, m, v), to first order in the error of v.

    Args:
        zero: Zeros, one for each element.
    """

    def __init__(self, zero: Array) -> None:
        self._covariance = np.zeros((zero.size, 3, 3))
        self._second_order = np.zeros((2, zero.size))
        self._largest = zero
        self._reach = self._fastest = 0.0
        self._rng = np.random.default_rng(0)

    def round(self, m: Any, v: Any) -> tuple[Array, Array]:
        """Return a state that is stored: rounded down after a random share of the spacing."""
        m, v = np.asarray(m, np.float64), np.asarray(v, np.float64)
        rounded = []
        for value, spacing in ((m, spacing_of_momentum(m)), (v, spacing_of_second_moment(v))):
            size = np.floor(np.abs(value) / spacing + self._rng.random(value.shape)) * spacing
            rounded.append(np.copysign(size, value))
        return rounded[0], rounded[1]

    def step(self, matrix: Array, made: Made) -> None:
        """Carry the errors on by an update, and add those of storing its state.

        Args:
            matrix: How errors of theta and m are carried on, of shape (2, 2).
            made: The update.
        """
        s = made.scalars
        # What a share of v that is off makes of u.
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(made.new_v > 0, s.sigma / made.new_v, 0.0)
            root = np.sqrt(made.new_v / s.bias_correction)
            slope = 0.5 * made.direction * np.nan_to_num(root / (root + s.eps))
        carried = np.zeros_like(self._covariance)
        carried[:, :2, :2] = matrix
        carried[:, 0, 2] = s.impulse * slope * share
        carried[:, 1, 2] = -s.drive * slope * share
        carried[:, 2, 2] = s.sigma
        # The root is curved: v that is right in the mean makes u too large, by 3/8 of its variance.
        variance = np.minimum(self._covariance[:, 2, 2] * share**2, 1.0)
        curved = made.direction * variance
        self._second_order = np.abs(matrix) @ self._second_order
        self._second_order += np.stack([s.impulse * curved, abs(s.drive) * curved])

        of_m, of_v = spacing_of_momentum(made.new_m), spacing_of_second_moment(made.new_v)
        added = np.zeros_like(self._covariance)
        added[:, 1, 1] = _variance(of_m, made.new_m - made.m)
        added[:, 2, 2] = _variance(of_v, made.new_v - made.v)
        self._covariance = np.nan_to_num(
            carried @ self._covariance @ carried.transpose(0, 2, 1) + added
        )

        # How far one rounding can move theta at most.
        self._reach += s.gamma
        self._fastest = max(self._fastest, s.gamma)
        ends = min(self._reach, 1 / made.alpha) if made.alpha else self._reach
        remembered = min(self._reach, self._fastest / max(1 - s.sigma, 1e-9))
        weight = (made.beta + abs(made.viscous) * ends) * remembered
        one = of_m * ends + of_v * np.nan_to_num(share) * slope * weight
        self._largest = np.maximum(self._largest, np.nan_to_num(one))

    def replace(self) -> None:
        """Forget the errors of theta, which has become another one."""
        self._covariance[:, 0, :] = self._covariance[:, :, 0] = 0.0
        self._second_order[0] = 0.0

    def variance(self, of_theta: float, of_m: float) -> Array:
        """Return the variance of a sum of theta and m, with these weights."""
        weights = np.array([of_theta, of_m, 0.0])
        found: Array = np.einsum("i,nij,j->n", weights, self._covariance, weights)
        return np.maximum(found, 0.0)

    def bias(self, of_theta: float, of_m: float) -> Array:
        """Return the most that the mean of such a sum is off."""
        found: Array = np.abs(np.array([of_theta, of_m])) @ self._second_order
        return found

    def bound(self, of_theta: float, of_m: float) -> Array:
        """Return what such a sum is off by, at most, but for a small probability.

        Source: Freedman 1975, On tail probabilities for martingales, theorem 1.6.
        """
        one = (abs(of_theta) + abs(of_m)) * self._largest
        spread = np.sqrt(2 * SURPRISE * self.variance(of_theta, of_m))
        found: Array = spread + 2 / 3 * SURPRISE * one
        return found


def _variance(spacing: Array, added: Array) -> Array:
    """Return the variance of rounding what was on the grid before something was added."""
    share = np.minimum(np.abs(added) / spacing, 1.0)
    found: Array = spacing**2 * np.where(share < 1, share * (1 - share), 1 / 6)
    return found
