"""The update of TensorFlow's variables, as ``innaprop.tensorflow`` makes it."""

from functools import partial
from numbers import Real
from typing import Any

import tensorflow as tf

from innaprop.keras import options
from innaprop.keras.update import can_go_back
from innaprop.variables import Fixed, find_scalars, update

_Row = tuple[Any, ...]


def update_variables(optimizer: Any, strategy: Any, rows: list[_Row], learning_rate: Any) -> None:
    """Make one update of variables, on every replica.

    Args:
        optimizer: Whose options and count these are.
        strategy: The ``tf.distribute.Strategy`` at work.
        rows: For each variable: itself, momentum, second moment, residual or None, gradient, and
            its weight decay.
        learning_rate: Step size of this update, a 0-d tensor.
    """
    dampings = options.dampings(optimizer, _float64)
    dampings = {name: _float64(value) for name, value in dampings.items()}
    alike: dict[Any, list[_Row]] = {}
    for row in rows:
        alike.setdefault((row[1].dtype, row[-1]), []).append(row[:-1])
    for (dtype, decay), its_rows in alike.items():
        fixed = Fixed(
            optimizer.sigma,
            optimizer.epsilon,
            decay != 0,
            goes_back=can_go_back(optimizer.alpha, optimizer.beta, decay),
        )
        # One count for all: as many as there are variables, since XLA computes them in place.
        count = tf.convert_to_tensor(optimizer.iterations + 1)
        scalars = find_scalars(
            [count] * len(its_rows),
            dtype,
            gamma=_float64(learning_rate),
            **dampings,
            sigma=optimizer.sigma,
            eps=optimizer.epsilon,
            weight_decay=decay,
        )
        for row, own in zip(its_rows, scalars, strict=True):
            strategy.extended.update(
                row[0],
                tf.autograph.experimental.do_not_convert(partial(_update, s=own, fixed=fixed)),
                args=row[1:],
                group=False,
            )


def _update(variable: Any, m: Any, v: Any, residual: Any, g: Any, **scalars: Any) -> None:
    update(variable, m, v, residual, tf.cast(g, m.dtype), **scalars)


def _float64(value: Any) -> Any:
    # A cast would take a Python number through float32.
    return tf.constant(value, tf.float64) if isinstance(value, Real) else tf.cast(value, tf.float64)
