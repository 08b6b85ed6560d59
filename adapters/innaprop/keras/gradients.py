"""Checks of variables and gradients, and conversion of gradients to dense tensors."""

from collections.abc import Iterable, Sequence
from typing import Any

import keras
from keras import ops

SIXTEEN_BITS = ("bfloat16", "float16")
"""16-bit dtypes; the state of such variables is float32."""
_DTYPES = ("float32", "float64", *SIXTEEN_BITS)


def check_variables(variables: Iterable[Any], state_bits: int) -> None:
    """Raise if an optimizer cannot be built with these variables.

    Raises:
        TypeError: One is not a variable of this Keras and its backend, or is not float32, float64,
            bfloat16 or float16; or it is float64 and ``state_bits`` is 16.
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
    """Raise if gradients do not fit these variables.

    Raises:
        TypeError: A gradient is not a floating tensor.
        ValueError: Their number differs from that of the variables, or one has another shape.
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
    """Return a gradient as a dense tensor of its variable's shape; float32 for a 16-bit variable.

    Keras has sparse gradients on TensorFlow and JAX (on PyTorch, dense tensors have ``indices``
    too). ``ops.add`` accepts all their types, ``ops.convert_to_tensor`` does not.
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
    """Return Keras's name of a variable."""
    return str(getattr(variable, "path", None) or variable.name)


def _shape(gradient: Any) -> Any:
    """Return a gradient's shape.

    The ``shape`` of ``tf.IndexedSlices`` fails if their ``dense_shape`` is not a tensor.
    """
    given = getattr(gradient, "dense_shape", None)
    return gradient.shape if given is None or ops.is_tensor(given) else tuple(map(int, given))


def _fits(shape: Any, expected: Any) -> bool:
    if getattr(shape, "rank", 0) is None:  # Unknown while TensorFlow traces.
        return True
    shape, expected = tuple(shape), tuple(expected)
    return len(shape) == len(expected) and all(
        a is None or a == b for a, b in zip(shape, expected, strict=True)
    )


def _is_tf_variable(variable: Any) -> bool:
    """Return whether it is a ``tf.Variable``, which Keras accepts on TensorFlow."""
    return (
        keras.backend.backend() == "tensorflow"
        and hasattr(variable, "assign")
        and hasattr(variable, "_unique_id")
    )
