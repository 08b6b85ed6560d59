"""Events and ways in JAX, each written as a user would."""

import copy
import io
import pickle
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import innaprop
from innaprop.optax import INNApropState, master_weights
from innaprop_conformance.backends.optax_transformations import LOSS_SCALE, name_of
from innaprop_conformance.backends.states import file_of_state, write_counted
from innaprop_conformance.cases import Event

if TYPE_CHECKING:
    from innaprop_conformance.backends.optax import OptaxBackend as Run

Tree = dict[str, Any]

whole = jax.jit(master_weights)
"""``master_weights``, jitted."""


def step(run: "Run", gradients: Tree) -> None:
    """Make an update in the run's way; if a scaled loss has no gradients, an overflowing one."""
    if run._case.way == "loss scaling":
        if not gradients:
            gradients = {name: jnp.ones_like(p) for name, p in run._parameters.items()}
            gradients["p1"] = jnp.full_like(gradients["p1"], jnp.inf)
        # With 16-bit gradients, apply_if_finite would require 16-bit updates.
        wide = {n: g.astype(jnp.promote_types(g.dtype, "float32")) for n, g in gradients.items()}
        run.update({name: LOSS_SCALE * g for name, g in wide.items()})
    elif run._case.way == "accumulation":
        for share in (1.5, 0.5):  # Exact in binary, with mean 1.
            run.update({name: share * g for name, g in gradients.items()})
    elif run._case.way == "maximize":
        run.update({name: -g for name, g in gradients.items()})
    else:
        run.update(gradients)


def averaged(average: Tree, parameters: Tree, momentum: float) -> Tree:
    """Return the moving average of the parameters; it starts at those after the first update."""
    if not average:
        return {name: jnp.array(p) for name, p in parameters.items()}
    new: Tree = optax.incremental_update(parameters, average, 1 - momentum)
    return new


def begin_counted(run: "Run") -> None:
    """Set the state's count to the case's number of previous updates."""
    with file_of_state() as path:
        write_counted(path, run._case, list(run._parameters))
        run._state = innaprop.load_state(path, run._state, run._parameters)


def _leaves(state: Any) -> list[bytes]:
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state)]


def _reload(run: "Run", event: Event) -> None:
    file = io.BytesIO()
    np.savez(file, *map(np.asarray, jax.tree.leaves(run._state)))
    file.seek(0)
    run.begin_anew()
    with np.load(file) as saved:
        leaves = [jnp.asarray(saved[name]) for name in saved.files]
    run._state = jax.tree.unflatten(jax.tree.structure(run._state), leaves)


def _portable_reload(run: "Run", event: Event) -> None:
    parts, parameters = run.parts(), run.parameters_of_parts()
    with file_of_state() as path:
        files = [path.with_name(f"{i}.safetensors") for i in range(len(parts))]
        for file, part, own in zip(files, parts, parameters, strict=True):
            innaprop.save_state(file, part, own)
        run.begin_anew()
        run.set_parts(
            [
                innaprop.load_state(file, part, own)
                for file, part, own in zip(
                    files, run.parts(), run.parameters_of_parts(), strict=True
                )
            ]
        )


def _hand_over(run: "Run", event: Event) -> None:
    state = run._state
    run.begin_anew()
    run._state = state
    run.watch("the state that was handed over", state, _leaves)


def _update_original(run: "Run", parameters: Tree, state: Any) -> None:
    """Make an update with the original state, which must not affect the copy."""
    run._step(parameters, state, {name: jnp.ones_like(p) for name, p in parameters.items()})


def _copy(run: "Run", event: Event) -> None:
    old = run._parameters, run._state
    run._parameters, run._state = copy.deepcopy(old)
    _update_original(run, *old)


def _pickle(run: "Run", event: Event) -> None:
    old = run._parameters, run._state
    run._parameters, run._state = pickle.loads(pickle.dumps(old))
    _update_original(run, *old)


def _change(run: "Run", event: Event) -> None:
    for name, value in event.values:
        run.set_option(event.group, name, value)


def _add(run: "Run", event: Event) -> None:
    assert event.parameter is not None
    name = name_of(event.parameter)
    run._parameters = {**run._parameters, name: run._waiting.pop(name)}
    # As flax does when it restores a part: new entries are initialized, old ones are kept.
    old, new = run._state, run._init(run._parameters)
    run._state = INNApropState(
        count=old.count,
        momentum=new.momentum | old.momentum,
        second_moment=None if new.second_moment is None else new.second_moment | old.second_moment,
        residual=None if new.residual is None else new.residual | old.residual,
    )


def _replace(run: "Run", event: Event) -> None:
    assert event.parameter is not None
    name, values = name_of(event.parameter), run._case.replacement(event)
    new = jnp.asarray(values, run._parameters[name].dtype)
    run._parameters = {**run._parameters, name: new}


def _relocate(run: "Run", event: Event) -> None:
    run._parameters, run._state = jax.tree.map(jnp.array, (run._parameters, run._state))


HAPPEN: dict[str, Callable[["Run", Event], None]] = {
    "reload": _reload,
    "portable reload": _portable_reload,
    "hand over": _hand_over,
    "copy": _copy,
    "pickle": _pickle,
    "change": _change,
    "add": _add,
    "replace": _replace,
    "relocate": _relocate,
    "skip": lambda run, event: None,  # ``step`` gets no gradients then.
}
"""The implementation of each kind of event."""
