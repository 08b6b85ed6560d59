"""The update of TensorFlow's variables, on every replica."""

from functools import partial
from typing import Any

import tensorflow as tf

from innaprop.forms import Row, looking_back, variables
from innaprop.keras import options

WORDS = "uint32"
"""Dtype of packed states."""
pack = variables.pack


def unpack(words: Any) -> tuple[Any, Any]:
    """Return the float32 momentum and second moment that a tensor of words holds."""
    return variables.moments(words, None)


def number(value: Any) -> float | None:
    """Return the value of a scalar tensor or variable, or None while a function is traced."""
    # AutoGraph would make a tensor of float(value).
    return value.numpy().item() if tf.executing_eagerly() else None


def update(optimizer: Any, strategy: Any, rows: list[tuple[Row, float]], rate: Any) -> None:
    """Make one update of variables.

    Args:
        optimizer: Whose options and count these are.
        strategy: The ``tf.distribute.Strategy`` at work.
        rows: For each variable its row, of ``tf.Variable`` but for the gradient, and its weight
            decay. All momentums may be words, with None for the second moments.
        rate: Step size of this update, a 0-d tensor.
    """
    packs = optimizer.state_bits == 16
    buckets: dict[Any, list[Row]] = {}
    for row, decay in rows:
        buckets.setdefault((tf.float32 if packs else row.m.dtype, decay), []).append(row)
    for (dtype, decay), bucket in buckets.items():
        c = options.coefficients_in("float64", optimizer, decay, rate)
        looks_back = variables.in_xla() and looking_back.is_valid(
            alpha=optimizer.alpha,
            beta=optimizer.beta,
            weight_decay=decay,
            decay_momentum=optimizer.decay_momentum,
        )
        row_updates = variables.row_updates(c, len(bucket), dtype, looks_back, packs)
        for row, own in zip(bucket, row_updates, strict=True):
            strategy.extended.update(
                row.theta,
                tf.autograph.experimental.do_not_convert(partial(_update_variable, own, dtype)),
                args=row[1:],
                group=False,
            )


def _update_variable(
    update: variables.RowUpdate, dtype: Any, theta: Any, g: Any, *slots: Any
) -> None:
    update(Row(theta, tf.cast(g, dtype), *slots))
