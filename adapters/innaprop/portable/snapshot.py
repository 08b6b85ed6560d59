"""The portable state: NumPy arrays and numbers by parameter name, independent of frameworks."""

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from innaprop_core import check_hyperparameters

Array = NDArray[Any]

SIXTEEN_BITS = ("bfloat16", "float16")
DTYPES = ("float32", "float64", *SIXTEEN_BITS)
HYPERPARAMETERS = ("gamma", "alpha", "beta", "sigma", "eps", "weight_decay", "decay_momentum")
_COUNTS_END = 2**31
"""Upper bound of counts: some frameworks count in int32."""


@dataclass(frozen=True, eq=False)
class ParameterState:
    """An optimizer's state of one parameter.

    Args:
        dtype: The parameter's dtype: "float32", "float64", "bfloat16" or "float16".
        step: Number of updates, 0 <= step < 2**31.
        momentum: Of the parameter's shape, finite; float64 for float64 parameters, float32 for
            others.
        second_moment: Likewise, and not negative.
        hyperparameters: ``gamma``, ``alpha``, ``beta``, ``sigma``, ``eps``, ``weight_decay`` and
            ``decay_momentum``, as in ``innaprop_core.Hyperparameters``; None for a schedule, or if
            the number is not known.
        psi: The paper's psi, like the momentum; None if alpha or beta is not known. Default None.
        residual: The low bits of the float32 master weights of a bfloat16 or float16 parameter,
            int16; None for other parameters, or if there is none. Default None.

    Source: arXiv 2410.05871, Algorithm 1, in momentum coordinates.
    """

    dtype: str
    step: int
    momentum: Array
    second_moment: Array
    hyperparameters: Mapping[str, float | None]
    psi: Array | None = None
    residual: Array | None = None

    def arrays(self) -> dict[str, Array]:
        """Return the arrays that are not None, by name."""
        named = {
            name: getattr(self, name) for name in ("momentum", "second_moment", "psi", "residual")
        }
        return {name: array for name, array in named.items() if array is not None}


@dataclass(frozen=True, eq=False)
class Snapshot:
    """An optimizer's complete state.

    Args:
        iterations: Number of calls of the optimizer, which schedules depend on: the largest
            ``step``, or more if some calls did not update every parameter.
        parameters: The state of each parameter, by name.

    Raises:
        TypeError: A name, a count or a hyperparameter is of the wrong type.
        ValueError: There are no parameters, or a ``ParameterState`` is invalid.
    """

    iterations: int
    parameters: Mapping[str, ParameterState]

    def __post_init__(self) -> None:
        if not self.parameters:
            raise ValueError("a state must be of one parameter at least, got none")
        for name, state in self.parameters.items():
            if not isinstance(name, str):
                raise TypeError(f"names of parameters must be strings, got {name!r}")
            _check(name, state)
        _check_count("iterations", self.iterations)
        last = max(state.step for state in self.parameters.values())
        if self.iterations < last:
            raise ValueError(
                f"iterations must be {last} at least, the most updates of a parameter, "
                f"got {self.iterations}"
            )


def as_number(value: Any) -> float | bool | None:
    """Convert a hyperparameter for a state: None for a schedule.

    A float32 becomes the shortest decimal that rounds to it, which is what the user wrote.

    Args:
        value: A number, an array of one element, a callable or None.
    """
    if isinstance(value, bool):
        return value
    if value is None or callable(value):
        return None
    scalar = np.asarray(value).reshape(())[()]
    return float(str(scalar)) if isinstance(scalar, np.float32) else float(scalar)


def _check(name: str, state: ParameterState) -> None:
    if state.dtype not in DTYPES:
        raise ValueError(f"dtype of {name!r} must be one of {', '.join(DTYPES)}, got {state.dtype}")
    _check_count(f"step of {name!r}", state.step)
    shape = state.momentum.shape
    for what, array in state.arrays().items():
        allowed = "float64" if state.dtype == "float64" else "float32"
        if what == "residual":
            allowed = "int16"
            if state.dtype not in SIXTEEN_BITS:
                raise ValueError(
                    f"residual of {name!r} must be left out, since the parameter is {state.dtype}"
                )
        if array.dtype != allowed or array.shape != shape:
            raise ValueError(
                f"{what} of {name!r} must be {allowed} of shape {shape}, "
                f"got {array.dtype} of shape {array.shape}"
            )
        if not np.isfinite(array).all():
            raise ValueError(f"{what} of {name!r} must be finite, got {_first(array)}")
    if (state.second_moment < 0).any():
        least = state.second_moment.min()
        raise ValueError(f"second_moment of {name!r} must not be negative, got {least}")
    if set(state.hyperparameters) != set(HYPERPARAMETERS):
        raise ValueError(
            f"hyperparameters of {name!r} must be {', '.join(HYPERPARAMETERS)}, "
            f"got {', '.join(state.hyperparameters)}"
        )
    known = {key: value for key, value in state.hyperparameters.items() if value is not None}
    try:
        check_hyperparameters(known)
    except (TypeError, ValueError) as error:
        raise type(error)(f"hyperparameters of {name!r}: {error}") from error


def _check_count(what: str, count: Any) -> None:
    if isinstance(count, bool) or not isinstance(count, Integral):
        raise TypeError(f"{what} must be an integer, got {count!r}")
    if not 0 <= int(count) < _COUNTS_END:
        raise ValueError(f"{what} must be in [0, 2**31), got {count}")


def _first(array: Array) -> Any:
    return array[~np.isfinite(array)].flat[0]
