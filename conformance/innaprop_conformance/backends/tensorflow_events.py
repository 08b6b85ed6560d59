"""Events and ways in TensorFlow, each written as a user would."""

import copy
import pickle
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

import innaprop
from innaprop.tensorflow import INNAprop
from innaprop_conformance.backends.states import OTHERS, file_of_state, write_counted
from innaprop_conformance.cases import Array, Case, Event, Hyperparameters, Schedule
from innaprop_conformance.cases.dtypes import has_narrow_state, has_residual, stored_as

if TYPE_CHECKING:
    from innaprop_conformance.backends.tensorflow import TensorFlowBackend as Run

_IN_CHECKPOINTS = ("gamma", "alpha", "beta")
"""Hyperparameters that are variables and so in checkpoints; the others are set by the program."""
_OWN_NAMES = {"gamma": "learning_rate", "eps": "epsilon"}
SHARES = (2.0, -1.0)
"""Factors by which a gradient is split into two parts; exact in every dtype, with sum 1."""
_SCALE = 1024.0
"""Factor of a scaled loss; a power of two, so that scaling is exact."""


def array_of(values: Array, dtype: str) -> NDArray[Any]:
    """Return values as an array of a dtype; TensorFlow may make tensors of it without a copy."""
    return values.astype(tf.as_dtype(stored_as(dtype)).as_numpy_dtype)


def variable(given: Any, name: str, case: Case) -> Any:
    """Return a variable with these initial values, and a constraint if the case's way has one."""
    kept = None
    if case.way == "constraint":
        kept = partial(tf.clip_by_value, clip_value_min=-case.amount, clip_value_max=case.amount)
    return tf.Variable(given, name=name, constraint=kept)


def array(given: Any) -> NDArray[Any]:
    """Return the values of a tensor or variable; bfloat16 as float32."""
    # Converted to float32, since NumPy has no bfloat16.
    values = tf.cast(given, tf.float32) if given.dtype == tf.bfloat16 else given
    return np.asarray(values.numpy())


def make(run: "Run", others: Hyperparameters | None = None, only: Any = None) -> Any:
    """Return an optimizer with the case's hyperparameters, or with others.

    Args:
        run: The run of the case.
        others: Hyperparameters instead of the case's. Default None.
        only: Names of the hyperparameters to take from ``others``. Default None, all.
    """
    case = run._case
    if case.way == "defaults":
        return INNAprop()
    group = case.groups[0]  # Further groups differ in their dtype only.
    values = asdict(group.hyperparameters)
    if case.way == "preset":
        values |= dict(innaprop.BEST_ACCURACY)
    if others is not None:
        values |= {n: v for n, v in asdict(others).items() if only is None or n in only}
    for name in ("alpha", "beta"):
        if getattr(group, name):
            values[name] = _function(getattr(group, name))
    if case.way == "step size function":
        assert group.gamma
        values["gamma"] = _function(group.gamma)
    elif case.way == "step size schedule":
        values["gamma"] = _decay(group.gamma)
    elif run.eager:
        values["gamma"] = tf.Variable(values["gamma"], dtype=tf.float64, trainable=False)
    options = {_OWN_NAMES.get(name, name): value for name, value in values.items()}
    is_narrow = any(tf.as_dtype(stored_as(d)).size == 2 for d in run._storage)
    residual = not is_narrow or any(map(has_residual, run._storage))
    state_bits = 16 if any(map(has_narrow_state, run._storage)) else 32
    return INNAprop(**options, residual=residual, state_bits=state_bits)


def _function(schedule: Schedule) -> Callable[[Any], Any]:
    # The count is an integer tensor, which TensorFlow does not multiply by a float.
    return lambda n: schedule(tf.cast(n, tf.float64))


def _decay(schedule: Schedule | None) -> Callable[[Any], Any]:
    """Return TensorFlow's own linear schedule."""
    assert schedule is not None
    first, last = (tf.constant(x, tf.float64) for x in (schedule.peak, schedule.end))

    def rate(n: Any) -> Any:
        decayed = tf.compat.v1.train.polynomial_decay(first, n, schedule.steps, last)
        return decayed() if callable(decayed) else decayed  # In tf.function it is a tensor.

    return rate


def given(run: "Run", gradients: list[Array | None]) -> list[Any]:
    """Return the gradients of the variables that have joined, in the form that the way needs.

    They are watched: no update may change them.
    """
    way = run._case.way
    if way == "loss scaling" and all(g is None for g in gradients):
        gradients = [np.ones(tuple(v.shape)) for v in run._variables]
        gradients[1] = np.full(tuple(run._variables[1].shape), np.inf)
    run.forget_watched("gradient")
    made: list[Any] = []
    for i, (v, g, dtype) in enumerate(zip(run._variables, gradients, run._storage, strict=True)):
        if i in run._joins:
            continue
        if g is None:
            made.append(None)
            continue
        if way == "sparse gradients":
            rows, places = _rows(g)
            made.append((tf.convert_to_tensor(array_of(rows, dtype)), tf.constant(places)))
            continue
        gradient = tf.convert_to_tensor(array_of(g, dtype))
        if way == "accumulation":
            gradient = _accumulated(v, gradient)
        run.watch(f"gradient {i}", gradient, array)
        made.append(gradient)
    return made


def _accumulated(v: Any, gradient: Any) -> Any:
    total = tf.Variable(tf.zeros_like(v), trainable=False)
    for share in SHARES:
        total.assign_add(share * gradient)
    return total


def _rows(gradient: Array) -> tuple[Array, NDArray[np.int64]]:
    """Return the values and indices of a sparse gradient, with every row split into two entries.

    The number of entries is always twice the number of the variable's rows: the remaining entries
    are zeros for a row that is already present.
    """
    (there,) = np.nonzero(gradient.reshape(len(gradient), -1).any(axis=1))
    places = np.concatenate([there, there[::-1]])
    shares = np.repeat(SHARES, len(there))
    values = gradient[places] * shares.reshape(-1, *[1] * (gradient.ndim - 1))
    missing = 2 * len(gradient) - len(places)
    last = there[-1] if len(there) else 0
    values = np.concatenate([values, np.zeros((missing, *gradient.shape[1:]))])
    return values, np.concatenate([places, np.full(missing, last)]).astype(np.int64)


def update(case: Case, optimizer: Any, variables: list[Any]) -> Callable[[list[Any]], None]:
    """Return the function that makes an update in the case's way from the result of ``given``."""
    way = {
        "closure": _minimized,
        "loss scaling": _scaled,
        "sparse gradients": _looked_up,
        "clip by value": _clipped_by_value,
        "clip by norm": _clipped_by_norm,
        "clip by global norm": _clipped_by_global_norm,
    }.get(case.way, _plain)
    return lambda gradients: way(optimizer, variables, gradients, case.amount)


def _plain(optimizer: Any, variables: list[Any], gradients: list[Any], amount: float) -> None:
    optimizer.apply(gradients, variables)


def _minimized(optimizer: Any, variables: list[Any], gradients: list[Any], amount: float) -> None:
    calls: list[int] = []

    def loss() -> Any:
        calls.append(len(calls))
        return _loss(variables, gradients)

    optimizer.minimize(loss, variables)
    if len(calls) != 1:
        raise ValueError(f"minimize must call the loss once, and did {len(calls)} times")


def _loss(variables: list[Any], gradients: list[Any]) -> Any:
    return tf.add_n([tf.reduce_sum(v * g) for v, g in zip(variables, gradients, strict=True)])


def _scaled(optimizer: Any, variables: list[Any], gradients: list[Any], amount: float) -> None:
    """Update with gradients of a scaled loss, unless one overflows."""
    with tf.GradientTape() as tape:
        loss = _SCALE * _loss(variables, gradients)
    unscaled = [g / _SCALE for g in tape.gradient(loss, variables)]
    finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(g)) for g in unscaled])

    def apply() -> Any:
        return tf.convert_to_tensor(optimizer.apply(unscaled, variables))

    tf.cond(finite, apply, lambda: tf.convert_to_tensor(optimizer.iterations))


def _looked_up(optimizer: Any, variables: list[Any], batches: list[Any], amount: float) -> None:
    """Update embedding tables from which a batch has looked up rows."""
    with tf.GradientTape() as tape:
        terms = [
            tf.reduce_sum(tf.gather(v, places) * rows)
            for v, (rows, places) in zip(variables, batches, strict=True)
        ]
        loss = tf.add_n(terms)
    gradients = tape.gradient(loss, variables)
    assert all(isinstance(g, tf.IndexedSlices) for g in gradients)
    optimizer.apply_gradients(zip(gradients, variables, strict=True))


def _clipped_by_value(
    optimizer: Any, variables: list[Any], gradients: list[Any], amount: float
) -> None:
    clipped = [tf.clip_by_value(g, -amount, amount) for g in gradients]
    optimizer.apply_gradients(zip(clipped, variables, strict=True))


def _clipped_by_norm(
    optimizer: Any, variables: list[Any], gradients: list[Any], amount: float
) -> None:
    clipped = [tf.clip_by_norm(g, amount) for g in gradients]
    optimizer.apply_gradients(zip(clipped, variables, strict=True))


def _clipped_by_global_norm(
    optimizer: Any, variables: list[Any], gradients: list[Any], amount: float
) -> None:
    clipped, _ = tf.clip_by_global_norm(gradients, amount)
    optimizer.apply_gradients(zip(clipped, variables, strict=True))


def begin_counted(run: "Run") -> None:
    """Set the optimizer's count to the case's number of previous updates."""
    run._optimizer.build(run._variables)
    with file_of_state() as path:
        write_counted(path, run._case, [f"p{i}" for i in range(len(run._variables))])
        innaprop.load_state(path, run._optimizer)


def _reload(run: "Run", event: Event) -> None:
    """Read a checkpoint, either into existing state, or deferred until the next update makes it."""
    is_there = event.at % 2 == 0
    with ExitStack() as stack:
        prefix = str(stack.enter_context(file_of_state()))
        tf.train.Checkpoint(variables=run._variables, optimizer=run._optimizer).write(prefix)
        run._variables = [
            variable(tf.zeros_like(v), f"p{i}", run._case) for i, v in enumerate(run._variables)
        ]
        run._optimizer = make(run, OTHERS, _IN_CHECKPOINTS)
        if is_there:
            run._optimizer.build(run._variables)
        whole = tf.train.Checkpoint(variables=run._variables, optimizer=run._optimizer)
        restored = whole.read(prefix)
        run.trace()
        if is_there:
            restored.assert_consumed()
        else:
            run.updated = stack.pop_all()  # Keep the file until the state has been made.
            run.updated.callback(restored.assert_consumed)


def _clone(run: "Run") -> None:
    run._variables = [
        variable(tf.convert_to_tensor(v), f"p{i}", run._case) for i, v in enumerate(run._variables)
    ]


def _portable_reload(run: "Run", event: Event) -> None:
    with file_of_state() as path:
        innaprop.save_state(path, run._optimizer)
        _clone(run)
        run._optimizer = make(run, OTHERS)
        run._optimizer.build(run._variables)
        innaprop.load_state(path, run._optimizer)
    run.trace()


def _hand_over(run: "Run", event: Event) -> None:
    state = run._optimizer.variables
    _clone(run)
    run._optimizer = make(run, OTHERS, _IN_CHECKPOINTS)
    run._optimizer.build(run._variables)
    for own, entry in zip(run._optimizer.variables, state, strict=True):
        own.assign(entry)
        run.watch(f"{entry.name} in the state", entry, array)
    run.trace()


def _update_of_original(run: "Run") -> Callable[[], None]:
    """Return a function that updates the original, which must not affect the copy."""
    apply, ones = run._apply, [tf.ones_like(v) for v in run._variables]
    return lambda: apply(ones)


def _copy(run: "Run", event: Event) -> None:
    """Copy the optimizer with its variables, or the optimizer alone, with the same variables."""
    update_original, variables = _update_of_original(run), run._variables
    if event.at % 8 == 1:
        run._optimizer = copy.deepcopy(run._optimizer)
        values = [v.numpy() for v in variables]
        update_original()
        for v, value in zip(variables, values, strict=True):
            v.assign(value)
    else:
        run._variables, run._optimizer = copy.deepcopy((variables, run._optimizer))
        update_original()
    run.trace()


def _pickle(run: "Run", event: Event) -> None:
    update_original = _update_of_original(run)
    pickled = pickle.dumps((run._variables, run._optimizer))
    run._variables, run._optimizer = pickle.loads(pickled)
    update_original()
    run.trace()


def _change(run: "Run", event: Event) -> None:
    """Set an option; on a copy of the optimizer if it is a constant in the traced function."""
    for name, value in event.values:
        own = _OWN_NAMES.get(name, name)
        if not run.eager and name not in _IN_CHECKPOINTS:
            _check_is_refused(run._optimizer, own, value)
            run._optimizer = copy.deepcopy(run._optimizer)
            run.trace()
        setattr(run._optimizer, own, value)


def _check_is_refused(optimizer: Any, name: str, value: float) -> None:
    try:
        setattr(optimizer, name, value)
    except ValueError:
        return
    raise ValueError(f"{name}, a constant in a traced function, was set to {value}")


def _add(run: "Run", event: Event) -> None:
    run._joins.discard(event.parameter)
    run.build()
    run.trace()


def _replace(run: "Run", event: Event) -> None:
    assert event.parameter is not None
    replaced = run._variables[event.parameter]
    replaced.assign(array_of(run._case.replacement(event), replaced.dtype.name))


HAPPEN: dict[str, Callable[["Run", Event], None]] = {
    "reload": _reload,
    "portable reload": _portable_reload,
    "hand over": _hand_over,
    "copy": _copy,
    "pickle": _pickle,
    "change": _change,
    "add": _add,
    "replace": _replace,
    "skip": lambda run, event: None,  # ``step`` gets no gradients then.
}
"""The implementation of each kind of event."""
