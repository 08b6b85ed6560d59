"""Conversion between the optimizer's state and the portable state."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from innaprop.forms.foreach import SIXTEEN_BITS
from innaprop.portable.fitting import Target, by_name, check_unique, fitted, shared_numbers
from innaprop.portable.snapshot import (
    HYPERPARAMETERS,
    Array,
    ParameterState,
    Snapshot,
    as_number,
)
from innaprop.torch.optimizer import INNAprop
from innaprop.torch.options import NAMES, check_step_size, numbers_at
from innaprop.torch.state_dict import moments_of, residual_of
from innaprop_core import momentum

_OPTIONS = {key: NAMES.get(key, key) for key in HYPERPARAMETERS}


class _Row(NamedTuple):
    name: str
    parameter: Tensor
    group: int


@torch.no_grad()
def snapshot(optimizer: INNAprop, parameters: Any) -> Snapshot:
    """Return the optimizer's state for ``innaprop.save_state``."""
    states = {
        row.name: _state(optimizer, row.parameter, optimizer.param_groups[row.group])
        for row in _rows(optimizer, parameters)
    }
    return Snapshot(max((state.step for state in states.values()), default=0), states)


def restore(optimizer: INNAprop, parameters: Any, state: Snapshot, sets: bool) -> INNAprop:
    """Load a state into the optimizer, for ``innaprop.load_state``."""
    rows = list(_rows(optimizer, parameters))
    targets = {
        row.name: Target(
            tuple(row.parameter.shape),
            _dtype(row.parameter),
            row.parameter.dtype in SIXTEEN_BITS and optimizer.param_groups[row.group]["residual"],
        )
        for row in rows
    }
    states = fitted(state, targets)
    groups = []
    for i, group in enumerate(optimizer.param_groups):
        # An option by which a state dict is recognised as this optimizer's.
        saved = {"sigma": group["sigma"], "params": [r.name for r in rows if r.group == i]}
        if sets:
            numbers = shared_numbers((name, states[name]) for name in saved["params"])
            for key, number in numbers.items():
                own = group[_OPTIONS[key]]
                if isinstance(own, Tensor):
                    saved[_OPTIONS[key]] = torch.full_like(own, number)
                elif not callable(own):
                    saved[_OPTIONS[key]] = number
        # The file's learning rate may be too large for a beta that keeps its value.
        both = {**group, **saved}
        if sets:
            check_step_size(both["lr"], both["beta"])
        groups.append(saved)
    optimizer.load_state_dict(
        {
            "state": {name: _saved(state) for name, state in states.items()},
            "param_groups": groups,
        }
    )
    return optimizer


def _rows(optimizer: INNAprop, parameters: Any) -> Iterator[_Row]:
    """Yield the optimizer's parameters with their names, in its order."""
    named = None
    if parameters is not None:
        pairs = by_name(parameters)
        named = {id(p): name for name, p in pairs.items()}
        if len(named) < len(pairs):
            raise ValueError("parameters must name each parameter once, got one with two names")
    names = []
    for i, group in enumerate(optimizer.param_groups):
        for j, p in enumerate(group["params"]):
            if named is not None:
                name = named.get(id(p))
            else:
                name = group["param_names"][j] if "param_names" in group else None
            if name is None:
                raise ValueError(
                    "parameters must name all parameters of the optimizer, and do not name number "
                    f"{j} of group {i}, of shape {tuple(p.shape)}: give model.named_parameters(), "
                    "here or to the optimizer"
                )
            names.append(name)
            yield _Row(name, p, i)
    check_unique(names)


def _state(optimizer: INNAprop, p: Tensor, group: dict[str, Any]) -> ParameterState:
    state: dict[str, Any] = optimizer.state.get(p, {})
    step = int(state["step"].item()) if "step" in state else 0
    theta = optimizer.master_weights(p)
    psi = optimizer.psi(p)
    m, v = moments_of(p, state)
    if "psi" in state:  # The authors' state, not yet converted.
        m = momentum.momentum_from_psi(theta, psi, **numbers_at(group, max(step - 1, 0)))
    else:
        m = torch.zeros_like(theta) if m is None else m
    residual = residual_of(p, state)
    return ParameterState(
        dtype=_dtype(p),
        step=step,
        momentum=_array(m, theta),
        second_moment=_array(torch.zeros_like(theta) if v is None else v, theta),
        hyperparameters={key: as_number(_number(group[own])) for key, own in _OPTIONS.items()},
        psi=_array(psi, theta),
        residual=None if residual is None else residual.numpy(force=True).copy(),
    )


def _saved(state: ParameterState) -> dict[str, Any]:
    """Return a parameter's state in the layout of a state dict."""
    saved = {
        "step": state.step,
        "momentum_buffer": torch.tensor(state.momentum),
        "exp_avg_sq": torch.tensor(state.second_moment),
    }
    if state.residual is not None:
        saved["residual"] = torch.tensor(state.residual)
    return saved


def _dtype(p: Tensor) -> str:
    if hasattr(p, "placements"):
        raise TypeError(
            "parameters must be whole on this process, got a DTensor: use state_dict, and "
            "torch.distributed.checkpoint"
        )
    if p.is_complex():
        raise TypeError(f"parameters must be real, got one of {p.dtype}: use state_dict")
    return str(p.dtype).removeprefix("torch.")


def _array(tensor: Tensor, like: Tensor) -> Array:
    return np.array(tensor.to(like.dtype).numpy(force=True))


def _number(value: Any) -> Any:
    return value.numpy(force=True) if isinstance(value, Tensor) else value
