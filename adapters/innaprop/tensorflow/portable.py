"""Conversion between the optimizer's state and the portable state."""

from typing import Any

import numpy as np
import tensorflow as tf

from innaprop.forms import variables
from innaprop.portable.fitting import Target, by_name, check_unique, fitted, shared_numbers
from innaprop.portable.snapshot import (
    HYPERPARAMETERS,
    Array,
    ParameterState,
    Snapshot,
    as_number,
)
from innaprop.tensorflow import hyperparameters as options
from innaprop.tensorflow.optimizer import INNAprop
from innaprop.tensorflow.slots import scope_of

_OWN = {key: options.NAMES.get(key, key) for key in HYPERPARAMETERS}
_IN_VARIABLES = ("gamma", "alpha", "beta")


def snapshot(optimizer: INNAprop, parameters: Any) -> Snapshot:
    """Return the optimizer's state for ``innaprop.save_state``."""
    kept = {key: _kept(optimizer, key) for key in HYPERPARAMETERS}
    # NumPy cannot read a variable with several replicas.
    numbers = {
        key: as_number(_array(value) if tf.is_tensor(value) else value)
        for key, value in kept.items()
    }
    # The learning rate of the next update, even if it is a schedule.
    numbers["gamma"] = as_number(_array(optimizer.learning_rate))
    states = {}
    for i, (name, variable) in enumerate(_named(optimizer, parameters).items()):
        residual = optimizer.residuals[i]
        m, v = variables.moments(optimizer.momentums[i], optimizer.second_moments[i])
        states[name] = ParameterState(
            dtype=variable.dtype.name,
            step=int(_array(optimizer.updates[i])),
            momentum=_array(m),
            second_moment=_array(v),
            hyperparameters=numbers,
            psi=_array(optimizer.psi(variable)),
            residual=None if residual is None else _array(residual),
        )
    return Snapshot(int(_array(optimizer.iterations)), states)


def restore(optimizer: INNAprop, parameters: Any, state: Snapshot, sets: bool) -> INNAprop:
    """Load a state into the optimizer, for ``innaprop.load_state``."""
    named = _named(optimizer, parameters)
    targets = {
        name: Target(tuple(variable.shape), variable.dtype.name, optimizer.residuals[i] is not None)
        for i, (name, variable) in enumerate(named.items())
    }
    states = fitted(state, targets)
    numbers = _numbers(optimizer, states) if sets else {}

    for i, (variable, own) in enumerate(zip(named.values(), states.values(), strict=True)):
        with scope_of(variable):
            if optimizer.state_bits == 16:
                words = variables.pack(own.momentum, own.second_moment, own.step)
                optimizer.momentums[i].assign(words)
            else:
                optimizer.momentums[i].assign(own.momentum)
                optimizer.second_moments[i].assign(own.second_moment)
            optimizer.updates[i].assign(own.step)
            if own.residual is not None:
                optimizer.residuals[i].assign(own.residual)
    optimizer.iterations.assign(state.iterations)
    for key, number in numbers.items():
        if key in _IN_VARIABLES:
            _kept(optimizer, key).assign(number)
        else:
            setattr(optimizer, _OWN[key], number)
    return optimizer


def _numbers(optimizer: INNAprop, states: dict[str, ParameterState]) -> dict[str, float]:
    """Return the hyperparameters to set."""
    numbers = {
        key: number
        for key, number in shared_numbers(states.items()).items()
        if not callable(_kept(optimizer, key))
    }
    for key in numbers:
        if key in _IN_VARIABLES:
            options.check_settable(_OWN[key], _kept(optimizer, key), numbers[key])
    own = {key: _kept(optimizer, key) for key in HYPERPARAMETERS} | numbers
    options.check({"learning_rate" if key == "gamma" else key: own[key] for key in own})
    dampings = {key: number for key, number in numbers.items() if key in ("alpha", "beta")}
    optimizer._bounds.check(optimizer, dampings)
    constants = {_OWN[key]: number for key, number in numbers.items()}
    optimizer._bounds.check_constants(
        optimizer, {name: constants[name] for name in options.CONSTANTS if name in constants}
    )
    return numbers


def _kept(optimizer: INNAprop, key: str) -> Any:
    """Return a hyperparameter as the optimizer stores it: number, variable or callable."""
    return getattr(optimizer, f"_{_OWN[key]}" if key in _IN_VARIABLES else _OWN[key])


def _named(optimizer: INNAprop, parameters: Any) -> dict[str, Any]:
    """Return the variables that have state, in the optimizer's order, by name."""
    met = optimizer._index.variables()
    if not met:
        raise ValueError("the optimizer must be built, and is not: call optimizer.build(variables)")
    if parameters is None:
        names = [variable.name.partition(":")[0] for variable in met]
        check_unique(names)
        return dict(zip(names, met, strict=True))
    named = {id(variable): name for name, variable in by_name(parameters).items()}
    missing = [variable.name for variable in met if id(variable) not in named]
    if missing:
        raise ValueError(
            f"parameters must name all variables of the optimizer, and do not name {missing[0]}"
        )
    return {named[id(variable)]: variable for variable in met}


def _array(value: Any) -> Array:
    return np.array(tf.convert_to_tensor(value))
