"""The update of TensorFlow variables, on every replica."""

from functools import partial
from typing import Any

import tensorflow as tf

from innaprop.forms import Row, looking_back, variables
from innaprop.keras import options

WORDS = "uint32"
"""Dtype of packed words."""
pack = variables.pack


def unpack(words: Any) -> tuple[Any, Any]:
    """Return the float32 momentum and second moment packed in a tensor of words."""
    return variables.moments(words, None)


def number(value: Any) -> float | None:
    """Return the value of a scalar tensor or variable, or None while a function is traced."""
    # AutoGraph would convert float(value) to a tensor.
    return value.numpy().item() if tf.executing_eagerly() else None


def update(optimizer: Any, strategy: Any, rows: list[tuple[Row, float]], rate: Any) -> None:
    """Make one update of variables.

    Args:
        optimizer: The optimizer, for its options and step count.
        strategy: The current ``tf.distribute.Strategy``.
        rows: Pairs of a row (of ``tf.Variable``, except the gradient) and its weight decay. With
            ``state_bits=16``, momentums are packed words and second moments None.
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
