"""Algorithm 1 of arXiv 2410.05871 in 60 digits, written from the paper, without the core."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from mpmath import mp, mpf, sqrt

DIGITS = 60
EPS64 = float(np.finfo(np.float64).eps)


class Run(NamedTuple):
    """Arrays of mpf, of shape (steps, *shape); row k - 1 is the value after update k."""

    theta: np.ndarray
    psi: np.ndarray
    v: np.ndarray
    travel: np.ndarray
    """Sum so far of the magnitudes of all terms of the updates of theta. Times epsilon, it bounds
    the sum of rounding errors that are relative to these terms."""


def _one_number(theta, gradients, step_sizes, alpha, beta, sigma, eps, weight_decay):
    theta = mpf(theta)
    psi, v, travel, rows = (1 - alpha * beta) * theta, mpf(0), mpf(0), []
    memory = mpf(1)
    for g, gamma in zip(gradients, step_sizes, strict=True):
        g, gamma, memory = mpf(g), mpf(gamma), memory * sigma
        decayed = theta - weight_decay * gamma * theta
        v = sigma * v + (1 - sigma) * g * g
        u = g / (sqrt(v / (1 - memory)) + eps)
        psi = psi - gamma / beta * psi + gamma / beta * decayed - gamma * alpha * decayed
        theta = (
            decayed
            + gamma * (1 - alpha * beta) / (beta - gamma) * decayed
            - gamma / (beta - gamma) * psi
            - gamma * beta * u
        )
        m = (psi - (1 - alpha * beta) * theta) / beta
        parts = beta * abs(u) + abs(m) + abs(1 - alpha * beta) * gamma * abs(u)
        travel += gamma * parts
        rows.append((theta, psi, v, travel))
    return rows


def algorithm_1(
    theta: Any,
    gradients: Any,
    step_sizes: Sequence[float],
    *,
    alpha: float,
    beta: float,
    sigma: float,
    eps: float,
    weight_decay: float,
) -> Run:
    theta, gradients = np.asarray(theta, np.float64), np.asarray(gradients, np.float64)
    columns = gradients.reshape(len(gradients), theta.size)
    result = np.empty((4, len(gradients), theta.size), object)
    with mp.workdps(DIGITS):
        scalars = [mpf(float(x)) for x in (alpha, beta, sigma, eps, weight_decay)]
        for i, start in enumerate(theta.ravel()):
            gammas = [float(gamma) for gamma in step_sizes]
            rows = _one_number(float(start), columns[:, i].tolist(), gammas, *scalars)
            result[:, :, i] = np.array(rows, object).T
    return Run(*result.reshape(4, len(gradients), *theta.shape))


def exact(values: Any) -> np.ndarray:
    """Return an array of mpf with exactly the values of a float array."""
    values = np.asarray(values, np.float64)
    result = np.empty(values.shape, object)
    for index in np.ndindex(values.shape):
        result[index] = mpf(float(values[index]))
    return result


def distance(actual: Any, reference: Any) -> np.ndarray:
    """Return |actual - reference| as float64; the difference is computed before rounding."""
    difference = exact(actual) if np.asarray(actual).dtype != object else np.asarray(actual)
    return np.abs(difference - reference).astype(np.float64)
