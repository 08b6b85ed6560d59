"""Moving averages of the weights (``use_ema``), in float32 for 16-bit variables.

Keras computes them in the variables' dtype: in bfloat16 an ``ema_momentum`` of 0.999 rounds to 1,
and the average never moves.
"""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops


def follow(averages: list[Any], variables: list[Any], ema_momentum: float, updates: Any) -> None:
    """Move averages towards the variables; before the first update, set them to the variables.

    Args:
        averages: The average of each variable, or None.
        variables: The model's variables.
        ema_momentum: Weight of the old average.
        updates: Number of updates made before, a scalar tensor.
    """
    for average, variable in zip(averages, variables, strict=True):
        if average is not None:
            dtype = average.dtype
            old = ops.cast(ops.not_equal(updates, 0), dtype) * ema_momentum
            average.assign(old * average + (1 - old) * ops.cast(variable, dtype))


def overwrite(
    averages: list[Any], variables: list[Any], assign: Callable[[Any, Any], None], strategy: Any
) -> None:
    """Write averages into variables.

    Args:
        averages: The average of each variable, or None.
        variables: The model's variables.
        assign: The optimizer's ``assign``, which casts.
        strategy: The optimizer's ``tf.distribute`` strategy, or None on other backends.
    """
    for average, variable in zip(averages, variables, strict=True):
        if average is None:
            continue
        if strategy is None:
            assign(variable, average.value)
        else:
            raw = variable.value if isinstance(variable, keras.Variable) else variable
            strategy.extended.update(raw, assign, args=(average.value,))
