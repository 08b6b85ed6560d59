"""Moving averages of the weights (``use_ema``), in float32 for 16-bit variables.

Keras computes them in the variables' dtype: in bfloat16 a memory of 0.999 is 1, and the average
stays where it began.
"""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops


def follow(averages: list[Any], variables: list[Any], memory: float, updates: Any) -> None:
    """Move averages towards variables; the first time, onto them.

    Args:
        averages: Of each variable the average, or None.
        variables: The model's variables.
        memory: Weight of the old average, ``ema_momentum``.
        updates: Number of updates made before, a scalar tensor.
    """
    for average, variable in zip(averages, variables, strict=True):
        if average is not None:
            dtype = average.dtype
            old = ops.cast(ops.not_equal(updates, 0), dtype) * memory
            average.assign(old * average + (1 - old) * ops.cast(variable, dtype))


def overwrite(
    averages: list[Any], variables: list[Any], assign: Callable[[Any, Any], None], strategy: Any
) -> None:
    """Write averages into variables.

    Args:
        averages: Of each variable the average, or None.
        variables: The model's variables.
        assign: The optimizer's way to write a value of another dtype.
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
