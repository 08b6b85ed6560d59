"""Options: checks, schedules of alpha and beta, and coefficients."""

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
    "beta_1": "leave it out, and choose the dampings alpha and beta",
    "beta_2": "the decay rate of its second moment is sigma",
    "betas": "leave out the first, and choose alpha and beta; the second is sigma",
    "momentum": "its momentum is controlled by the dampings alpha and beta",
    "amsgrad": "leave it out, since there is no such variant",
    "fused": "leave it out, since Keras chooses the implementation",
    "foreach": "leave it out, since Keras chooses the implementation",
    "lr": "the learning rate is learning_rate",
    "eps": "what is added to the root is epsilon",
}
"""Arguments of other optimizers, with INNAprop's counterparts."""
_OPTIONS = (*SCHEDULABLE, "sigma", "epsilon", "weight_decay", "decay_momentum")


def check_options(options: dict[str, Any], learning_rate: Any) -> None:
    """Raise if options are invalid.

    Args:
        options: ``alpha``, ``beta``, ``sigma``, ``epsilon``, ``weight_decay`` and
            ``decay_momentum``. Of a schedule, the first value is checked.
        learning_rate: The argument of the constructor.

    Raises:
        TypeError: An option is not a number (nor a callable, if that is allowed); or a schedule
            does not return a number.
        ValueError: A number is outside its range, or learning_rate >= beta.
    """
    values = {
        name: _first_value(value, name) if name in SCHEDULABLE and callable(value) else value
        for name, value in options.items()
    }
    _check({**values, **known({"learning_rate": _first_rate(learning_rate, 0)})})


def check_learning_rate(learning_rate: Any, optimizer: Any) -> None:
    """Raise if a new learning rate is invalid, as far as its value is known.

    Raises:
        TypeError: It is not a number, tensor or callable.
        ValueError: It is not in [0, beta); for a schedule, the value for the next update.
    """
    rate = _first_rate(learning_rate, optimizer._iterations)
    beta = at(optimizer.beta, optimizer.iterations)
    _check(known({"learning_rate": rate, "beta": beta}))


def _first_rate(learning_rate: Any, calls: Any) -> Any:
    """Return the value of a learning rate for the next update, if it can be evaluated.

    A callable without arguments is returned unchanged, since it may count its calls.
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
    """Raise if an argument's name is that of another optimizer's argument.

    Raises:
        ValueError: One is.
    """
    for name in given:
        if name in _ELSEWHERE:
            raise ValueError(f"{name} is not an argument of INNAprop: {_ELSEWHERE[name]}")


def _check(values: dict[str, Any]) -> None:
    """Check numbers, by the names of the constructor's arguments; weight_decay may be None."""
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
    """Return a schedule's value at update 0 as a number."""
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
    """Return alpha or beta for the update after a number of previous ones.

    A schedule gets that number as a scalar tensor of ``keras.config.floatx()``: on TensorFlow an
    integer tensor cannot be multiplied by 0.5.

    Args:
        value: A number, or a callable of the number of updates.
        updates: Number of previous updates, an integer or a scalar tensor.
    """
    if not callable(value):
        return value
    return value(ops.cast(ops.convert_to_tensor(updates), keras.config.floatx()))


def to_config(value: Any) -> Any:
    """Serialize alpha or beta for Keras: a number, or a dict for a schedule."""
    return keras.saving.serialize_keras_object(value) if callable(value) else value


def from_config(value: Any, custom_objects: Any) -> Any:
    """Return alpha or beta from the result of ``to_config``."""
    if isinstance(value, dict):
        return keras.saving.deserialize_keras_object(value, custom_objects=custom_objects)
    return value


def check_numbers(optimizer: Any) -> None:
    """Raise if an option was set to a value that the constructor would reject.

    Raises:
        TypeError, ValueError: As ``check_options``.
    """
    given = {name: getattr(optimizer, name) for name in _OPTIONS}
    _check({k: v for k, v in given.items() if not (k in SCHEDULABLE and callable(v))})


def check_step(optimizer: Any, learning_rate: Any) -> None:
    """Raise if a schedule or variable has an invalid value at this update, as far as known.

    Raises:
        TypeError, ValueError: As ``check_options``.
    """
    given = {name: at(getattr(optimizer, name), optimizer.iterations) for name in SCHEDULABLE}
    _check(known({"learning_rate": learning_rate, **given}))


def known(values: dict[str, Any]) -> dict[str, Any]:
    """Return those values that are known as numbers.

    Values of tensors are not known while a function is traced. On PyTorch on a GPU they are not
    read, since that would synchronise. Callables are left out.
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
    """Return the coefficients of an update as tensors of a dtype."""

    def scalar(value: Any) -> Any:
        # ops.cast would convert a Python number through float32.
        is_number = isinstance(value, Real)
        return ops.convert_to_tensor(value, dtype) if is_number else ops.cast(value, dtype)

    def whole(value: Any) -> Any:
        return ops.cast(value, "int32")

    return _coefficients(optimizer, weight_decay, learning_rate, scalar, whole, ops.expm1)


def coefficients_in_numbers(
    optimizer: Any, weight_decay: float, learning_rate: Any
) -> Coefficients:
    """Return the coefficients of an update as numbers; reads the learning rate and the count."""
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
        # As integers: float32 cannot represent all of them.
        c = c._replace(draw=packed.draw(whole(optimizer.iterations + 1), optimizer.seed))
    return c
