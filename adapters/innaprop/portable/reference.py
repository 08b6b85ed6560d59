"""Conversion between the state of ``innaprop_core.INNAprop`` and the portable state."""

from dataclasses import asdict
from typing import Any

import numpy as np

from innaprop.portable.fitting import (
    Target,
    check_unique,
    fitted,
    listed,
    one_count,
    shared_numbers,
)
from innaprop.portable.snapshot import ParameterState, Snapshot
from innaprop_core import Hyperparameters, INNAprop


def snapshot(optimizer: INNAprop, parameters: Any) -> Snapshot:
    """Return the optimizer's state for ``innaprop.save_state``."""
    h = asdict(optimizer.hyperparameters)
    arrays = zip(optimizer.parameters, optimizer.m, optimizer.v, optimizer.psi, strict=True)
    states = [
        ParameterState(
            dtype=np.asarray(p).dtype.name,
            step=optimizer.k,
            momentum=np.array(m),
            second_moment=np.array(v),
            hyperparameters=h,
            psi=np.array(psi),
        )
        for p, m, v, psi in arrays
    ]
    return Snapshot(optimizer.k, dict(zip(_names(optimizer, parameters), states, strict=True)))


def restore(optimizer: INNAprop, parameters: Any, state: Snapshot, sets: bool) -> INNAprop:
    """Load a state into the optimizer, for ``innaprop.load_state``."""
    targets = {
        name: Target(tuple(p.shape), np.asarray(p).dtype.name)
        for name, p in zip(_names(optimizer, parameters), optimizer.parameters, strict=True)
    }
    states = fitted(state, targets)
    count = one_count(state, "innaprop_core.INNAprop")
    h = optimizer.hyperparameters
    if sets:
        h = Hyperparameters(**{**asdict(h), **shared_numbers(states.items())})
    optimizer.set_state(
        k=count,
        m=[s.momentum for s in states.values()],
        v=[s.second_moment for s in states.values()],
    )
    optimizer.hyperparameters = h
    return optimizer


def _names(optimizer: INNAprop, parameters: Any) -> list[str]:
    n = len(optimizer.parameters)
    names = [str(i) for i in range(n)] if parameters is None else list(parameters)
    if len(names) != n or not all(isinstance(name, str) for name in names):
        got = listed(names) or "none"
        raise ValueError(f"parameters must be {n} names, one for each parameter, got {got}")
    check_unique(names)
    return names
