"""Checks of variables and gradients, made before anything is changed."""

import warnings
from collections.abc import Iterable
from typing import Any

import tensorflow as tf

DTYPES = (tf.float32, tf.float64, tf.bfloat16, tf.float16)


def check_mode() -> None:
    """Raise in a graph of TensorFlow 1, in which the update operations would never run.

    Raises:
        RuntimeError: The default graph is a ``tf.Graph`` outside a ``tf.function``, or eager
            execution is disabled.
    """
    if not tf.compat.v1.executing_eagerly_outside_functions():
        raise RuntimeError(
            "INNAprop needs eager execution or a tf.function, got a graph of TensorFlow 1 (a "
            "tf.Graph, or tf.compat.v1.disable_eager_execution()), where updates would never run"
        )


def check_constraint(variable: Any) -> None:
    """Raise if a constraint's result cannot be assigned to its variable.

    Raises:
        TypeError: It returns another dtype.
        ValueError: It returns another shape.
    """
    if variable.constraint is None:
        return
    value = tf.convert_to_tensor(variable.constraint(tf.convert_to_tensor(variable)))
    if value.dtype != variable.dtype:
        raise TypeError(
            f"the constraint of {variable.name} must give {variable.dtype.name}, "
            f"got {value.dtype.name}"
        )
    if not variable.shape.is_compatible_with(value.shape):
        raise ValueError(
            f"the constraint of {variable.name} must give shape {variable.shape}, got {value.shape}"
        )


def check_variable(variable: Any) -> None:
    """Raise if something is not a variable that can be updated.

    Raises:
        TypeError: It is not a ``tf.Variable`` of float32, float64, bfloat16 or float16.
        ValueError: Its shape is not fully defined, or its replicas may differ.
    """
    if not isinstance(variable, tf.Variable):
        hint = (
            "; variables of a Keras model are for innaprop.keras.INNAprop"
            if type(variable).__module__.startswith("keras")
            else ""
        )
        raise TypeError(f"variables must be tf.Variable, got {variable!r}{hint}")
    if variable.dtype not in DTYPES:
        raise TypeError(
            "variables must be float32, float64, bfloat16 or float16, got "
            f"{variable.name} of {variable.dtype.name}"
        )
    if not variable.shape.is_fully_defined():
        raise ValueError(
            f"variables must have a fully defined shape, got {variable.name} of {variable.shape}"
        )
    if variable.synchronization == tf.VariableSynchronization.ON_READ:
        raise ValueError(
            f"variables must be the same on every replica, got {variable.name} of "
            "synchronization ON_READ"
        )


def check_state_bits(variable: Any, state_bits: int) -> None:
    """Raise if a variable does not allow ``state_bits``.

    Raises:
        TypeError: It is float64 and ``state_bits`` is 16.
    """
    if state_bits == 16 and variable.dtype == tf.float64:
        raise TypeError(
            "state_bits=16 needs variables of float32, bfloat16 or float16, got float64 for "
            f"{variable.name}; update it by an optimizer with state_bits=32"
        )


def checked_pairs(grads_and_vars: Iterable[Any]) -> list[tuple[Any, Any]]:
    """Return the pairs that have a gradient; warn of those without.

    Raises:
        TypeError: An item is not a pair, a variable cannot be updated, or a gradient has another
            dtype.
        ValueError: There is no gradient at all, a variable is given twice, or a gradient has
            another shape than its variable.
    """
    pairs, without, seen = [], [], set()
    for pair in grads_and_vars:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError(
                f"grads_and_vars must hold pairs of a gradient and a variable, got {pair!r}"
            )
        gradient, variable = pair
        check_variable(variable)
        if variable.ref() in seen:
            raise ValueError(f"grads_and_vars must name a variable once, got {variable.name} twice")
        seen.add(variable.ref())
        if gradient is None:
            without.append(variable.name)
        else:
            pairs.append((_checked_gradient(gradient, variable), variable))
    if not pairs:
        raise ValueError(f"grads_and_vars must hold a gradient, got none for any of {without}")
    if without:
        warnings.warn(f"no gradient for {', '.join(without)}: left as they are", stacklevel=4)
    return pairs


def _checked_gradient(gradient: Any, variable: Any) -> Any:
    if isinstance(gradient, tf.distribute.DistributedValues):
        parts = variable.distribute_strategy.experimental_local_results(gradient)
    else:
        if not isinstance(gradient, (tf.Tensor, tf.IndexedSlices)):
            gradient = tf.convert_to_tensor(gradient)
        parts = (gradient,)
    for part in parts:
        if part.dtype != variable.dtype:
            raise TypeError(
                f"the gradient of {variable.name} must be {variable.dtype.name}, "
                f"got {part.dtype.name}"
            )
        is_sparse = isinstance(part, tf.IndexedSlices)
        shape = _shape_of_slices(part, variable) if is_sparse else part.shape
        if not variable.shape.is_compatible_with(shape):
            raise ValueError(
                f"the gradient of {variable.name} must have shape {variable.shape}, got {shape}"
            )
    return gradient


def _shape_of_slices(gradient: Any, variable: Any) -> Any:
    """Return the shape of ``tf.IndexedSlices``, even if ``dense_shape`` is not a tensor."""
    given = gradient.dense_shape
    if given is None:
        return variable.shape[:1] + gradient.values.shape[1:]
    return gradient.shape if tf.is_tensor(given) else tf.TensorShape(given)
