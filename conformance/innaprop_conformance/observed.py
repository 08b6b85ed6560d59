"""The judged quantity of a run: its parameters, its psi, or a moving average of the parameters."""

from typing import Any

import numpy as np

from innaprop_conformance.bounds import FORMATS, Bounds, ErrorBounds
from innaprop_conformance.cases import Array
from innaprop_conformance.exact import Exact


class Theta:
    """The parameters themselves."""

    def updated(self, exact: Exact, values: dict[str, Any]) -> None:
        """Record an update of the exact run, made with these hyperparameters."""

    def value(self, exact: Exact) -> Array:
        """Return the true values of the judged quantity; float64."""
        return exact.theta.astype(np.float64)

    def errors(self, dtype: str, bounds: Bounds) -> ErrorBounds:
        """Return the judged quantity's error bounds in a dtype; call it once after each update."""
        return bounds.errors()


class Psi(Theta):
    """psi, for the alpha and beta of the last update."""

    def __init__(self) -> None:
        self._dampings = (0.0, 1.0)

    def updated(self, exact: Exact, values: dict[str, Any]) -> None:
        """Record an update of the exact run, made with these hyperparameters."""
        self._dampings = values["alpha"], values["beta"]

    def value(self, exact: Exact) -> Array:
        """Return the true values of the judged quantity; float64."""
        psi: Array = exact.psi(*self._dampings).astype(np.float64)
        return psi

    def errors(self, dtype: str, bounds: Bounds) -> ErrorBounds:
        """Return the judged quantity's error bounds in a dtype; call it once after each update."""
        return bounds.errors_of_psi(*self._dampings)


class Average(Theta):
    """The exponential moving average of the parameters; it starts at those after the first update.

    Args:
        momentum: The weight of the old average in the new one.
    """

    def __init__(self, momentum: float) -> None:
        self._momentum = momentum
        self._average: Any = None
        self._error_bounds: dict[str, ErrorBounds] = {}

    def value(self, exact: Exact) -> Array:
        """Return the true values of the judged quantity; float64."""
        theta = exact.theta.astype(np.float64)
        old = self._average
        self._average = theta if old is None else old + (1 - self._momentum) * (theta - old)
        return np.asarray(self._average)

    def errors(self, dtype: str, bounds: Bounds) -> ErrorBounds:
        """Return the judged quantity's error bounds in a dtype; call it once after each update."""
        new, old, mu = bounds.errors(), self._error_bounds.get(dtype), self._momentum
        if old is not None:
            bits, _ = FORMATS[dtype]
            rounded = 4 * 2.0**-bits * np.abs(self._average)
            new = ErrorBounds(
                mu * old.floor + (1 - mu) * new.floor,
                mu * old.storage + (1 - mu) * new.storage,
                mu * old.arithmetic + (1 - mu) * new.arithmetic + rounded,
                # The errors of different updates may be fully correlated.
                (mu * np.sqrt(old.variance) + (1 - mu) * np.sqrt(new.variance)) ** 2,
            )
        self._error_bounds[dtype] = new
        return new
