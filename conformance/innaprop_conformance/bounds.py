"""Error bounds of a segment's parameters, from rounding: docs/tolerance.md derives them."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from innaprop_conformance.cases import Array
from innaprop_conformance.cases.dtypes import STATE_16, has_narrow_state, judged_as
from innaprop_conformance.cases.values import rounded
from innaprop_conformance.exact import Scalars, moved
from innaprop_conformance.state_bits import Made, StateRounding
from innaprop_conformance.steps import Segment, Update

FORMATS = {
    "float64": (53, -1022),
    "float32": (24, -126),
    "bfloat16": (8, -126),
    "float16": (11, -14),
    # float32's significand; the exponent ends at the last bit of the smallest float16's residual.
    "float16+residual": (24, -16),
    f"float32{STATE_16}": (24, -126),
}
"""Bits of the significand, and exponent of the smallest normal number."""

# Largest relative errors of a careful implementation, in units of the roundoff. Each counts the
# errors of the scalars, of the products with them, and of the sums of these products.
_OF_MOVE = 8.0
_OF_DIRECTION = 10.0
_OF_MOMENTUM = 3.0
_OF_AVERAGE = 3.0
_OF_CLIPPED = 64.0
"""For a gradient that the framework has clipped to a norm."""


class ErrorBounds(NamedTuple):
    """Bounds of theta's error after an update, each of shape (elements,)."""

    floor: Array
    """The error of a run that is exact except that it stores theta in the dtype."""
    storage: Array
    """The largest error from storing theta."""
    arithmetic: Array
    """The largest error from everything else."""
    variance: Array
    """The variance of the error, if the roundings of theta are independent."""


class Bounds:
    """Error bounds of a segment, carried from update to update.

    Args:
        segment: The segment that is updated.
        dtype: The dtype that theta is judged in, unless its group has its own. State and
            arithmetic are in float64 for float64, and in float32 for all others.
        steps: Number of updates of the run.
        way: The case's way. It matters if the framework clips gradients to a norm or evaluates
            the step size's schedule, since it then rounds the inputs of the update. Default "".
    """

    def __init__(self, segment: Segment, dtype: str, steps: int, way: str = "") -> None:
        zero = np.zeros_like(segment.start)
        dtype = judged_as(segment.group.dtype or dtype)
        self._dtype = dtype
        self._schedules_gamma = way.startswith("step size")
        self._of_gradient = _OF_CLIPPED if way in ("clip by norm", "clip by global norm") else 0.0
        self._group = segment.group
        bits, smallest = FORMATS["float64" if dtype == "float64" else "float32"]
        self._unit, self._tiny = 2.0**-bits, 2.0**smallest
        # More precise than the judged dtype, if the machine's long double is.
        self._wide: Any = np.longdouble if dtype == "float64" else np.float64
        state = zero.astype(self._wide)
        self._exact: tuple[Any, Any, Any] = (segment.start.astype(self._wide), state, state)
        self._stored: tuple[Any, Any, Any] = self._exact
        self._of_v = zero
        length = math.isqrt(steps)
        self._arithmetic, self._storage = _Carried(zero, length), _Carried(zero, length)
        self._variance = (zero, zero, zero)
        self._of_state = StateRounding(zero) if has_narrow_state(dtype) else None

    def step(self, update: Update) -> None:
        """Update the exact run, the run with stored theta, and the bounds."""
        c = Scalars.of(update.k, update.values)
        theta, m, v = map(_as_float64, self._exact)
        g = update.gradient.astype(self._wide)
        self._exact = moved(*self._exact, g, c)
        new, *state = moved(*self._stored, g, c)
        if self._of_state:
            state = list(self._of_state.round(*state))
        self._stored = (self._store(new), *state)
        new_theta, new_m, new_v = map(_as_float64, self._exact)

        self._of_v = self._second_moment(v, update.gradient, new_v, c)
        direction, of_direction = self._direction(update.gradient, new_v, c)
        in_theta, in_m = self._committed(
            np.abs(theta), np.abs(m), np.abs(new_m), direction, update.values
        )
        if self._of_state:
            # Packing adds the smallest normal number to the state's magnitude in float32.
            in_m = in_m + self._unit * (np.abs(new_m) + 2.0**-3)
        in_theta = in_theta + c.impulse * of_direction
        in_m = in_m + abs(c.drive) * of_direction
        half = half_ulp(
            np.abs(new_theta) + self._arithmetic.theta + self._storage.theta, self._dtype
        )
        # Some kernels recover the old theta from the stored new one.
        pull = self._pull(update.values)
        viscous = 1 + update.values["alpha"] * update.values["beta"]
        in_m = in_m + 2 * c.gamma * viscous * pull * half

        matrix = np.array(
            [
                [1 - c.decay - c.gamma * c.decay_drive, -c.gamma],
                [(1 - c.friction) * c.decay_drive, 1 - c.friction],
            ]
        )
        self._arithmetic.step(matrix, in_theta, in_m)
        self._storage.step(matrix, half, np.zeros_like(half))
        self._variance = _spread(matrix, self._variance, half**2 / 3)
        if self._of_state:
            alpha, beta = update.values["alpha"], update.values["beta"]
            made = Made(m, new_m, v, new_v, direction, c, 1 - alpha * beta, alpha, beta)
            self._of_state.step(matrix, made)

    def replace(self, theta: Array) -> None:
        """Replace theta by exact values; the momentum keeps its errors."""
        new = theta.astype(self._wide)
        self._exact, self._stored = (new, *self._exact[1:]), (new, *self._stored[1:])
        forget, zero = np.diag([0.0, 1.0]), np.zeros_like(theta)
        self._arithmetic.step(forget, zero, zero)
        self._storage.step(forget, zero, zero)
        self._variance = _spread(forget, self._variance, zero)
        if self._of_state:
            self._of_state.replace()

    def constrain(self, amount: float) -> None:
        """Clip theta at +-amount. That brings two runs closer, so the bounds still hold."""
        for name in ("_exact", "_stored"):
            theta, *state = getattr(self, name)
            setattr(self, name, (np.clip(theta, -amount, amount), *state))

    def errors(self) -> ErrorBounds:
        """Return the error bounds of theta."""
        return self._of_sum(1.0, 0.0)

    def errors_of_psi(self, alpha: float, beta: float) -> ErrorBounds:
        """Return the error bounds of psi = beta m + (1 - alpha beta) theta."""
        bounds = self._of_sum(1 - alpha * beta, beta)
        theta, m, _ = map(_as_float64, self._exact)
        terms = (1 + alpha * beta) * np.abs(theta) + beta * np.abs(m)
        return bounds._replace(arithmetic=bounds.arithmetic + _OF_MOVE * self._unit * terms)

    def _of_sum(self, of_theta: float, of_m: float) -> ErrorBounds:
        """Return the error bounds of of_theta * theta + of_m * m."""
        runs: list[tuple[Any, Any, Any]] = [self._exact, self._stored]
        exact, stored = (of_theta * theta + of_m * m for theta, m, _ in runs)
        floor = np.abs(_as_float64(np.subtract(stored, exact)))
        # The ground truth itself is rounded to float64.
        of_truth = half_ulp(np.abs(_as_float64(exact)), "float64")
        ee, ef, ff = self._variance
        bounds = ErrorBounds(
            floor,
            self._storage.of_sum(of_theta, of_m) + of_truth,
            self._arithmetic.of_sum(of_theta, of_m),
            of_theta**2 * ee + 2 * of_theta * of_m * ef + of_m**2 * ff,
        )
        if self._of_state is None:
            return bounds
        return bounds._replace(
            storage=bounds.storage + self._of_state.bound(of_theta, of_m),
            arithmetic=bounds.arithmetic + self._of_state.bias(of_theta, of_m),
            variance=bounds.variance + self._of_state.variance(of_theta, of_m),
        )

    def _store(self, theta: NDArray[np.floating]) -> NDArray[np.floating]:
        stored = theta.astype(np.float64)
        if self._dtype == "float64":
            return stored.astype(self._wide)
        if self._dtype in ("float32", "bfloat16", "float16"):
            return rounded(stored, self._dtype)
        units = 2 * half_ulp(np.abs(stored), self._dtype)
        return np.asarray(np.rint(stored / units) * units, np.float64)

    def _second_moment(self, v: Array, g: Array, new_v: Array, c: Scalars) -> Array:
        """Return the error bound of v after the update."""
        squared = g * g
        step = min(c.averaging, c.sigma) * np.abs(squared - v)
        of_square = c.averaging * (1 + 2 * self._of_gradient) * squared
        local = self._unit * (new_v + _OF_AVERAGE * step + of_square)
        error: Array = c.sigma * self._of_v + local + 3 * self._tiny
        return error

    def _direction(self, g: Array, v: Array, c: Scalars) -> tuple[Array, Array]:
        """Return |u|, and the error bound of u."""
        v, of_v = v / c.bias_correction, self._of_v / c.bias_correction
        with np.errstate(divide="ignore", invalid="ignore"):
            least = np.sqrt(np.maximum(v - of_v, 0))
            of_root = of_v / (np.sqrt(v) + least + np.finfo(float).tiny)
            direction = np.where(g == 0, 0.0, np.abs(g) / (np.sqrt(v) + c.eps))
            roundings = _OF_DIRECTION + self._of_gradient
            relative = of_root / (least + c.eps) + roundings * self._unit
            of_direction = np.where(g == 0, 0.0, direction * relative) + self._tiny
        return direction, of_direction

    def _committed(
        self, theta: Array, m: Array, new_m: Array, u: Array, h: dict[str, float]
    ) -> tuple[Array, Array]:
        """Return the errors that the arithmetic of one update adds to theta and to m."""
        alpha, beta, gamma, unit = h["alpha"], h["beta"], h["gamma"], self._unit
        pull = self._pull(h) * theta
        mixed = m + gamma * abs(1 - alpha * beta) * pull
        driven = (1 + alpha * beta) * (u + pull)
        in_theta = _OF_MOVE * unit * gamma * (h["weight_decay"] * theta + mixed + beta * u)
        in_m = _OF_MOMENTUM * unit * (mixed + new_m)
        in_m = in_m + _OF_MOVE * unit * gamma * (alpha * mixed + driven)
        of_alpha, of_beta = self._of_schedule("alpha"), self._of_schedule("beta")
        of_gamma = self._of_schedule("gamma") if self._schedules_gamma else 0.0
        in_theta = in_theta + of_gamma * (h["weight_decay"] * theta + mixed + beta * u)
        in_m = in_m + of_gamma * (alpha * mixed + driven)
        in_theta = in_theta + gamma * of_beta * u
        in_m = in_m + gamma * (
            of_alpha * mixed
            + (alpha * of_beta + beta * of_alpha) * (u + pull)
            + of_beta / beta * pull
        )
        return in_theta, in_m

    @staticmethod
    def _pull(h: dict[str, float]) -> float:
        """Return lambda / beta, weight decay's factor in the momentum; 0 if it has none."""
        return h["weight_decay"] / h["beta"] if h["decay_momentum"] else 0.0

    def _of_schedule(self, name: str) -> float:
        """Return the error of a schedule that is evaluated in the run's precision."""
        schedule = getattr(self._group, name)
        if schedule is None:
            return 0.0
        return float(_OF_MOVE * self._unit * max(abs(schedule.peak), abs(schedule.end)))


class _Carried:
    """Bounds of the errors of theta and m, propagated by every update.

    Within a block of updates, the recurrence is applied in absolute values. For weights that
    oscillate these overestimate the growth, so from block to block the errors are propagated by
    the product of the signed matrices.
    """

    def __init__(self, zero: Array, length: int) -> None:
        self._length = length
        self._made = 0
        self._block = np.stack([zero, zero])
        self._blocks = np.zeros((0, *self._block.shape))
        self._products = np.zeros((0, 2, 2))

    def step(self, matrix: Array, in_theta: Array, in_m: Array) -> None:
        """Multiply the errors of (theta, m) by a matrix, and add those of this update."""
        self._block = np.abs(matrix) @ self._block + np.stack([in_theta, in_m])
        self._products = matrix @ self._products
        self._made += 1
        if self._made % self._length == 0:
            self._blocks = np.concatenate([self._blocks, self._block[None]])
            self._products = np.concatenate([self._products, np.eye(2)[None]])
            self._block = np.zeros_like(self._block)

    @property
    def theta(self) -> Array:
        """The bound of theta's error."""
        return self.of_sum(1.0, 0.0)

    def of_sum(self, of_theta: float, of_m: float) -> Array:
        """Return the error bound of of_theta * theta + of_m * m."""
        weights = np.array([of_theta, of_m])
        carried = np.einsum("bi,bin->n", np.abs(weights @ self._products), self._blocks)
        bound: Array = np.abs(weights) @ self._block + carried
        return bound


_Covariance = tuple[Array, Array, Array]
"""The variance of theta, the covariance of theta and m, and the variance of m."""


def _spread(matrix: Array, covariance: _Covariance, added: Array) -> _Covariance:
    """Return the covariance of matrix @ (theta, m), plus the variance ``added`` of theta."""
    (a, b), (c, d) = matrix.tolist()
    ee, ef, ff = covariance
    return (
        a * a * ee + 2 * a * b * ef + b * b * ff + added,
        a * c * ee + (a * d + b * c) * ef + b * d * ff,
        c * c * ee + 2 * c * d * ef + d * d * ff,
    )


def half_ulp(magnitude: Array, dtype: str) -> Array:
    """Return half a unit in the last place of numbers >= 0 in a dtype of ``FORMATS``."""
    bits, smallest = FORMATS[dtype]
    _, exponent = np.frexp(magnitude)  # Of significands in [1/2, 1); 0 for zero.
    exponent = np.where(magnitude == 0, smallest, exponent)
    half: Array = np.ldexp(0.5, np.maximum(exponent, smallest + 1) - bits)
    return half


def _as_float64(values: NDArray[Any]) -> Array:
    return np.asarray(values, np.float64)
