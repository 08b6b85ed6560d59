"""What rounding may do to the parameters of one segment: docs/tolerance.md has the derivation."""

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
    # As float32, down to where the residual of the smallest float16 ends.
    "float16+residual": (24, -16),
    f"float32{STATE_16}": (24, -126),
}
"""Bits of the significand and exponent of the smallest normal number."""

# Relative errors that a careful implementation commits at most, in units of the roundoff. Each
# counts what the scalars are off by, the products with them, and the sums they go into.
_OF_MOVE = 8.0
_OF_DIRECTION = 10.0
_OF_MOMENTUM = 3.0
_OF_AVERAGE = 3.0
_OF_CLIPPED = 64.0
"""Of a gradient that the framework itself has clipped to a norm."""


class ErrorBounds(NamedTuple):
    """Errors of theta that there may be after an update, of shape (elements,) each."""

    floor: Array
    """The error of a run that is exact but for storing theta."""
    storage: Array
    """The largest error that storing theta can make."""
    arithmetic: Array
    """The largest error that everything else can make."""
    variance: Array
    """The variance of the error, if the roundings of theta are independent."""


class Bounds:
    """Bounds of a segment's errors, update by update.

    Args:
        segment: What is updated.
        dtype: What theta is judged as, if its group has no dtype of its own; state and
            arithmetic are float64 for float64 and float32 for all others.
        steps: Number of updates of the run.
        way: The case's way: a framework that clips to a norm, or keeps the step size's schedule
            itself, rounds what the update gets. Default "", neither.
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
        # Wider than what is judged, where the machine has it.
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
        """Make one update of the exact run, of the stored one, and of the bounds."""
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
            # The smallest normal numbers are added to a state's size in float32.
            in_m = in_m + self._unit * (np.abs(new_m) + 2.0**-3)
        in_theta = in_theta + c.impulse * of_direction
        in_m = in_m + abs(c.drive) * of_direction
        half = half_ulp(
            np.abs(new_theta) + self._arithmetic.theta + self._storage.theta, self._dtype
        )
        # Some forms find the old theta from the new one, as that is stored.
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
        """Set other parameters, which are exact; the errors of the momentum stay."""
        new = theta.astype(self._wide)
        self._exact, self._stored = (new, *self._exact[1:]), (new, *self._stored[1:])
        forget, zero = np.diag([0.0, 1.0]), np.zeros_like(theta)
        self._arithmetic.step(forget, zero, zero)
        self._storage.step(forget, zero, zero)
        self._variance = _spread(forget, self._variance, zero)
        if self._of_state:
            self._of_state.replace()

    def errors(self) -> ErrorBounds:
        """Return the error bounds of theta."""
        return self._of_sum(1.0, 0.0)

    def errors_of_psi(self, alpha: float, beta: float) -> ErrorBounds:
        """Return those of psi = beta m + (1 - alpha beta) theta."""
        found = self._of_sum(1 - alpha * beta, beta)
        theta, m, _ = map(_as_float64, self._exact)
        terms = (1 + alpha * beta) * np.abs(theta) + beta * np.abs(m)
        return found._replace(arithmetic=found.arithmetic + _OF_MOVE * self._unit * terms)

    def _of_sum(self, of_theta: float, of_m: float) -> ErrorBounds:
        """Return the error bounds of a sum of theta and m, with these weights."""
        runs: list[tuple[Any, Any, Any]] = [self._exact, self._stored]
        exact, stored = (of_theta * theta + of_m * m for theta, m, _ in runs)
        floor = np.abs(_as_float64(np.subtract(stored, exact)))
        # The truth itself is rounded to float64.
        own = half_ulp(np.abs(_as_float64(exact)), "float64")
        ee, ef, ff = self._variance
        found = ErrorBounds(
            floor,
            self._storage.of_sum(of_theta, of_m) + own,
            self._arithmetic.of_sum(of_theta, of_m),
            of_theta**2 * ee + 2 * of_theta * of_m * ef + of_m**2 * ff,
        )
        if self._of_state is None:
            return found
        return found._replace(
            storage=found.storage + self._of_state.bound(of_theta, of_m),
            arithmetic=found.arithmetic + self._of_state.bias(of_theta, of_m),
            variance=found.variance + self._of_state.variance(of_theta, of_m),
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
        """Return how far v may be off, after the update."""
        squared = g * g
        step = min(c.averaging, c.sigma) * np.abs(squared - v)
        of_square = c.averaging * (1 + 2 * self._of_gradient) * squared
        local = self._unit * (new_v + _OF_AVERAGE * step + of_square)
        off: Array = c.sigma * self._of_v + local + 3 * self._tiny
        return off

    def _direction(self, g: Array, v: Array, c: Scalars) -> tuple[Array, Array]:
        """Return |u|, and how far u may be off."""
        v, off = v / c.bias_correction, self._of_v / c.bias_correction
        with np.errstate(divide="ignore", invalid="ignore"):
            least = np.sqrt(np.maximum(v - off, 0))
            of_root = off / (np.sqrt(v) + least + np.finfo(float).tiny)
            direction = np.where(g == 0, 0.0, np.abs(g) / (np.sqrt(v) + c.eps))
            roundings = _OF_DIRECTION + self._of_gradient
            relative = of_root / (least + c.eps) + roundings * self._unit
            of_direction = np.where(g == 0, 0.0, direction * relative) + self._tiny
        return direction, of_direction

    def _committed(
        self, theta: Array, m: Array, new_m: Array, u: Array, h: dict[str, float]
    ) -> tuple[Array, Array]:
        """Return what the arithmetic of one update adds to the errors of theta and m."""
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
        """Return lambda / beta, by which weight decay reaches the momentum, if it does."""
        return h["weight_decay"] / h["beta"] if h["decay_momentum"] else 0.0

    def _of_schedule(self, name: str) -> float:
        """Return how far a schedule may be off that is evaluated in the run's precision."""
        schedule = getattr(self._group, name)
        if schedule is None:
            return 0.0
        return float(_OF_MOVE * self._unit * max(abs(schedule.peak), abs(schedule.end)))


class _Carried:
    """Bounds of errors of theta and m that every update adds to and carries on.

    Within a block of updates the recurrence is applied in absolute values. These grow where the
    true one turns, as it does for weights that swing: so what a block has left is carried on by
    the product of the matrices themselves.
    """

    def __init__(self, zero: Array, length: int) -> None:
        self._length = length
        self._made = 0
        self._block = np.stack([zero, zero])
        self._blocks = np.zeros((0, *self._block.shape))
        self._products = np.zeros((0, 2, 2))

    def step(self, matrix: Array, in_theta: Array, in_m: Array) -> None:
        """Carry (theta, m) on by a matrix, and add to it."""
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
        """Return the bound of the error of a sum of theta and m, with these weights."""
        weights = np.array([of_theta, of_m])
        carried = np.einsum("bi,bin->n", np.abs(weights @ self._products), self._blocks)
        found: Array = np.abs(weights) @ self._block + carried
        return found


_Covariance = tuple[Array, Array, Array]
"""Of theta with itself, of theta with m, of m with itself."""


def _spread(matrix: Array, covariance: _Covariance, added: Array) -> _Covariance:
    """Return the covariance of (theta, m) times a matrix, with an independent error of theta."""
    (a, b), (c, d) = matrix.tolist()
    ee, ef, ff = covariance
    return (
        a * a * ee + 2 * a * b * ef + b * b * ff + added,
        a * c * ee + (a * d + b * c) * ef + b * d * ff,
        c * c * ee + 2 * c * d * ef + d * d * ff,
    )


def half_ulp(magnitude: Array, dtype: str) -> Array:
    """Return half a unit in the last place of numbers >= 0 in a dtype."""
    bits, smallest = FORMATS[dtype]
    _, exponent = np.frexp(magnitude)  # Of significands in [1/2, 1); of zero it is zero.
    exponent = np.where(magnitude == 0, smallest, exponent)
    half: Array = np.ldexp(0.5, np.maximum(exponent, smallest + 1) - bits)
    return half


def _as_float64(values: NDArray[Any]) -> Array:
    return np.asarray(values, np.float64)
