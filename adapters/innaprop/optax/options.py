"""The hyperparameters of a transformation: numbers, traced arrays and schedules."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from innaprop_core import check_hyperparameters, momentum

NAMES = {"gamma": "learning_rate"}
SCHEDULABLE = ("gamma", "alpha", "beta")


class Options:
    """Hyperparameters under the core's names, checked as far as they are known.

    Args:
        **values: Numbers, scalar arrays (traced ones too) or, for gamma, alpha and beta,
            callables of the number of previous updates.

    Raises:
        TypeError: A value is none of these, or an array that is not float32, float64 or
            integer.
        ValueError: An array is not a scalar, or a known value is outside its range.
    """

    def __init__(self, **values: Any) -> None:
        self._schedules: dict[str, Callable[[Any], Any]] = {
            key: value for key, value in values.items() if key in SCHEDULABLE and callable(value)
        }
        self._numbers = _checked(
            {key: value for key, value in values.items() if key not in self._schedules}
        )

    def at(self, updates: Any) -> dict[str, Any]:
        """Return the values for the update after ``updates`` previous ones.

        Raises:
            TypeError, ValueError: The result of a schedule is invalid, as above.
        """
        if not self._schedules:
            return self._numbers
        scheduled = {key: schedule(updates) for key, schedule in self._schedules.items()}
        return _checked({**self._numbers, **scheduled})


def coefficients(
    k: Any, values: Mapping[str, Any], decay_momentum: bool, dtype: Any
) -> momentum.Coefficients:
    """Return the scalars of update number k in a dtype.

    Python numbers are not converted: their products are computed in float64, and are weakly typed.
    """
    values = {
        key: value.astype(dtype) if isinstance(value, jax.Array) else value
        for key, value in values.items()
    }
    return momentum.coefficients(
        k.astype(dtype), **values, decay_momentum=decay_momentum, expm1=jnp.expm1, log=_log
    )


def _log(sigma: Any) -> Any:
    # sigma is near 1, where sigma - 1 is exact in float32.
    return jnp.log1p(sigma - 1)


def _checked(values: Mapping[str, Any]) -> dict[str, Any]:
    numbers = {key: _number(NAMES.get(key, key), value) for key, value in values.items()}
    known = {key: x for key, x in numbers.items() if not isinstance(x, jax.core.Tracer)}
    check_hyperparameters(known, NAMES)
    return {key: float(x) if key in known else x for key, x in numbers.items()}


def _number(name: str, value: Any) -> Any:
    """Return an array's value as a number, and tracers and other values unchanged."""
    if not isinstance(value, (jax.Array, np.ndarray)):
        return value
    if value.shape != ():
        raise ValueError(
            f"{name} must be a scalar, got an array of shape {value.shape}; "
            "for one value per model use jax.vmap"
        )
    if value.dtype not in (jnp.float32, jnp.float64) and not jnp.issubdtype(
        value.dtype, jnp.integer
    ):
        raise TypeError(
            f"{name} must be float32 or float64, got {value.dtype.name}; optax.inject_hyperparams "
            "takes hyperparam_dtype=jax.numpy.float32"
        )
    return value if isinstance(value, jax.core.Tracer) else value.item()
