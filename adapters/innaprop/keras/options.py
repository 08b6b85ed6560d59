"""The options: checks, and alpha and beta as schedules."""

import math
from collections.abc import Callable, Iterable
from importlib import import_module
from numbers import Real
from typing import Any

import keras
import numpy as np
from keras import ops

from innaprop_core import check_hyperparameters, momentum, packed
from innaprop_core.momentum import Coefficients

NAMES = {"gamma": "learning_rate", "eps": "epsilon"}
SCHEDULABLE = ("alpha", "beta")
_ELSEWHERE = {
    "beta_1": "it has no first moment; what it has are the dampings alpha and beta",
    "beta_2": "the memory of its second moment is sigma",
    "momentum": "its momentum is ruled by the dampings alpha and beta",
    "amsgrad": "it has no such variant",
    "lr": "the learning rate is learning_rate",
    "eps": "what is added to the root is epsilon",
}
"""What INNAprop has for arguments of other optimizers."""
_OPTIONS = (*SCHEDULABLE, "sigma", "epsilon", "weight_decay", "decay_momentum")


def check_options(options: dict[str, Any], learning_rate: Any) -> None:
    """Refuse options for which the update is not defined.

    Args:
        options: ``alpha``, ``beta``, ``sigma``, ``epsilon``, ``weight_decay`` and
            ``decay_momentum``. Of a schedule the first value is checked.
        learning_rate: What the user gave.

    Raises:
        TypeError: An option is neither a number nor, where that is allowed, a callable; or a
            schedule gives no number.
        ValueError: A number is outside its range, or learning_rate >= beta.
    """
    values = {
        name: _first_value(value, name) if name in SCHEDULABLE and callable(value) else value
        for name, value in options.items()
    }
    _check({**values, **known({"learning_rate": _first_rate(learning_rate, 0)})})


def check_learning_rate(learning_rate: Any, optimizer: Any) -> None:
    """Refuse a learning rate that is to be set, as far as it is known.

    Raises:
        TypeError: It is neither a number, a tensor nor a callable.
        ValueError: It is not in [0, beta); of a schedule, the value for the next update.
    """
    rate = _first_rate(learning_rate, optimizer._iterations)
    beta = at(optimizer.beta, optimizer.iterations)
    _check(known({"learning_rate": rate, "beta": beta}))


def _first_rate(learning_rate: Any, calls: Any) -> Any:
    """Return the value of a learning rate for the next update, where it can be asked for.

    A callable without arguments is returned as it is: it may count its calls.
    """
    if isinstance(learning_rate, (list, tuple)):
        raise TypeError(
            "learning_rate must be a number or a schedule, got a "
            f"{type(learning_rate).__name__} of {len(learning_rate)}: an optimizer of Keras gets "
            "its variables by compile, build or apply"
        )
    is_schedule = isinstance(learning_rate, keras.optimizers.schedules.LearningRateSchedule)
    return learning_rate(ops.convert_to_tensor(calls)) if is_schedule else learning_rate


def check_names(given: Iterable[str]) -> None:
    """Refuse names of arguments that other optimizers have for what is called otherwise here.

    Raises:
        ValueError: One is such.
    """
    for name in given:
        if name in _ELSEWHERE:
            raise ValueError(f"{name} is no argument of INNAprop: {_ELSEWHERE[name]}")


def _check(values: dict[str, Any]) -> None:
    """Check numbers by the names that users know; a weight decay of None is none."""
    of_core = {name: key for key, name in NAMES.items()}
    check_hyperparameters(
        {
            of_core.get(name, name): value
            for name, value in values.items()
            if not (name == "weight_decay" and value is None)
        },
        NAMES,
    )


def _first_value(schedule: Any, name: str) -> Any:
    """Return a schedule's value at 0 as a number."""
    value = at(schedule, 0)
    if isinstance(value, Real):
        return value
    if not ops.is_tensor(value):
        given = repr(value)
    elif len(value.shape) > 0:
        given = f"a tensor of shape {tuple(value.shape)}"
    else:
        return float(ops.convert_to_numpy(value))
    raise TypeError(f"{name} must give a number or a scalar tensor at every step, got {given}")


def at(value: Any, updates: Any) -> Any:
    """Return alpha or beta for the update that a number of others came before.

    A schedule gets that number as a scalar of ``keras.config.floatx()``: on TensorFlow an
    integer cannot be multiplied by 0.5.

    Args:
        value: A number, or a callable of the number of updates.
        updates: Number of updates made before, an integer or a scalar tensor.
    """
    if not callable(value):
        return value
    return value(ops.cast(ops.convert_to_tensor(updates), keras.config.floatx()))


def to_config(value: Any) -> Any:
    """Return alpha or beta as Keras serializes it: a number, or a dict for a schedule."""
    return keras.saving.serialize_keras_object(value) if callable(value) else value


def from_config(value: Any, custom_objects: Any) -> Any:
    """Return what ``to_config`` was given."""
    if isinstance(value, dict):
        return keras.saving.deserialize_keras_object(value, custom_objects=custom_objects)
    return value


def check_numbers(optimizer: Any) -> None:
    """Refuse options that have been set to what the constructor would refuse.

    Raises:
        TypeError, ValueError: As ``check_options``.
    """
    given = {name: getattr(optimizer, name) for name in _OPTIONS}
    _check({k: v for k, v in given.items() if not (k in SCHEDULABLE and callable(v))})


def check_step(optimizer: Any, learning_rate: Any) -> None:
    """Refuse what a schedule or a variable gives for this update, as far as it is known.

    Raises:
        TypeError, ValueError: As ``check_options``.
    """
    given = {name: at(getattr(optimizer, name), optimizer.iterations) for name in SCHEDULABLE}
    _check(known({"learning_rate": learning_rate, **given}))


def known(values: dict[str, Any]) -> dict[str, Any]:
    """Return those of some values of which a number is known, as numbers.

    The values of tensors are not while a function is traced. Nor are they on PyTorch on a GPU,
    whose host would have to wait for them. A callable is none.
    """
    backend = import_module(f"innaprop.keras.{keras.backend.backend()}")
    numbers = {}
    for name, value in values.items():
        is_array = isinstance(value, (np.ndarray, keras.Variable)) or ops.is_tensor(value)
        if is_array and len(value.shape) == 0:
            number = backend.number(ops.convert_to_tensor(value))
            if number is not None:
                numbers[name] = number
        elif not callable(value):
            numbers[name] = value
    return numbers


def coefficients_in(
    dtype: Any, optimizer: Any, weight_decay: float, learning_rate: Any
) -> Coefficients:
    """Return the scalars of an update as tensors of a dtype."""

    def scalar(value: Any) -> Any:
        # A cast would take a Python number through float32.
        is_number = isinstance(value, Real)
        return ops.convert_to_tensor(value, dtype) if is_number else ops.cast(value, dtype)

    def whole(value: Any) -> Any:
        return ops.cast(value, "int32")

    return _coefficients(optimizer, weight_decay, learning_rate, scalar, whole, ops.expm1)


def coefficients_in_numbers(
    optimizer: Any, weight_decay: float, learning_rate: Any
) -> Coefficients:
    """Return the scalars of an update as numbers: the learning rate and the count are read."""
    return _coefficients(optimizer, weight_decay, learning_rate, float, int, math.expm1)


def _coefficients(
    optimizer: Any,
    weight_decay: float,
    learning_rate: Any,
    scalar: Callable[[Any], Any],
    whole: Callable[[Any], Any],
    expm1: Callable[[Any], Any],
) -> Coefficients:
    dampings = (at(getattr(optimizer, name), optimizer.iterations) for name in SCHEDULABLE)
    alpha, beta = (value if isinstance(value, Real) else scalar(value) for value in dampings)
    c = momentum.coefficients(
        scalar(optimizer.iterations + 1),
        gamma=scalar(learning_rate),
        alpha=alpha,
        beta=beta,
        sigma=optimizer.sigma,
        eps=optimizer.epsilon,
        weight_decay=weight_decay,
        decay_momentum=optimizer.decay_momentum,
        expm1=expm1,
    )
    if optimizer.state_bits == 16:
        # In whole numbers: float32 does not hold them all.
        c = c._replace(draw=packed.draw(whole(optimizer.iterations + 1), optimizer.seed))
    return c
