"""Learning rate, alpha and beta: numbers, variables or schedules, and the check of them."""

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
    """Refuse hyperparameters, by TensorFlow's names, as far as they are known.

    Args:
        values: Numbers, tensors, variables or callables. Callables, and tensors that exist only
            in the graph of a function that is being traced, are left unchecked.

    Raises:
        TypeError: One is not a number, or a tensor that is not floating.
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
    """Return what was given for a hyperparameter, a constant tensor as the number that it is.

    So it can be set and loaded as a number can. A tensor that exists only in the graph of a
    function that is being traced stays one.
    """
    constant = tf.is_tensor(value) and not isinstance(value, tf.Variable)
    if constant and value.dtype.is_floating and value.shape.rank == 0 and hasattr(value, "numpy"):
        # AutoGraph would make a tensor of float(value).
        return value.numpy().item()
    return value


def kept(name: str, value: Any) -> Any:
    """Return a hyperparameter as it is kept: a number becomes a variable, others stay.

    In float64, so that float64 models get the number that was given.
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
    """Return alpha or beta of the update that was made last; before the first, of that one."""
    value = getattr(optimizer, f"_{name}")
    return value if tf.is_tensor(value) else value(tf.maximum(optimizer.iterations - 1, 0))


def as_float64(value: Any) -> Any:
    """Return a number, or a scalar tensor, as a float64 tensor."""
    # A cast would take a Python number through float32.
    return tf.cast(value, tf.float64) if tf.is_tensor(value) else tf.constant(value, tf.float64)


class Bounds:
    """What functions that were traced ask of the hyperparameters that are set afterwards.

    Sigma, epsilon, weight_decay and decay_momentum are constants in them, so these stay.

    XLA asks more of alpha and beta. Whether the form that looks back is valid has to be known when
    a function is traced, and alpha and beta may be set afterwards. So it is decided by the numbers
    that they are then, and later ones have to be valid too.

    A plain object, since ``tf.Module`` would take a set for something to be saved.

    Args:
        values: What the optimizer was given. Alpha and beta that are no numbers are not known.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._known = {name for name in _DAMPINGS if isinstance(values[name], Real)}
        self._weight_decay = 0.0
        self._are_constants = False

    def __deepcopy__(self, memo: dict[int, Any]) -> "Bounds":
        # No function has been traced with the copy of an optimizer.
        copied = copy(self)
        copied._known = set(self._known)
        copied._weight_decay, copied._are_constants = 0.0, False
        return copied

    def note_trace(self) -> None:
        """Remember that a function is being traced, if one is."""
        self._are_constants |= not tf.executing_eagerly()

    def check_constants(self, optimizer: Any, new: Mapping[str, Any]) -> None:
        """Refuse what differs from the constants of the functions traced so far.

        Args:
            optimizer: Whose bounds these are.
            new: What is to be set, by name; checked already.

        Raises:
            ValueError: It differs, and a function was traced.
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
        """Return whether a function that is being traced may look back; later ones have to."""
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
        """Refuse a new alpha or beta that the functions traced so far do not allow.

        Args:
            optimizer: Whose bounds these are.
            new: What is to be set, by name.

        Raises:
            ValueError: It is such, or a tensor without a value yet, of which nobody can tell.
        """
        numbers: dict[str, Any] = {name: self._number(optimizer, name) for name in _DAMPINGS}
        # A variable may have another value by the time a function that is being traced runs.
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
                f"weight_decay={self._weight_decay}; an optimizer that is made with these values "
                "takes them"
            )
        self._known -= {name for name in new if numbers[name] is None}

    def _number(self, optimizer: Any, name: str) -> float | None:
        return _number_now(getattr(optimizer, f"_{name}")) if name in self._known else None


def _number_now(value: Any) -> float | None:
    """Return a number, or a tensor's value if it has one yet."""
    if isinstance(value, Real):
        return float(value)
    # Variables have values outside of a function that is being traced.
    with tf.init_scope():
        if isinstance(value, tf.Variable) and tf.executing_eagerly():
            value = tf.convert_to_tensor(value)
    # AutoGraph would make a tensor of float(value).
    return value.numpy().item() if hasattr(value, "numpy") else None


def check_settable(name: str, kept: Any, value: Any) -> None:
    """Refuse to set a learning rate, alpha or beta that is not kept in a variable.

    Args:
        name: TensorFlow's name of it.
        kept: What the optimizer keeps for it.
        value: What it was to be set to.

    Raises:
        TypeError: It was given as a callable, or as a tensor in a function being traced.
    """
    if not isinstance(kept, tf.Variable):
        how = "a tensor without a value yet" if tf.is_tensor(kept) else "a callable"
        raise TypeError(
            f"{name} was given as {how} and cannot be set, got {value!r}; "
            "give a float or a tf.Variable to be able to"
        )


def settable(name: str, doc: str) -> Any:
    """Return a property that reads a hyperparameter of an optimizer and sets it where it can."""
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
        # A tensor's dtype need not be the variable's, which is float64 where it is not the user's.
        variable.assign(tf.cast(value, variable.dtype) if tf.is_tensor(value) else float(value))

    get.__doc__ = doc
    return property(get, set_, doc=doc)


def constant(name: str, doc: str) -> Any:
    """Return a property for a hyperparameter that functions take as it is when they are traced."""
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
