"""Conversion between the optimizer's state and the portable state."""

from typing import Any

import keras
import numpy as np
from keras import ops

from innaprop.keras import options
from innaprop.keras.optimizer import INNAprop
from innaprop.keras.options import NAMES, SCHEDULABLE
from innaprop.keras.slots import backend, moments
from innaprop.portable.fitting import (
    Target,
    by_name,
    check_unique,
    fitted,
    one_count,
    shared_numbers,
)
from innaprop.portable.snapshot import HYPERPARAMETERS, ParameterState, Snapshot, as_number
from innaprop_core import check_hyperparameters

_OWN = {key: NAMES.get(key, key) for key in HYPERPARAMETERS}


def snapshot(optimizer: INNAprop, parameters: Any) -> Snapshot:
    """Return the optimizer's state for ``innaprop.save_state``."""
    names = _names(optimizer, parameters)
    every = optimizer.gradient_accumulation_steps or 1
    calls = int(ops.convert_to_numpy(optimizer._iterations))
    if calls % every:
        raise ValueError(
            f"gradients must not be partly accumulated, got {calls % every} of {every}: the file "
            "does not contain them; save after an update"
        )
    numbers = {key: as_number(_value(getattr(optimizer, own))) for key, own in _OWN.items()}
    states = {}
    for i, (name, variable) in enumerate(zip(names, optimizer._trainable_variables, strict=True)):
        residual = optimizer._residuals[i]
        m, v = moments(optimizer._momentums[i], optimizer._second_moments[i])
        decay = {"weight_decay": optimizer._decay(i)}
        states[name] = ParameterState(
            dtype=keras.backend.standardize_dtype(variable.dtype),
            step=calls // every,
            momentum=np.array(ops.convert_to_numpy(m)),
            second_moment=np.array(ops.convert_to_numpy(v)),
            hyperparameters={**numbers, **decay},
            psi=np.array(ops.convert_to_numpy(optimizer.psi(variable))),
            residual=None if residual is None else np.array(ops.convert_to_numpy(residual)),
        )
    return Snapshot(calls // every, states)


def restore(optimizer: INNAprop, parameters: Any, state: Snapshot, sets: bool) -> INNAprop:
    """Load a state into the optimizer, for ``innaprop.load_state``."""
    names = _names(optimizer, parameters)
    if optimizer.use_ema:
        raise ValueError("use_ema must be False to load a state, which holds no moving averages")
    targets = {
        name: Target(
            tuple(variable.shape),
            keras.backend.standardize_dtype(variable.dtype),
            optimizer._residuals[i] is not None,
        )
        for i, (name, variable) in enumerate(
            zip(names, optimizer._trainable_variables, strict=True)
        )
    }
    states = fitted(state, targets)
    count = one_count(state, "Keras")
    numbers, decays = (
        _hyperparameters(optimizer, states, count) if sets else ({}, optimizer._decays)
    )

    for i, own in enumerate(states.values()):
        if optimizer.state_bits == 16:
            optimizer._momentums[i].assign(backend().pack(own.momentum, own.second_moment, count))
        else:
            optimizer._momentums[i].assign(own.momentum)
            optimizer._second_moments[i].assign(own.second_moment)
        residual = optimizer._residuals[i]
        if residual is not None:
            residual.assign(own.residual)
    if optimizer.gradient_accumulation_steps:
        for accumulator in optimizer._accumulated_gradients:
            accumulator.assign(ops.zeros_like(accumulator))
    optimizer._iterations.assign(count * (optimizer.gradient_accumulation_steps or 1))
    optimizer._decays = decays
    rate = numbers.pop("gamma", None)
    for key, number in numbers.items():
        setattr(optimizer, _OWN[key], number)
    if rate is not None:
        optimizer.learning_rate = rate
    return optimizer


def _hyperparameters(
    optimizer: INNAprop, states: dict[str, ParameterState], count: int
) -> tuple[dict[str, float], list[bool]]:
    """Return the numbers to set, and which variables decay.

    They are checked together with the values of schedules after ``count`` updates.
    """
    numbers = shared_numbers(states.items(), excludes=True)
    decays = optimizer._decays
    if numbers.get("weight_decay"):
        decay = [state.hyperparameters["weight_decay"] for state in states.values()]
        decays = [own if d is None else d > 0 for d, own in zip(decay, decays, strict=True)]

    own = {key: getattr(optimizer, key) for key in SCHEDULABLE}
    known = {key: value for key, value in own.items() if not callable(value)}
    if isinstance(optimizer._learning_rate, keras.Variable):
        known["gamma"] = float(ops.convert_to_numpy(optimizer._learning_rate))
    numbers = {
        key: number
        for key, number in numbers.items()
        if key in known or key not in ("gamma", *SCHEDULABLE)
    }
    scheduled = options.known({key: options.at(own[key], count) for key in own})
    check_hyperparameters({**scheduled, **known, **numbers}, NAMES)
    return numbers, decays


def _names(optimizer: INNAprop, parameters: Any) -> list[str]:
    """Return the names of the optimizer's variables, in its order."""
    if not optimizer.built:
        raise ValueError(
            "the optimizer must be built, and is not: call "
            "optimizer.build(model.trainable_variables)"
        )
    variables = optimizer._trainable_variables
    if parameters is None:
        names = [variable.path for variable in variables]
        check_unique(names)
        return names
    named = {id(variable): name for name, variable in by_name(parameters).items()}
    missing = [variable.path for variable in variables if id(variable) not in named]
    if missing:
        raise ValueError(
            f"parameters must name all variables of the optimizer, and do not name {missing[0]}"
        )
    return [named[id(variable)] for variable in variables]


def _value(value: Any) -> Any:
    tensor = isinstance(value, keras.Variable) or ops.is_tensor(value)
    return ops.convert_to_numpy(value) if tensor else value
