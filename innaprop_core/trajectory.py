"""Every iterate of a run under given gradients, in decimal arithmetic or in float64."""

import decimal
from collections.abc import Callable, Iterable
from dataclasses import asdict
from decimal import Decimal
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from innaprop_core import algorithm, momentum
from innaprop_core.hyperparameters import (
    Hyperparameters,
    check_hyperparameters,
    check_is_hyperparameters,
)

Float64Array = NDArray[np.float64]


class Trajectory(NamedTuple):
    """Iterates of a run; row k - 1 of each array is the value after update k."""

    theta: Float64Array
    """Parameter, of shape ``(steps, *shape)``."""
    psi: Float64Array
    """Auxiliary variable, of shape ``(steps, *shape)``."""
    v: Float64Array
    """Second moment, of shape ``(steps, *shape)``."""


def trajectory(
    hyperparameters: Hyperparameters,
    theta: ArrayLike,
    gradients: Iterable[ArrayLike],
    *,
    schedule: Callable[[int], float] | None = None,
    digits: int | None = 40,
    stored_in: DTypeLike | None = None,
) -> Trajectory:
    """Compute INNAprop's iterates from a starting point and a sequence of gradients.

    With ``digits`` the run evaluates Algorithm 1 as printed, in decimal arithmetic of that many
    digits, and rounds only the results to float64. It takes about 8 microseconds per element and
    update. With ``digits=None`` the run evaluates the momentum form in float64, which is a hundred
    times faster on arrays of a thousand elements or more. Relative to the distance moved, its
    error is about 1e-14 at step sizes of 1e-3, and 1e-11 at 1e-6.

    Args:
        hyperparameters: As in Algorithm 1. Their exact binary values are used.
        theta: Initial parameter, array of any shape, finite.
        gradients: One array of theta's shape per update, finite; consumed lazily.
        schedule: Step size as a function of the number of previous updates (0 for the first).
            Default: the constant ``hyperparameters.gamma``.
        digits: Decimal digits of the arithmetic, at least 17, or None for float64.
            Default 40.
        stored_in: Real floating dtype to which theta, and nothing else, is rounded after every
            update. The error of that run is the floor: the error that no implementation in that
            dtype can avoid. The dtype may be NumPy's or a registered one such as
            ``ml_dtypes.bfloat16``. Default None, no rounding.

    Returns:
        theta, psi and v after every update, float64.

    Raises:
        TypeError: ``hyperparameters`` is not a ``Hyperparameters``, a step size is not a number,
            theta or a gradient is complex or not an array of numbers, digits is not an integer, or
            stored_in is not a real floating dtype.
        ValueError: theta or a gradient is not finite, a gradient's shape differs from theta's, a
            step size is not in [0, beta), or digits < 17.

    Source: arXiv 2410.05871, Algorithm 1.
    """
    check_is_hyperparameters(hyperparameters)
    if digits is not None and not isinstance(digits, Integral):
        raise TypeError(f"digits must be an integer, at least 17, or None, got {digits!r}")
    if digits is not None and digits < 17:
        raise ValueError(f"digits must be at least 17 (what float64 holds) or None, got {digits}")
    if stored_in is not None:
        _check_holds_fractions(stored_in)
    start = _finite(theta, "theta")
    stream = _checked(gradients, start.shape)
    step_size = _step_sizes(hyperparameters, schedule)
    if digits is None:
        iterates = _in_float64(hyperparameters, start.ravel(), stream, step_size, stored_in)
    else:
        iterates = _in_decimal(hyperparameters, start.ravel(), stream, step_size, stored_in, digits)
    shape = (-1, *start.shape) if start.size else (len(iterates), *start.shape)
    columns = zip(*iterates, strict=True) if iterates else ([], [], [])
    return Trajectory(*(np.array(column, np.float64).reshape(shape) for column in columns))


_Iterates = list[tuple[Any, Any, Any]]


def _in_decimal(
    hyperparameters: Hyperparameters,
    start: Float64Array,
    gradients: Iterable[Float64Array],
    step_size: Callable[[int], float],
    stored_in: DTypeLike | None,
    digits: int,
) -> _Iterates:
    values: dict[str, Any] = {
        name: value if isinstance(value, bool) else Decimal(value)
        for name, value in asdict(hyperparameters).items()
    }
    iterates = []
    with decimal.localcontext(prec=digits) as context:
        context.clear_traps()
        theta = _decimal(start)
        psi = algorithm.initial_psi(theta, alpha=values["alpha"], beta=values["beta"])
        v = 0 * theta
        for k, g in enumerate(gradients, start=1):
            values["gamma"] = Decimal(step_size(k - 1))
            theta, psi, v = algorithm.step(theta, psi, v, _decimal(g), k=k, **values)
            if stored_in is not None:
                # Through float64: registered dtypes cannot be made from Decimal.
                rounded = theta.astype(np.float64).astype(stored_in).astype(np.float64)
                stored = _decimal(rounded)
                # Rounding changes theta and not the momentum, so psi has to change with theta.
                psi = psi + (1 - values["alpha"] * values["beta"]) * (stored - theta)
                theta = stored
            iterates.append(
                (theta.astype(np.float64), psi.astype(np.float64), v.astype(np.float64))
            )
    return iterates


def _in_float64(
    hyperparameters: Hyperparameters,
    start: Float64Array,
    gradients: Iterable[Float64Array],
    step_size: Callable[[int], float],
    stored_in: DTypeLike | None,
) -> _Iterates:
    values = asdict(hyperparameters)
    alpha, beta = hyperparameters.alpha, hyperparameters.beta
    theta, m, v = start, np.zeros_like(start), np.zeros_like(start)
    iterates = []
    for k, g in enumerate(gradients, start=1):
        values["gamma"] = step_size(k - 1)
        theta, m, v = momentum.step(theta, m, v, g, momentum.coefficients(k, **values))
        if stored_in is not None:
            theta = theta.astype(stored_in).astype(np.float64)
        psi = momentum.psi_from_momentum(theta, m, alpha=alpha, beta=beta)
        iterates.append((theta, psi, v))
    return iterates


def _step_sizes(
    hyperparameters: Hyperparameters, schedule: Callable[[int], float] | None
) -> Callable[[int], float]:
    def step_size(updates: int) -> float:
        gamma = hyperparameters.gamma if schedule is None else schedule(updates)
        check_hyperparameters({"gamma": gamma, "beta": hyperparameters.beta})
        return float(gamma)

    return step_size


def _checked(gradients: Iterable[ArrayLike], shape: tuple[int, ...]) -> Iterable[Float64Array]:
    for i, gradient in enumerate(gradients):
        g = _finite(gradient, f"gradients[{i}]")
        if g.shape != shape:
            raise ValueError(f"gradients[{i}] must have theta's shape {shape}, got {g.shape}")
        yield g.ravel()


def _finite(values: ArrayLike, name: str) -> Float64Array:
    try:
        given = np.asarray(values)
        array = given if np.iscomplexobj(given) else np.asarray(given, np.float64)
    except (RuntimeError, TypeError, ValueError) as error:  # PyTorch raises RuntimeError.
        raise TypeError(
            f"{name} must be an array that NumPy converts to float64: {error}"
        ) from error
    if np.iscomplexobj(array):
        raise TypeError(f"{name} must be real, got a complex array")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got {array}")
    return array


def _decimal(values: Float64Array) -> NDArray[np.object_]:
    return np.array([Decimal(float(value)) for value in values], object)


def _check_holds_fractions(stored_in: DTypeLike) -> None:
    """Raise TypeError unless a dtype is real and floating."""
    try:
        dtype = np.dtype(stored_in)
        # Registered dtypes, such as bfloat16, report kind "V": test whether they hold fractions.
        added = dtype.isbuiltin == 2 and dtype.kind == "V"
        holds = dtype.kind == "f" or (added and np.array(0.5).astype(dtype).astype(float) == 0.5)
    except TypeError:
        holds = False
    if not holds:
        raise TypeError(f"stored_in must be a real floating dtype or None, got {stored_in!r}")
