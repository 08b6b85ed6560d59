"""Variables and gradients: what an optimizer takes, and gradients made dense."""

from collections.abc import Iterable, Sequence
from typing import Any

import keras
from keras import ops

SIXTEEN_BITS = ("bfloat16", "float16")
"""Dtypes of variables whose state is float32."""
_DTYPES = ("float32", "float64", *SIXTEEN_BITS)


def check_variables(variables: Iterable[Any], state_bits: int) -> None:
    """Refuse what an optimizer cannot be built with.

    Raises:
        TypeError: One is no variable of this Keras and its backend, or is neither float32,
            float64, bfloat16 nor float16; or it is float64, and ``state_bits`` is 16.
    """
    for variable in variables:
        if not (isinstance(variable, keras.Variable) or _is_tf_variable(variable)):
            raise TypeError(
                "variables must be keras.Variable, as those of a Keras 3 model are, got one of "
                f"{type(variable).__module__}.{type(variable).__name__}: {variable!r}"
            )
        dtype = keras.backend.standardize_dtype(variable.dtype)
        if dtype == "float64" and state_bits == 16:
            raise TypeError(
                "state_bits=16 needs variables of float32, bfloat16 or float16, got float64 for "
                f"{path(variable)}"
            )
        if dtype not in _DTYPES and not getattr(variable, "overwrite_with_gradient", False):
            raise TypeError(
                "variables must be float32, float64, bfloat16 or float16, got "
                f"{path(variable)} of {dtype}"
            )


def check_gradients(gradients: Sequence[Any], variables: Sequence[Any]) -> None:
    """Refuse gradients that do not belong to these variables.

    Raises:
        TypeError: A gradient is no floating tensor.
        ValueError: There are more or fewer than variables, or one has another shape.
    """
    if len(gradients) != len(variables):
        raise ValueError(
            f"there must be a gradient, or None, for each of the {len(variables)} variables, "
            f"got {len(gradients)}"
        )
    for gradient, variable in zip(gradients, variables, strict=True):
        if gradient is None:
            continue
        dtype = getattr(gradient, "dtype", None)
        if dtype is None or "float" not in keras.backend.standardize_dtype(dtype):
            raise TypeError(
                f"the gradient of {path(variable)} must be a floating tensor, got {gradient!r}"
            )
        shape = _shape(gradient)
        if shape != variable.shape and not _fits(shape, variable.shape):
            raise ValueError(
                f"the gradient of {path(variable)} must have shape {tuple(variable.shape)}, "
                f"got {tuple(shape)}"
            )


def dense(gradient: Any, variable: Any) -> Any:
    """Return a gradient as a dense tensor of its variable's shape, float32 for 16 bits.

    Keras has sparse gradients on TensorFlow and JAX (on PyTorch, dense tensors have ``indices``
    too). Its addition knows all their types; its conversion to a tensor does not.
    """
    dtype = keras.backend.standardize_dtype(variable.dtype)
    if dtype in SIXTEEN_BITS:
        dtype = "float32"
    if keras.backend.backend() != "torch" and hasattr(gradient, "indices"):
        gradient = ops.add(gradient, ops.zeros(variable.shape, gradient.dtype))
    elif not ops.is_tensor(gradient):
        gradient = ops.convert_to_tensor(gradient)
    return (
        gradient
        if keras.backend.standardize_dtype(gradient.dtype) == dtype
        else ops.cast(gradient, dtype)
    )


def path(variable: Any) -> str:
    """Return what Keras calls a variable."""
    return str(getattr(variable, "path", None) or variable.name)


def _shape(gradient: Any) -> Any:
    """Return a gradient's shape.

    Where the ``dense_shape`` of ``tf.IndexedSlices`` is no tensor, their ``shape`` fails.
    """
    given = getattr(gradient, "dense_shape", None)
    return gradient.shape if given is None or ops.is_tensor(given) else tuple(map(int, given))


def _fits(shape: Any, expected: Any) -> bool:
    if getattr(shape, "rank", 0) is None:  # Not known while TensorFlow traces.
        return True
    shape, expected = tuple(shape), tuple(expected)
    return len(shape) == len(expected) and all(
        a is None or a == b for a, b in zip(shape, expected, strict=True)
    )


def _is_tf_variable(variable: Any) -> bool:
    """Return whether it is a ``tf.Variable``, which Keras takes on TensorFlow."""
    return (
        keras.backend.backend() == "tensorflow"
        and hasattr(variable, "assign")
        and hasattr(variable, "_unique_id")
    )
