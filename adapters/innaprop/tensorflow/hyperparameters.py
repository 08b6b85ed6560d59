"""Hyperparameters: numbers, variables or schedules; their checks and properties."""

from collections.abc import Mapping
from copy import copy
from numbers import Real
from typing import Any

import tensorflow as tf

from innaprop.forms import looking_back
from innaprop_core import check_hyperparameters

NAMES = {"gamma": "learning_rate", "eps": "epsilon"}
CONSTANTS = ("sigma", "epsilon", "weight_decay", "decay_momentum")
_CORE = {"epsilon": "eps"}
_DAMPINGS = ("alpha", "beta")
_KEYS = {"learning_rate": "gamma", "alpha": "alpha", "beta": "beta"}


def check(values: Mapping[str, Any]) -> None:
    """Raise if hyperparameters are invalid, as far as they are known.

    Args:
        values: Numbers, tensors, variables or callables, by their names in TensorFlow. Callables
            and symbolic tensors of a function that is being traced are not checked.

    Raises:
        TypeError: One is not a number, or is a tensor that is not floating.
        ValueError: One is outside its range or not a scalar, or learning_rate >= beta.
    """
    known = {}
    for name, value in values.items():
        if name not in _KEYS:
            pass
        elif tf.is_tensor(value):
            if not value.dtype.is_floating:
                raise TypeError(f"{name} must be floating, got a tensor of {value.dtype.name}")
            if value.shape.rank not in (0, None):
                raise ValueError(f"{name} must be a scalar, got a tensor of shape {value.shape}")
            if not tf.executing_eagerly():
                continue
            value = float(tf.convert_to_tensor(value))
        elif callable(value):
            continue
        known[_KEYS.get(name, name)] = value
    check_hyperparameters(known, NAMES)


def unwrapped(value: Any) -> Any:
    """Return a hyperparameter, with a constant tensor converted to a number.

    It can then be set and loaded like a number. Symbolic tensors of a function that is being traced
    are returned unchanged.
    """
    constant = tf.is_tensor(value) and not isinstance(value, tf.Variable)
    if constant and value.dtype.is_floating and value.shape.rank == 0 and hasattr(value, "numpy"):
        # AutoGraph would make a tensor of float(value).
        return value.numpy().item()
    return value


def kept(name: str, value: Any) -> Any:
    """Return a hyperparameter as the optimizer stores it: a number becomes a variable.

    The variable is float64, so that float64 models get the exact number.
    """
    if not isinstance(value, Real):
        return value
    return tf.Variable(
        float(value),
        dtype=tf.float64,
        trainable=False,
        name=name,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )


def of_last_update(optimizer: Any, name: str) -> Any:
    """Return alpha or beta of the last update, or of the first if there was none."""
    value = getattr(optimizer, f"_{name}")
    return value if tf.is_tensor(value) else value(tf.maximum(optimizer.iterations - 1, 0))


def as_float64(value: Any) -> Any:
    """Return a number, or a scalar tensor, as a float64 tensor."""
    # tf.cast would convert a Python number through float32.
    return tf.cast(value, tf.float64) if tf.is_tensor(value) else tf.constant(value, tf.float64)


class Bounds:
    """Restrictions on hyperparameters that are set after functions were traced.

    Sigma, epsilon, weight_decay and decay_momentum are constants in traced functions, so they must
    not change.

    Under XLA alpha and beta are restricted too. Whether ``looking_back`` is valid must be decided
    when a function is traced, but alpha and beta may be set later. It is decided by their values at
    tracing, and later values must satisfy the same condition.

    A plain object, since ``tf.Module`` would track a set for saving.

    Args:
        values: The optimizer's arguments. Alpha and beta are known if they are numbers.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._known = {name for name in _DAMPINGS if isinstance(values[name], Real)}
        self._weight_decay = 0.0
        self._are_constants = False

    def __deepcopy__(self, memo: dict[int, Any]) -> "Bounds":
        # No function has been traced with the copy.
        copied = copy(self)
        copied._known = set(self._known)
        copied._weight_decay, copied._are_constants = 0.0, False
        return copied

    def note_trace(self) -> None:
        """Record whether a function is being traced."""
        self._are_constants |= not tf.executing_eagerly()

    def check_constants(self, optimizer: Any, new: Mapping[str, Any]) -> None:
        """Raise if new values differ from constants in the functions traced so far.

        Args:
            optimizer: The optimizer of these bounds.
            new: The new values, by name; already checked.

        Raises:
            ValueError: One differs, and a function was traced.
        """
        for name, value in new.items():
            now = getattr(optimizer, name)
            if self._are_constants and value != now:
                raise ValueError(
                    f"{name} must stay {now!r}, a constant in the functions that were traced with "
                    f"this optimizer, got {value!r}; set it before a tf.function is traced, or on "
                    "copy.deepcopy(optimizer), which no function was traced with"
                )

    def allow_to_look_back(self, optimizer: Any) -> bool:
        """Return whether a function being traced may look back; if so, restrict later values."""
        alpha, beta = (self._number(optimizer, name) for name in _DAMPINGS)
        decay, reaches = optimizer.weight_decay, optimizer.decay_momentum
        if not looking_back.is_valid(
            alpha=alpha, beta=beta, weight_decay=decay, decay_momentum=reaches
        ):
            return False
        if reaches:
            self._weight_decay = max(self._weight_decay, decay)
        return True

    def check(self, optimizer: Any, new: Mapping[str, Any]) -> None:
        """Raise if the functions traced so far do not allow a new alpha or beta.

        Args:
            optimizer: The optimizer of these bounds.
            new: The new values, by name.

        Raises:
            ValueError: They do not, or a new value is a symbolic tensor and cannot be checked.
        """
        numbers: dict[str, Any] = {name: self._number(optimizer, name) for name in _DAMPINGS}
        # A variable may have another value when the function that is being traced runs.
        numbers |= {
            name: _number_now(value)
            if tf.executing_eagerly() or not isinstance(value, tf.Variable)
            else None
            for name, value in new.items()
        }
        if not looking_back.is_valid(**numbers, weight_decay=self._weight_decay):
            given = " and ".join(f"{name}={value!r}" for name, value in new.items())
            raise ValueError(
                "alpha and beta must keep weight_decay * beta * max(1/2, 2 - alpha * beta) <= 1/2, "
                f"on which a function that XLA has compiled relies, got {given} with "
                f"weight_decay={self._weight_decay}; create a new optimizer with these values"
            )
        self._known -= {name for name in new if numbers[name] is None}

    def _number(self, optimizer: Any, name: str) -> float | None:
        return _number_now(getattr(optimizer, f"_{name}")) if name in self._known else None


def _number_now(value: Any) -> float | None:
    """Return a number, or the value of a tensor that is not symbolic, else None."""
    if isinstance(value, Real):
        return float(value)
    # Variables have values outside a function that is being traced.
    with tf.init_scope():
        if isinstance(value, tf.Variable) and tf.executing_eagerly():
            value = tf.convert_to_tensor(value)
    # AutoGraph would make a tensor of float(value).
    return value.numpy().item() if hasattr(value, "numpy") else None


def check_settable(name: str, kept: Any, value: Any) -> None:
    """Raise if a learning rate, alpha or beta is not stored in a variable and cannot be set.

    Args:
        name: Its name in TensorFlow.
        kept: The object that the optimizer stores for it.
        value: The new value.

    Raises:
        TypeError: It was given as a callable, or as a symbolic tensor.
    """
    if not isinstance(kept, tf.Variable):
        how = "a tensor without a value yet" if tf.is_tensor(kept) else "a callable"
        raise TypeError(
            f"{name} was given as {how} and cannot be set, got {value!r}; "
            "give a float or a tf.Variable to be able to"
        )


def settable(name: str, doc: str) -> Any:
    """Return a property that reads a hyperparameter of an optimizer, and sets it if possible."""
    attribute = f"_{name}"

    def get(optimizer: Any) -> Any:
        value = getattr(optimizer, attribute)
        return value if tf.is_tensor(value) else value(optimizer.iterations)

    def set_(optimizer: Any, value: float) -> None:
        variable = getattr(optimizer, attribute)
        check_settable(name, variable, value)
        if name != "alpha":
            other = "beta" if name == "learning_rate" else "learning_rate"
            check({name: value, other: getattr(optimizer, f"_{other}")})
        else:
            check({name: value})
        if name != "learning_rate":
            optimizer._bounds.check(optimizer, {name: value})
        # The dtypes may differ: the optimizer's own variables are float64.
        variable.assign(tf.cast(value, variable.dtype) if tf.is_tensor(value) else float(value))

    get.__doc__ = doc
    return property(get, set_, doc=doc)


def constant(name: str, doc: str) -> Any:
    """Return a property for a hyperparameter that is a constant in traced functions."""
    attribute = f"_{name}"

    def get(optimizer: Any) -> Any:
        return getattr(optimizer, attribute)

    def set_(optimizer: Any, value: Any) -> None:
        check({_CORE.get(name, name): value})
        value = value if isinstance(value, bool) else float(value)
        if hasattr(optimizer, attribute):
            optimizer._bounds.check_constants(optimizer, {name: value})
        setattr(optimizer, attribute, value)

    get.__doc__ = doc
    return property(get, set_, doc=doc)
