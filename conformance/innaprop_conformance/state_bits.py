"""Error bounds for a state dtype of 16 bits: docs/state.md derives them.

The format is defined here a second time, by the spacing of its numbers, so that the suite does not
share code with the implementations that it judges.
"""

from typing import Any, NamedTuple

import numpy as np

from innaprop_conformance.cases import Array
from innaprop_conformance.exact import Scalars

SURPRISE = 30.0
"""An element exceeds its bound with a probability of at most 2 exp(-30)."""
LARGEST = 15.873
"""The largest magnitude of a momentum in 16 bits."""


class Made(NamedTuple):
    """The quantities of one update of the exact run on which the rounding errors depend."""

    m: Array
    """Momentum before the update."""
    new_m: Array
    """Momentum after the update."""
    v: Array
    """Second moment before the update."""
    new_v: Array
    """Second moment after the update."""
    direction: Array
    """|u|."""
    scalars: Scalars
    viscous: float
    """1 - alpha beta."""
    alpha: float
    beta: float


def spacing_of_momentum(m: Array) -> Array:
    """Return the spacing of a 16-bit momentum's format around m."""
    _, exponent = np.frexp(np.abs(m) + 2.0**-3)
    spacing: Array = np.ldexp(1.0, exponent - 1 - 12)
    return spacing


def spacing_of_second_moment(v: Array) -> Array:
    """Return the spacing of a 16-bit second moment's format around v."""
    _, exponent = np.frexp(v + 2.0**-47)
    spacing: Array = np.ldexp(1.0, exponent - 1 - np.where(exponent > 22, 5, 10))
    return spacing


class StateRounding:
    """The errors of theta and m from the stochastic rounding of the state.

    Every rounding is unbiased, given all earlier ones, so that the variances add up. The covariance
    of (theta, m, v) is propagated to first order in the error of v.

    Args:
        zero: Zeros of shape (elements,).
    """

    def __init__(self, zero: Array) -> None:
        self._covariance = np.zeros((zero.size, 3, 3))
        self._second_order = np.zeros((2, zero.size))
        self._largest = zero
        self._reach = self._fastest = 0.0
        self._rng = np.random.default_rng(0)

    def round(self, m: Any, v: Any) -> tuple[Array, Array]:
        """Return m and v after stochastic rounding to the grid of the 16-bit format."""
        m, v = np.asarray(m, np.float64), np.asarray(v, np.float64)
        rounded = []
        for value, spacing in ((m, spacing_of_momentum(m)), (v, spacing_of_second_moment(v))):
            size = np.floor(np.abs(value) / spacing + self._rng.random(value.shape)) * spacing
            rounded.append(np.copysign(size, value))
        return rounded[0], rounded[1]

    def step(self, matrix: Array, made: Made) -> None:
        """Propagate the errors by an update, and add those of storing its state.

        Args:
            matrix: The update's derivative with respect to (theta, m), of shape (2, 2).
            made: The update.
        """
        s = made.scalars
        # The derivative of u with respect to the old v is slope * share.
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(made.new_v > 0, s.sigma / made.new_v, 0.0)
            root = np.sqrt(made.new_v / s.bias_correction)
            slope = 0.5 * made.direction * np.nan_to_num(root / (root + s.eps))
        carried = np.zeros_like(self._covariance)
        carried[:, :2, :2] = matrix
        carried[:, 0, 2] = s.impulse * slope * share
        carried[:, 1, 2] = -s.drive * slope * share
        carried[:, 2, 2] = s.sigma
        # 1 / sqrt(v) is convex: if v is unbiased, u is too large, by 3/8 of v's variance.
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

        # The largest effect of a single rounding on theta.
        self._reach += s.gamma
        self._fastest = max(self._fastest, s.gamma)
        ends = min(self._reach, 1 / made.alpha) if made.alpha else self._reach
        remembered = min(self._reach, self._fastest / max(1 - s.sigma, 1e-9))
        weight = (made.beta + abs(made.viscous) * ends) * remembered
        single = of_m * ends + of_v * np.nan_to_num(share) * slope * weight
        self._largest = np.maximum(self._largest, np.nan_to_num(single))

    def replace(self) -> None:
        """Drop the errors of theta, which has been replaced by exact values."""
        self._covariance[:, 0, :] = self._covariance[:, :, 0] = 0.0
        self._second_order[0] = 0.0

    def variance(self, of_theta: float, of_m: float) -> Array:
        """Return the variance of of_theta * theta + of_m * m."""
        weights = np.array([of_theta, of_m, 0.0])
        variance: Array = np.einsum("i,nij,j->n", weights, self._covariance, weights)
        return np.maximum(variance, 0.0)

    def bias(self, of_theta: float, of_m: float) -> Array:
        """Return a bound of the bias of of_theta * theta + of_m * m."""
        bias: Array = np.abs(np.array([of_theta, of_m])) @ self._second_order
        return bias

    def bound(self, of_theta: float, of_m: float) -> Array:
        """Return an error bound of of_theta * theta + of_m * m, up to a small probability.

        Source: Freedman 1975, On tail probabilities for martingales, theorem 1.6.
        """
        largest = (abs(of_theta) + abs(of_m)) * self._largest
        spread = np.sqrt(2 * SURPRISE * self.variance(of_theta, of_m))
        bound: Array = spread + 2 / 3 * SURPRISE * largest
        return bound


def _variance(spacing: Array, added: Array) -> Array:
    """Return the variance of stochastic rounding, if ``added`` was added to a number on the grid.

    Where it is a spacing or more, the variance is the mean over all positions between two
    neighbours.
    """
    share = np.minimum(np.abs(added) / spacing, 1.0)
    variance: Array = spacing**2 * np.where(share < 1, share * (1 - share), 1 / 6)
    return variance
