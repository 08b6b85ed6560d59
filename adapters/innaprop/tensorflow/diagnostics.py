"""Measurements of the next update, as scalars inside the compiled step."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from innaprop.diagnostics.measure import SUMS, Operations, sums
from innaprop.forms import variables
from innaprop.tensorflow import hyperparameters
from innaprop.tensorflow.checks import checked_pairs
from innaprop.tensorflow.optimizer import INNAprop
from innaprop.tensorflow.slots import state_dtype
from innaprop_core import momentum
from innaprop_core.momentum import Coefficients

_OPERATIONS = Operations(
    sqrt=tf.sqrt,
    finite=lambda x: tf.cast(tf.math.is_finite(x), x.dtype),
    less=lambda a, b: tf.cast(tf.less(a, b), a.dtype),
    equal=lambda a, b: tf.cast(tf.equal(a, b), a.dtype),
    total=tf.reduce_sum,
    dot=lambda a, b: tf.reduce_sum(a * b),
)


def measure(
    optimizer: INNAprop,
    grads: Sequence[Any],
    var_list: Sequence[Any],
    groups: Callable[[Any], str] | None = None,
) -> dict[str, dict[str, Any]]:
    """Return what an update will do, for ``innaprop.diagnostics.Diagnostics.record``.

    Call it before ``apply``, with the same gradients and variables, in an eager loop or inside a
    ``tf.function``. Missing state is created, as in ``apply``. To avoid any cost in the steps
    between records, make two functions of the step: one that measures and one that does not.

    Args:
        optimizer: The optimizer.
        grads: Gradients, or None, as for ``apply``; variables with None are left out.
        var_list: The variables.
        groups: Takes a variable and returns the name of its group. Default None: one group, "all".

    Returns:
        Scalar tensors by name, by group.

    Raises:
        TypeError: optimizer is not an ``innaprop.tensorflow.INNAprop``, or as in ``apply``.
        ValueError: As in ``apply``.
        RuntimeError: There are several replicas, none of which has the whole gradient.

    Example:
        >>> import tensorflow as tf
        >>> from innaprop.diagnostics import Diagnostics
        >>> from innaprop.tensorflow import INNAprop, measure
        >>> w = tf.Variable([3.0, 4.0])
        >>> measured = measure(INNAprop(1e-3), [w], [w])
        >>> Diagnostics().record(1, measured).all.parameter_norm
        5.0
    """
    if not isinstance(optimizer, INNAprop):
        raise TypeError(
            f"optimizer must be an innaprop.tensorflow.INNAprop, got {type(optimizer).__name__}"
        )
    if tf.distribute.get_strategy().num_replicas_in_sync > 1:
        raise RuntimeError(
            "measure needs the whole gradient, got the context of a strategy with "
            f"{tf.distribute.get_strategy().num_replicas_in_sync} replicas"
        )
    grads, var_list = list(grads), list(var_list)
    if len(grads) != len(var_list):
        raise ValueError(
            "grads and var_list must be of one length, "
            f"got {len(grads)} gradients and {len(var_list)} variables"
        )
    pairs = checked_pairs([(g, v) for g, v in zip(grads, var_list, strict=True) if g is not None])
    optimizer.build([variable for _, variable in pairs])
    given = {key: getattr(optimizer, key) for key in ("learning_rate", "alpha", "beta")}
    hyperparameters.check(given)
    gamma, alpha, beta = map(hyperparameters.as_float64, given.values())
    scalars = {
        "gamma": gamma,
        "alpha": alpha,
        "beta": beta,
        "sigma": optimizer.sigma,
        "eps": optimizer.epsilon,
        "weight_decay": optimizer.weight_decay,
    }
    measured: dict[str, dict[str, Any]] = {}
    for gradient, variable in pairs:
        i = optimizer._index[variable]
        dtype = state_dtype(variable)
        c = momentum.coefficients(
            tf.cast(tf.convert_to_tensor(optimizer.updates[i]) + 1, tf.float64),
            **scalars,
            decay_momentum=optimizer.decay_momentum,
            expm1=tf.math.expm1,
        )
        c = Coefficients(*(x if isinstance(x, float) else tf.cast(x, dtype) for x in c))
        residual = optimizer.residuals[i]
        found = sums(
            variables.read(variable, residual, dtype),
            *variables.moments(optimizer.momentums[i], optimizer.second_moments[i]),
            tf.cast(tf.convert_to_tensor(gradient), dtype),
            c,
            _OPERATIONS,
            _rounding(variable) if residual is None and variable.dtype != dtype else None,
        )
        group = measured.setdefault("all" if groups is None else groups(variable), {})
        for key, x in zip(SUMS, found, strict=True):
            group[key] = group.get(key, 0.0) + tf.cast(x, tf.float64)
        group |= scalars
    return measured


class TensorBoard:
    """Write records for TensorBoard by ``tf.summary``, for ``Diagnostics(write=...)``.

    Args:
        writer: A writer from ``tf.summary.create_file_writer``.

    Raises:
        TypeError: The writer is something else.
    """

    def __init__(self, writer: Any) -> None:
        if not hasattr(writer, "as_default"):
            raise TypeError(
                f"writer must be what tf.summary.create_file_writer returns, got {writer!r}"
            )
        self._writer = writer

    def __call__(self, values: dict[str, float], step: int) -> None:
        """Write one record.

        Args:
            values: Numbers by name.
            step: Number of the update.
        """
        with self._writer.as_default():
            for name, value in values.items():
                tf.summary.scalar(name, value, step=step)


def _rounding(variable: Any) -> Callable[[Any], Any]:
    return lambda x: variables.to_float32(tf.cast(x, variable.dtype))
