"""The suite's own implementation of Algorithm 1, independent of ``innaprop_core``.

If the ground truth used the core's code, a mistake there would be in the truth too, and every
backend that has it would pass.
"""

import decimal
import math
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

DIGITS = 40


def context() -> decimal.Context:
    """Return the decimal context of the ground truth: 40 digits, and NaN instead of exceptions."""
    result = decimal.Context(prec=DIGITS)
    result.clear_traps()
    return result


def decimals(values: NDArray[np.float64]) -> NDArray[np.object_]:
    """Return float64 numbers as Decimals of exactly the same value."""
    result = np.empty(values.shape, object)
    result[:] = [Decimal(value) for value in values.tolist()]
    return result


class Exact:
    """Parameters, psi and second moment as Decimals, updated by Algorithm 1 as printed.

    When alpha or beta changes, psi is recomputed so that the momentum
    m = (psi - (1 - alpha beta) theta) / beta stays the same.

    Args:
        theta: Initial parameters; Decimals, of shape (elements,).
    """

    def __init__(self, theta: NDArray[np.object_]) -> None:
        self.theta = theta
        self._m: Any = 0 * theta
        self._psi: Any = None
        self._v: Any = 0 * theta
        self._dampings: tuple[Decimal, Decimal] | None = None

    def psi(self, alpha: float, beta: float) -> Any:
        """Return psi for these alpha and beta; before the first update the momentum is zero."""
        self._use(Decimal(alpha), Decimal(beta))
        return self._psi

    def replace(self, theta: NDArray[np.object_]) -> None:
        """Replace theta; the momentum stays the same."""
        self._keep_momentum()
        self.theta = theta

    def constrain(self, amount: Decimal) -> None:
        """Move every theta outside [-amount, amount] to its end; the momentum stays the same."""
        theta: Any = self.theta
        self.replace(np.clip(theta, -amount, amount))  # type: ignore[call-overload]

    def step(self, g: NDArray[np.object_], k: int, values: dict[str, Any]) -> None:
        """Make update number k, starting at 1, with hyperparameters by the paper's names.

        Source: arXiv 2410.05871, Algorithm 1.
        """
        gamma, alpha, beta, sigma, eps, decay = (
            Decimal(values[name])
            for name in ("gamma", "alpha", "beta", "sigma", "eps", "weight_decay")
        )
        self._use(alpha, beta)
        theta, psi = self.theta, self._psi
        if not values["decay_momentum"]:
            psi = psi - (1 - alpha * beta) * (decay * gamma * theta)
        theta = theta - decay * gamma * theta
        self._v = sigma * self._v + (1 - sigma) * g * g
        u = g / (_root(self._v / (1 - sigma**k)) + eps)
        psi = psi - gamma / beta * psi + gamma * (1 / beta - alpha) * theta
        self._psi = psi
        ahead = gamma / (beta - gamma)
        self.theta = theta + ahead * ((1 - alpha * beta) * theta - psi) - gamma * beta * u

    def _use(self, alpha: Decimal, beta: Decimal) -> None:
        if self._dampings == (alpha, beta) and self._psi is not None:
            return
        self._keep_momentum()
        self._dampings = alpha, beta
        self._psi = beta * self._m + (1 - alpha * beta) * self.theta

    def _keep_momentum(self) -> None:
        if self._psi is not None:
            assert self._dampings is not None
            alpha, beta = self._dampings
            self._m = (self._psi - (1 - alpha * beta) * self.theta) / beta
            self._psi = None


class Scalars(NamedTuple):
    """The scalars of one update in momentum form; ``moved`` uses them."""

    gamma: float
    decay: float
    decay_drive: float
    impulse: float
    friction: float
    drive: float
    sigma: float
    averaging: float
    bias_correction: float
    eps: float

    @classmethod
    def of(cls, k: int, values: dict[str, Any]) -> "Scalars":
        """Return the scalars of update number k, from hyperparameters by the paper's names."""
        gamma, alpha, beta, sigma = (values[n] for n in ("gamma", "alpha", "beta", "sigma"))
        decay = values["weight_decay"]
        viscous = 1 - alpha * beta
        return cls(
            gamma=gamma,
            decay=gamma * decay,
            decay_drive=gamma * (decay * (viscous / beta)) if values["decay_momentum"] else 0.0,
            impulse=gamma * beta,
            friction=gamma * alpha,
            drive=gamma * viscous,
            sigma=sigma,
            averaging=1 - sigma,
            bias_correction=1.0 if sigma == 0 else -math.expm1(k * math.log(sigma)),
            eps=values["eps"],
        )


def moved(theta: Any, m: Any, v: Any, g: Any, s: Scalars) -> tuple[Any, Any, Any]:
    """Return theta, m and v after an update in momentum form, in the arrays' precision.

    Source: arXiv 2410.05871, Algorithm 1, with m = (psi - (1 - alpha beta) theta) / beta.
    """
    squared = g * g
    with np.errstate(divide="ignore", invalid="ignore"):
        if s.averaging <= s.sigma:
            v = v + s.averaging * (squared - v)
        else:
            v = squared + s.sigma * (v - squared)
        u = g / (np.sqrt(v / s.bias_correction) + s.eps)
    m = m + s.decay_drive * theta
    theta = theta - (s.decay * theta + s.gamma * m + s.impulse * u)
    return theta, m - s.friction * m + s.drive * u, v


def _root(values: NDArray[np.object_]) -> NDArray[np.object_]:
    result = np.empty(values.shape, object)
    result[:] = [value.sqrt() for value in values]
    return result
