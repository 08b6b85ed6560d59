"""The optimizer's state variables ("slots"): creating, unpacking, saving and loading them."""

import warnings
from collections.abc import Iterable
from importlib import import_module
from typing import Any

import keras
import numpy as np
from keras import ops

from innaprop.keras.gradients import SIXTEEN_BITS, path

_MARK = "innaprop"
_UNBUILT = "iteration", "learning_rate"


def backend() -> Any:
    """Return the module of this package for the current backend."""
    return import_module(f"innaprop.keras.{keras.backend.backend()}")


def add(optimizer: Any, variables: list[Any]) -> tuple[list[Any], list[Any]]:
    """Add the state of variables to an optimizer.

    Returns:
        Momentums and second moments; with ``state_bits=16``, packed words and None.
    """
    if optimizer.state_bits == 16:
        words = optimizer.add_optimizer_variables(variables, "packed_state")
        return words, [None] * len(words)
    momentums, second_moments = optimizer.add_optimizer_variables(
        variables, ["momentum", "second_moment"]
    )
    return momentums, second_moments


def compute_dtype(dtype: Any) -> str:
    """Return the dtype in which variables of a dtype are updated."""
    name: str = keras.backend.standardize_dtype(dtype)
    return "float32" if name in SIXTEEN_BITS else name


def dtype_of(name: str, dtype: str) -> str:
    """Return the dtype of an optimizer's variable from its name and its reference's dtype."""
    if name.endswith("_packed_state"):
        words: str = backend().WORDS
        return words
    return "int16" if dtype in SIXTEEN_BITS and name.endswith("_residual") else compute_dtype(dtype)


def moments(m: Any, v: Any) -> tuple[Any, Any]:
    """Return momentum and second moment as tensors, unpacked from the words m if v is None."""
    m = ops.convert_to_tensor(m)
    if v is not None:
        return m, ops.convert_to_tensor(v)
    unpacked: tuple[Any, Any] = backend().unpack(m)
    return unpacked


def write(store: Any, variables: list[Any], decays: list[bool]) -> None:
    """Write an optimizer's variables into a store, with a mark: Adam's have the same layout.

    Args:
        store: Anything that takes arrays by name.
        variables: The optimizer's variables.
        decays: Whether each model variable decays, which Keras does not save.
    """
    for i, variable in enumerate(variables):
        value = variable.numpy()
        # Packed words are int32 in a file, on every backend.
        store[str(i)] = value.view(np.int32) if value.dtype == np.uint32 else value
    store[_MARK] = ops.convert_to_numpy(ops.convert_to_tensor(decays, "int32"))


def read(store: Any, variables: list[Any], trainable: int) -> tuple[list[Any], list[bool]]:
    """Return the values of an optimizer's variables from a store, and their decays.

    The saved state of an optimizer that was not built consists of count and learning rate. The
    other values are then zero, and the decays are empty.

    Args:
        store: A store that ``write`` has written to.
        variables: The optimizer's variables.
        trainable: The number of model variables that it was built with.

    Raises:
        ValueError: The store has no state, or that of another optimizer, another model or other
            options; or the optimizer is not built.
    """
    if not store.keys():
        raise ValueError("there is none: the model was saved without an optimizer")
    if _MARK not in store.keys():  # noqa: SIM118 - an H5 entry is not a dict
        raise ValueError("it is that of another optimizer, not of innaprop.keras.INNAprop")
    n = len(store.keys()) - 1
    unbuilt = [v for v in variables if v.name in _UNBUILT]
    if len(variables) == len(unbuilt) < n:
        raise ValueError(
            "this optimizer is not built: to load its state too, call "
            "optimizer.build(model.trainable_variables) first (pickle and copy.deepcopy keep the "
            "state of an optimizer only as part of its model)"
        )
    values = [store[str(i)] for i in range(n)]
    if n == len(unbuilt) < len(variables):
        values += [ops.zeros(v.shape, v.dtype) for v in variables[n:]]
    check_values(values, variables)
    values = [
        np.asarray(value).view(np.uint32) if variable.dtype == "uint32" else value
        for value, variable in zip(values, variables, strict=True)
    ]
    decays = [bool(decays) for decays in store[_MARK]]
    if len(decays) not in (0, trainable):
        raise ValueError(
            f"it has {len(decays)} trainable variables, but this optimizer has {trainable}"
        )
    return values, decays


def check_values(values: Iterable[Any], variables: list[Any]) -> None:
    """Raise if values do not fit the variables.

    Raises:
        ValueError: Their number differs, one has another shape, or one is an integer array and its
            variable floating, or vice versa.
    """
    values = list(values)
    if len(values) != len(variables):
        raise ValueError(
            f"the state must have {len(variables)} variables, as this optimizer has, got "
            f"{len(values)}: it is of another model, of other trainable layers (frozen, or given "
            "LoRA, since the optimizer was built), or of other options (learning_rate a number or "
            "a schedule, residual, state_bits, use_ema, gradient_accumulation_steps)"
        )
    for value, variable in zip(values, variables, strict=True):
        if tuple(value.shape) != tuple(variable.shape):
            raise ValueError(
                f"the state of {variable.path} must have shape {tuple(variable.shape)}, "
                f"got {tuple(value.shape)}"
            )
        dtype = keras.backend.standardize_dtype(value.dtype)
        if variable.name not in _UNBUILT and ("float" in dtype) != ("float" in variable.dtype):
            raise ValueError(
                f"the state of {variable.path} must be {variable.dtype}, got {dtype}: it is of "
                "other options (state_bits, residual)"
            )


def merged_decays(optimizer: Any, decays: list[bool]) -> list[bool]:
    """Return which variables decay after loading: those of the file, or those set here.

    A config may have fewer exclusions than its file, since it cannot contain those of ``var_list``.
    """
    own = optimizer._decays
    triples = list(zip(optimizer._trainable_variables, decays, own, strict=True))
    differ = [path(variable) for variable, theirs, ours in triples if theirs != ours]
    excludes_fewer = any(theirs and not ours for _, theirs, ours in triples)
    if not differ or not (optimizer._exclusions_are_set or excludes_fewer):
        return decays
    warnings.warn(
        "the file excludes other variables from weight decay than this optimizer, whose "
        f"exclusions stand: {', '.join(differ)}",
        stacklevel=3,
    )
    return list(own)
