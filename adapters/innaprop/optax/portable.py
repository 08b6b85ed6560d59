"""Conversion between the transformation's state and the portable state."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from innaprop.forms import functional
from innaprop.optax.options import NAMES
from innaprop.optax.transformation import INNApropState, moments, psi
from innaprop.optax.tree import Parameters
from innaprop.portable.fitting import Target, check_unique, fitted, one_count, shared_numbers
from innaprop.portable.snapshot import (
    HYPERPARAMETERS,
    Array,
    ParameterState,
    Snapshot,
    as_number,
)

_NONE: Mapping[str, Any] = MappingProxyType({})
_OWN = {key: NAMES.get(key, key) for key in HYPERPARAMETERS}


def snapshot(tree: Any, parameters: Any, hyperparameters: Any = _NONE) -> Snapshot:
    """Return the portable state for ``innaprop.save_state``."""
    state, injected = _find(tree)
    params = _parameters(parameters)
    count = int(state.count)
    numbers = _numbers(injected, hyperparameters, count)
    decays = params.mask(hyperparameters.get("mask"))
    momentums, second_moments = moments(params, state)
    residuals = params.residuals(state.residual)
    dampings = {key: numbers[key] for key in ("alpha", "beta")}
    psis: list[Any] = [None] * len(momentums)
    if None not in dampings.values():
        psis = jax.tree.leaves(psi(state, parameters, **dampings))
    states = [
        ParameterState(
            dtype=p.dtype.name,
            step=count,
            momentum=np.array(m),
            second_moment=np.array(v),
            hyperparameters=numbers if decays_it else {**numbers, "weight_decay": 0.0},
            psi=None if own_psi is None else np.array(own_psi),
            residual=None if r is None else np.array(r),
        )
        for p, m, v, own_psi, r, decays_it in zip(
            params.leaves, momentums, second_moments, psis, residuals, decays, strict=True
        )
    ]
    return Snapshot(count, dict(zip(_names(parameters), states, strict=True)))


def restore(tree: Any, parameters: Any, state: Snapshot, sets: bool) -> Any:
    """Return a state tree with a loaded state, for ``innaprop.load_state``."""
    old, injected = _find(tree)
    params = _parameters(parameters)
    packs = old.second_moment is None
    words = params.words() if packs else None
    momentums = params.state("momentum", old.momentum, words)
    second_moments = momentums if packs else params.state("second_moment", old.second_moment)
    residuals = params.residuals(old.residual)
    targets = {
        name: Target(p.shape, p.dtype.name, r is not None)
        for name, p, r in zip(_names(parameters), params.leaves, residuals, strict=True)
    }
    states = fitted(state, targets)
    count = one_count(state, "optax")
    numbers = shared_numbers(states.items(), excludes=True) if sets and injected else {}

    own = list(states.values())
    of_m: list[Array] = [s.momentum for s in own]
    if packs:
        of_m = [np.array(functional.pack(s.momentum, s.second_moment, count)) for s in own]
    new = INNApropState(
        count=_like(np.array(count), old.count),
        momentum=params.tree(map(_like, of_m, momentums)),
        second_moment=None
        if packs
        else params.tree(
            _like(s.second_moment, v) for s, v in zip(own, second_moments, strict=True)
        ),
        residual=params.tree_of_some(
            None if s.residual is None else _like(s.residual, r)
            for s, r in zip(own, residuals, strict=True)
        ),
    )

    def replaced(node: Any) -> Any:
        if node is old:
            return new
        if not _is_injected(node):
            return node
        changed = {"inner_state": _map(replaced, node.inner_state)}
        if node is injected:
            changed |= _reinjected(node, numbers, count)
        return node._replace(**changed)

    return _map(replaced, tree)


def _find(tree: Any) -> tuple[INNApropState, Any]:
    """Return the only INNApropState in a tree, and the injected hyperparameters around it.

    Raises:
        TypeError: There is none, or more than one.
    """
    found: list[tuple[INNApropState, Any]] = []

    def search(part: Any, injected: Any) -> None:
        for node in jax.tree.leaves(part, is_leaf=_is_node):
            if isinstance(node, INNApropState):
                found.append((node, injected))
            elif _is_injected(node):
                search(node.inner_state, node)

    search(tree, None)
    if len(found) != 1:
        raise TypeError(
            f"optimizer must be a tree with one INNApropState, what innaprop's init or update "
            f"returned, got {type(tree).__name__} with {len(found)}"
        )
    return found[0]


def _is_injected(node: Any) -> bool:
    """Return whether a node is the state of ``optax.inject_hyperparams``."""
    return isinstance(node, tuple) and hasattr(node, "hyperparams") and hasattr(node, "inner_state")


def _is_node(node: Any) -> bool:
    return isinstance(node, INNApropState) or _is_injected(node)


def _map(function: Callable[[Any], Any], tree: Any) -> Any:
    return jax.tree.map(function, tree, is_leaf=_is_node)


def _scheduled(injected: Any) -> Mapping[str, Any]:
    """Return the states of the schedules among injected hyperparameters."""
    return getattr(injected, "hyperparams_states", {})


def _reinjected(node: Any, numbers: Mapping[str, float], count: int) -> dict[str, Any]:
    """Return the changed fields of injected hyperparameters: numbers, and counts of schedules."""
    schedules = {
        key: jax.tree.map(lambda old: _like(np.array(count), old), state)
        for key, state in _scheduled(node).items()
    }
    hyperparams = dict(node.hyperparams)
    for core, own in _OWN.items():
        if own in hyperparams and own not in schedules and core in numbers:
            hyperparams[own] = _like(np.array(numbers[core]), hyperparams[own])
    changed = {"hyperparams": hyperparams, "count": _like(np.array(count), node.count)}
    return changed | ({"hyperparams_states": schedules} if schedules else {})


def _numbers(injected: Any, given: Mapping[str, Any], count: int) -> dict[str, float | None]:
    """Return the hyperparameters by the core's names, as far as they are known."""
    allowed = {*_OWN.values(), "mask"}
    if not isinstance(given, Mapping) or not given.keys() <= allowed:
        raise TypeError(
            f"hyperparameters must be a mapping with keys of {', '.join(sorted(allowed))}, "
            f"got {given!r}"
        )
    held = {} if injected is None else dict(injected.hyperparams)
    for key in ("alpha", "beta"):
        if key in _scheduled(injected):
            held[key] = None
    values = {core: {**held, **given}.get(own) for core, own in _OWN.items()}
    if callable(values["gamma"]):
        values["gamma"] = values["gamma"](count)
    return {core: as_number(value) for core, value in values.items()}


def _parameters(parameters: Any) -> Parameters:
    if parameters is None:
        raise ValueError("parameters must be given, got None: give the state's tree of parameters")
    return Parameters(parameters)


def _names(parameters: Any) -> list[str]:
    """Return the paths of the leaves, such as "dense/kernel"; "params" for a single array."""
    paths, _ = jax.tree_util.tree_flatten_with_path(parameters)
    names = [
        jax.tree_util.keystr(path, simple=True, separator="/") or "params" for path, _ in paths
    ]
    check_unique(names)
    return names


def _like(array: Array, old: Any) -> Any:
    """Return an array with the dtype and the sharding of an old one."""
    dtype = jnp.result_type(old)
    if array.dtype == np.float64 and not jnp.issubdtype(dtype, jnp.floating):
        dtype = jnp.dtype(jnp.float32)  # A weight decay of 0 was an integer.
    new = jnp.asarray(array, dtype)
    # An uncommitted array may follow the others to their device.
    placed = isinstance(old, jax.Array) and old.committed
    return jax.device_put(new, old.sharding) if placed else new
