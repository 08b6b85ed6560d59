"""What rounding may do to a trajectory: the derivation is in docs/tolerance.md.

Two bounds, both from the momentum form. Of each element: the sum of all that rounding can do
at worst, carried on by the update's own recurrence. Of all elements together: the same for the
arithmetic, but for the storage of the parameters what independent roundings add up to.
"""

import math
from dataclasses import dataclass

import numpy as np

from innaprop_conformance.cases import Array
from innaprop_conformance.cases.values import rounded
from innaprop_conformance.walk import Chunk, Update
from innaprop_core import momentum

SURPRISE = 30.0
"""Independent roundings exceed the bound of the norm with probability exp(-30) at most."""
FLOORS_ALLOWED = 1.5
"""Roundings that depend on each other may do half as much again as they did in the floor."""

_FORMATS = {
    "float64": (53, -1022),
    "float32": (24, -126),
    "bfloat16": (8, -126),
    "float16": (11, -14),
}
"""Bits of the significand and exponent of the smallest normal number, by dtype."""

# Roundings, in units of the unit roundoff, that a careful implementation commits at most. Each
# counts a scalar's own error, the product with it, and its part in the sums.
_IN_MOVE = 8.0
_IN_DIRECTION = 10.0
_IN_MOMENTUM = 3.0


@dataclass(frozen=True)
class Corridor:
    """What is allowed in one dtype after every update."""

    floor: Array
    """Error, as a norm, of a run that is exact but for storing its parameters; (steps,)."""
    elements: Array
    """Largest error of each element, of shape (steps, elements)."""
    norm: Array
    """Largest norm of the error over all elements, of shape (steps,)."""


class Bounds:
    """Bounds of a chunk's errors, update by update.

    Args:
        chunk: What is updated.
        dtype: What the parameters are stored in; state and arithmetic are float64 for float64
            and float32 for all others.
        steps: Number of updates of the run.
    """

    def __init__(self, chunk: Chunk, dtype: str, steps: int) -> None:
        zero = np.zeros_like(chunk.start)
        self._dtype = dtype
        self._group = chunk.group
        compute = "float64" if dtype == "float64" else "float32"
        bits, smallest = _FORMATS[compute]
        self._unit, self._tiny = 2.0**-bits, 2.0**smallest
        # Wider than what is judged, where the machine has it: or the floor would be its own.
        self._wide = np.longdouble if dtype == "float64" else np.float64
        start = chunk.start.astype(self._wide)
        state = zero.astype(self._wide)
        self._exact = (start, state, state)
        self._stored = (start, state, state)
        self._v_error = zero
        length = math.isqrt(steps)
        self._arithmetic, self._storage = _Carried(zero, length), _Carried(zero, length)
        self._variance = (zero, zero, zero)
        self.rows: list[tuple[Array, Array, Array, Array]] = []

    def step(self, update: Update) -> None:
        """Make one update of the exact run, of the stored run, and of all bounds."""
        h, u = update.values, self._unit
        c = momentum.coefficients(update.k, **h)
        theta, m, v = (np.asarray(x, np.float64) for x in self._exact)
        g = update.gradient
        self._exact = momentum.step(*self._exact, g.astype(self._wide), c)
        moved, m_stored, v_stored = momentum.step(*self._stored, g.astype(self._wide), c)
        self._stored = (self._store(moved), m_stored, v_stored)
        new_theta, new_m, new_v = (np.asarray(x, np.float64) for x in self._exact)

        # The second moment, and with it the direction u = g / (sqrt(v / c) + eps).
        squared = g * g
        weight = min(c.averaging, c.memory)
        self._v_error = c.memory * self._v_error + (
            u * (new_v + 3 * weight * np.abs(squared - v) + c.averaging * squared) + 3 * self._tiny
        )
        v_hat, v_hat_error = new_v / c.bias_correction, self._v_error / c.bias_correction
        low = np.sqrt(np.maximum(v_hat - v_hat_error, 0))
        with np.errstate(divide="ignore", invalid="ignore"):
            root_error = np.where(v_hat_error > 0, v_hat_error / (np.sqrt(v_hat) + low), 0.0)
            direction = np.where(g == 0, 0.0, np.abs(g) / (np.sqrt(v_hat) + c.eps))
            relative = root_error / (low + c.eps) + _IN_DIRECTION * u
            direction_error = np.where(g == 0, 0.0, direction * relative) + self._tiny

        # What one update adds to the errors of theta and of m.
        alpha, beta, gamma = h["alpha"], h["beta"], h["gamma"]
        pull = h["weight_decay"] / beta * np.abs(theta)
        mixed = np.abs(m) + gamma * np.abs(1 - alpha * beta) * pull
        half = half_ulp(
            np.abs(new_theta) + self._arithmetic.theta + self._storage.theta, self._dtype
        )
        in_theta = (
            _IN_MOVE * u * gamma * (h["weight_decay"] * np.abs(theta) + mixed + beta * direction)
            + c.impulse * direction_error
        )
        in_m = (
            _IN_MOMENTUM * u * (mixed + np.abs(new_m))
            + _IN_MOVE * u * gamma * (alpha * mixed + (1 + alpha * beta) * (direction + pull))
            + np.abs(c.drive) * direction_error
            # Some forms find the old theta from the new one, as it is stored.
            + 2 * gamma * (1 + alpha * beta) * h["weight_decay"] / beta * half
        )
        alpha_error, beta_error = (self._schedule_error(name) for name in ("alpha", "beta"))
        in_theta += gamma * beta_error * direction
        in_m += gamma * (
            alpha_error * mixed
            + (alpha * beta_error + beta * alpha_error) * (direction + pull)
            + beta_error / beta * pull
        )

        # What has been before is carried on by the update's own recurrence.
        kept, slowed = 1 - c.decay - gamma * c.decay_drive, 1 - c.friction
        turned = slowed * c.decay_drive
        matrix = np.array([[kept, -gamma], [turned, slowed]])
        self._arithmetic.step(matrix, in_theta, in_m)
        self._storage.step(matrix, half, np.zeros_like(half))
        ee, ef, ff = self._variance
        self._variance = (
            kept**2 * ee - 2 * kept * gamma * ef + gamma**2 * ff + half**2 / 3,
            kept * turned * ee + (kept * slowed - gamma * turned) * ef - gamma * slowed * ff,
            turned**2 * ee + 2 * turned * slowed * ef + slowed**2 * ff,
        )

    def keep(self) -> None:
        """Remember where the bounds stand."""
        theta = self._exact[0]
        floor = np.abs(np.asarray(self._stored[0] - theta, np.float64))
        # The truth itself is rounded to float64.
        own = half_ulp(np.abs(np.asarray(theta, np.float64)), "float64")
        self.rows.append(
            (floor, self._storage.theta + own, self._arithmetic.theta, self._variance[0])
        )

    def _store(self, theta: Array) -> Array:
        if self._dtype == "float64":
            return theta.astype(np.float64).astype(self._wide)
        return rounded(theta, self._dtype)

    def _schedule_error(self, name: str) -> float:
        """Return what rounding may do to a schedule that is evaluated in the run's precision."""
        schedule = getattr(self._group, name)
        if schedule is None:
            return 0.0
        return float(_IN_MOVE * self._unit * max(abs(schedule.peak), abs(schedule.end)))


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
        self.theta = zero

    def step(self, matrix: Array, in_theta: Array, in_m: Array) -> None:
        """Carry on what there is with (theta, m) times a matrix, and add to it."""
        self._block = np.abs(matrix) @ self._block + np.stack([in_theta, in_m])
        self._products = matrix @ self._products
        self.theta = self._block[0] + np.einsum(
            "bi,bin->n", np.abs(self._products[:, 0]), self._blocks
        )
        self._made += 1
        if self._made % self._length == 0:
            self._blocks = np.concatenate([self._blocks, self._block[None]])
            self._products = np.concatenate([self._products, np.eye(2)[None]])
            self._block = np.zeros_like(self._block)


def join(parts: list[Bounds]) -> Corridor:
    """Return the corridor of all chunks together."""
    floor, storage, arithmetic, variance = (
        np.concatenate([np.array([row[i] for row in part.rows]) for part in parts], axis=1)
        for i in range(4)
    )
    floors = np.maximum.accumulate(np.linalg.norm(floor, axis=1))
    # Of sub-Gaussian errors: Hsu, Kakade and Zhang, arXiv 1110.2842, theorem 2.1.
    independent = np.sqrt(
        variance.sum(axis=1)
        + 2 * np.sqrt(SURPRISE * (variance**2).sum(axis=1))
        + 2 * SURPRISE * variance.max(axis=1, initial=0.0)
    )
    stored = np.maximum(np.maximum.accumulate(independent), FLOORS_ALLOWED * floors)
    return Corridor(
        floor=floors,
        elements=storage + arithmetic,
        norm=stored + np.linalg.norm(arithmetic, axis=1),
    )


def half_ulp(magnitude: Array, dtype: str) -> Array:
    """Return half a unit in the last place of numbers >= 0 in a dtype."""
    bits, smallest = _FORMATS[dtype]
    _, exponent = np.frexp(magnitude)
    # A half more: frexp's significands are below one.
    return np.ldexp(0.5, np.maximum(exponent, smallest + 1) - bits)
