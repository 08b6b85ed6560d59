"""Events and ways in Keras, each written as a user would."""

import copy
import importlib
import pickle
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

import innaprop
from innaprop.keras import INNAprop
from innaprop_conformance.backends.states import OTHERS, file_of_state, write_counted
from innaprop_conformance.cases import Array, Case, Event, Group, Schedule
from innaprop_conformance.cases.dtypes import has_narrow_state, has_residual, stored_as

if TYPE_CHECKING:
    from innaprop_conformance.backends.keras import KerasBackend as Run

Step = Callable[["Run", list[Array | None]], None]

_PACKAGE = "innaprop_conformance"


@keras.saving.register_keras_serializable(package=_PACKAGE)
class Parameters(keras.Model):  # type: ignore[misc]
    """A model that only holds weights. Keras saves an optimizer as part of a model."""

    def __init__(self, weights: list[dict[str, Any]], kept: float = 0, **options: Any) -> None:
        super().__init__(**options)
        self._given, self._kept = weights, kept
        for weight in weights:
            of_weight = {**weight, "shape": tuple(weight["shape"])}
            constraint = (lambda values: ops.clip(values, -kept, kept)) if kept else None
            self.add_weight(initializer="zeros", constraint=constraint, **of_weight)
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Return the inputs."""
        return inputs

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {
            **super().get_config(),
            "weights": [dict(weight) for weight in self._given],
            "kept": self._kept,
        }


@keras.saving.register_keras_serializable(package=_PACKAGE)
class Scheduled(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """A case's schedule of alpha or beta, as a serializable Keras object."""

    def __init__(self, **values: Any) -> None:
        self._schedule = Schedule(**values)

    def __call__(self, step: Any) -> Any:
        """Return the value for an update; ``step`` is the number of updates before it."""
        return self._schedule(step)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return asdict(self._schedule)


def array(given: Any) -> NDArray[Any]:
    """Return a copy of the values of a tensor or variable; bfloat16 as float32."""
    # Converted to float32, since NumPy has no bfloat16.
    if keras.backend.standardize_dtype(given.dtype) == "bfloat16":
        given = ops.cast(given, "float32")
    return np.array(ops.convert_to_numpy(given))


def model(run: "Run") -> Any:
    """Return a model whose weights are the case's initial parameters."""
    case = run._case
    decay = decaying(case).hyperparameters.weight_decay
    weights = [
        {
            "shape": list(shape),
            "dtype": stored_as(dtype),
            "name": f"{'kernel' if owner.hyperparameters.weight_decay == decay else 'bias'}_{i}",
        }
        for i, (shape, dtype, owner) in enumerate(
            zip(case.shapes, run._storage, case.owners, strict=True)
        )
    ]
    made = Parameters(weights, case.amount if case.way == "constraint" else 0)
    for i, (variable, values) in enumerate(
        zip(made.trainable_variables, case.parameters(), strict=True)
    ):
        narrow = keras.backend.standardize_dtype(variable.dtype) == "bfloat16"
        given = values if narrow else values.astype(variable.dtype)
        run.watch(f"initial parameter {i}", given)
        variable.assign(given)
        if case.way == "strided parameters":
            variable.value.data = _strided(variable.value.data)
    return made


def decaying(case: Case) -> Group:
    """Return the group whose options the optimizer gets: the one with the largest weight decay."""
    return max(case.groups, key=lambda group: group.hyperparameters.weight_decay)


def optimizer(run: "Run") -> INNAprop:
    """Return an optimizer with the case's options, built for the run's variables."""
    case = run._case
    made = INNAprop() if case.way == "defaults" else _with_options(run)
    decay = decaying(case).hyperparameters.weight_decay
    excluded = [
        variable
        for variable, owner in zip(run._variables, case.owners, strict=True)
        if owner.hyperparameters.weight_decay != decay
    ]
    if case.way == "excluded by name":
        made.exclude_from_weight_decay(var_names=["^bias_"])
    elif excluded:
        made.exclude_from_weight_decay(excluded)
    made.build(run._variables)
    return made


def _with_options(run: "Run") -> INNAprop:
    case = run._case
    group = decaying(case)
    h = group.hyperparameters
    dampings = _dampings(group, {"alpha": h.alpha, "beta": h.beta})
    for name, value in dampings.items():
        if isinstance(value, Scheduled):
            run.watch(f"the schedule of {name}", value, Scheduled.get_config)
    if case.way == "preset":
        dampings = dict(innaprop.BEST_ACCURACY)
    of_way: dict[str, dict[str, Any]] = {
        "accumulation": {"gradient_accumulation_steps": 2},
        "clip by value": {"clipvalue": case.amount},
        "clip by norm": {"clipnorm": case.amount},
        "clip by global norm": {"global_clipnorm": case.amount},
        "moving average": {"use_ema": True, "ema_momentum": case.amount},
    }
    rate: Any = h.gamma
    if case.way == "step size schedule":
        assert group.gamma is not None
        rate = keras.optimizers.schedules.PolynomialDecay(
            group.gamma.peak, group.gamma.steps, group.gamma.end
        )
    elif case.way == "step size function":

        def rate() -> Any:
            updates = ops.cast(made.iterations, keras.config.floatx())
            return group.gamma and group.gamma(updates)

    made = INNAprop(
        rate,
        sigma=h.sigma,
        epsilon=h.eps,
        weight_decay=h.weight_decay,
        decay_momentum=h.decay_momentum,
        residual=any(map(has_residual, run._storage)),
        state_bits=16 if any(map(has_narrow_state, run._storage)) else 32,
        **dampings,
        **of_way.get(case.way, {}),
    )
    return made


def _dampings(group: Group, numbers: dict[str, Any]) -> dict[str, Any]:
    """Return alpha and beta: the group's schedules, or these numbers where it has none."""
    schedules = {name: getattr(group, name) for name in numbers}
    return numbers | {n: Scheduled(**asdict(s)) for n, s in schedules.items() if s is not None}


def begin_counted(run: "Run") -> None:
    """Set the optimizer's count to the case's number of previous updates."""
    with file_of_state() as path:
        write_counted(path, run._case, [variable.path for variable in run._variables])
        innaprop.load_state(path, run._optimizer)


def steps(case: Case) -> Step:
    """Return the function that makes an update in the case's way."""
    return {
        "accumulation": _accumulated,
        "loss scaling": _scaled,
        "sparse gradients": _sparse,
    }.get(case.way, _plain)


def tensors(run: "Run", gradients: list[Array | None]) -> list[Any]:
    """Return gradients as tensors of their variables' dtypes, as automatic differentiation does."""
    made: list[Any] = [
        None if g is None else ops.convert_to_tensor(g, variable.dtype)
        for g, variable in zip(gradients, run._variables, strict=True)
    ]
    if run._case.way == "strided gradients":
        made = [g if g is None else _strided(g) for g in made]
    run.forget_watched("gradient")
    if run.mutable_tensors:
        for i, g in enumerate(made):
            if g is not None:
                run.watch(f"gradient {i}", g, array)
    return made


def _strided(made: Any) -> Any:
    """Return a view of the same values: transposed, and every second element of a larger tensor."""
    torch = importlib.import_module("torch")
    if made.dim() > 1:
        made = made.mT.contiguous().mT
    return torch.stack([made, torch.full_like(made, torch.nan)], -1)[..., 0]


def _plain(run: "Run", gradients: list[Array | None]) -> None:
    run._apply(tensors(run, gradients))


def _accumulated(run: "Run", gradients: list[Array | None]) -> None:
    for share in (4.0, -2.0):  # Exact in binary, with mean 1.
        run._apply(tensors(run, [None if g is None else share * g for g in gradients]))


def _scaled(run: "Run", gradients: list[Array | None]) -> None:
    if all(g is None for g in gradients):
        gradients = [np.ones(shape) for shape in run._case.shapes]
        gradients[1] = np.full(run._case.shapes[1], np.inf)
    run._apply([run._outer.scale_loss(g) for g in tensors(run, gradients)])


def _sparse(run: "Run", gradients: list[Array | None]) -> None:
    run._apply(
        [
            _rows(g, keras.backend.standardize_dtype(variable.dtype))
            for g, variable in zip(gradients, run._variables, strict=True)
            if g is not None
        ]
    )


def _rows(gradient: Array, dtype: str) -> Any:
    """Return a sparse gradient in which every row is split into two entries that add up.

    The second entries come in reverse order after all first ones. The number of entries is always
    twice the number of the variable's rows, to avoid compiling again: the remaining entries are
    zeros for rows that are already present.
    """
    n = len(gradient)
    present = np.flatnonzero(gradient.reshape(n, -1).any(axis=1))
    rows = np.resize(present if len(present) else [0], n)
    values = gradient[rows]
    values[max(len(present), 1) :] = 0
    # The factors 2 and -1 are exact in 16 bits too, and have the sum 1.
    rows, values = np.concatenate([rows, rows[::-1]]), np.concatenate([2 * values, -values[::-1]])
    if keras.backend.backend() == "tensorflow":
        slices = importlib.import_module("tensorflow").IndexedSlices
        shape = ops.convert_to_tensor(gradient.shape, "int32")
        indices = ops.convert_to_tensor(rows, "int32")
        return slices(ops.convert_to_tensor(values, dtype), indices, shape)
    sparse = importlib.import_module("jax.experimental.sparse")
    indices = ops.convert_to_tensor(rows[:, None], "int32")
    return sparse.BCOO((ops.convert_to_tensor(values, dtype), indices), shape=gradient.shape)


def observed(run: "Run") -> list[NDArray[Any]]:
    """Return the judged quantity of the case's way."""
    if run._case.way == "psi":
        return [array(run._optimizer.psi(variable)) for variable in run._variables]
    if run._case.way != "moving average":
        return run.parameters()
    # As at the end of ``fit``; then the weights are restored, since the run continues.
    weights = [array(variable) for variable in run._variables]
    run._optimizer.finalize_variable_values(run._variables)
    averages = [array(variable) for variable in run._variables]
    for variable, weight in zip(run._variables, weights, strict=True):
        variable.assign(weight)
    return averages


def _cloned(run: "Run") -> Any:
    cloned = Parameters.from_config(run._model.get_config())
    for variable, old in zip(cloned.trainable_variables, run._variables, strict=True):
        variable.assign(old)
    return cloned


def _with_other_learning_rate(config: dict[str, Any]) -> INNAprop:
    """Return an optimizer with the same config, except for the learning rate, which is state."""
    return INNAprop.from_config({**config, "learning_rate": OTHERS.gamma})


def watch_options(run: "Run") -> None:
    """Watch the config of the run's current optimizer, which no update may change."""
    run.watch("the config", run, _config)


def _config(run: "Run") -> dict[str, Any]:
    """Return the optimizer's config without its name and learning rate, which schedules change."""
    config = run._optimizer.get_config()
    return {key: config[key] for key in config.keys() - {"learning_rate", "name"}}


def _reload(run: "Run", event: Event) -> None:
    """Save and load a model, then its weights, into an optimizer with another learning rate."""
    with tempfile.TemporaryDirectory() as folder:
        run._model.compile(run._optimizer, "mse")
        run._model.save(Path(folder, "model.keras"))
        loaded = keras.models.load_model(Path(folder, "model.keras"))
        loaded.save_weights(Path(folder, "model.weights.h5"))
        model = Parameters.from_config(loaded.get_config())
        model.compile(_with_other_learning_rate(loaded.optimizer.get_config()), "mse")
        model.optimizer.build(model.trainable_variables)
        model.load_weights(Path(folder, "model.weights.h5"))
    run.adopt(model, model.optimizer)


def _portable_reload(run: "Run", event: Event) -> None:
    h = OTHERS
    with file_of_state() as path:
        innaprop.save_state(path, run._optimizer)
        model = _cloned(run)
        other = INNAprop(
            h.gamma, sigma=h.sigma, epsilon=h.eps, weight_decay=h.weight_decay,
            **_dampings(decaying(run._case), {"alpha": h.alpha, "beta": h.beta}),
            residual=run._optimizer.residual, state_bits=run._optimizer.state_bits,
        )  # fmt: skip
        other.build(model.trainable_variables)
        names = [variable.path for variable in run._variables]
        new = dict(zip(names, model.trainable_variables, strict=True))
        innaprop.load_state(path, other, new)
    run.adopt(model, other)


def _hand_over(run: "Run", event: Event) -> None:
    """Load the state into one optimizer from a dict, and from there into another from a list."""
    config = run._optimizer.get_config()
    store: dict[str, Any] = {}
    run._optimizer.save_own_variables(store)
    run.watch("the config in the state", config)
    for name, values in store.items():
        run.watch(f"{name} in the store", values)
    model = _cloned(run)
    one, other = INNAprop.from_config(config), _with_other_learning_rate(config)
    one.build(model.trainable_variables)
    one.load_own_variables(store)
    _update_original(run._optimizer, run._variables)
    weights = [array(variable) for variable in one.variables]
    for i, values in enumerate(weights):
        run.watch(f"array {i} of the weights", values)
    other.build(model.trainable_variables)
    other.set_weights(weights)
    run.adopt(model, other)


def _update_original(old: INNAprop, variables: list[Any]) -> None:
    """Make an update with the original optimizer, which must not affect the copy."""
    old.apply([ops.ones(v.shape, v.dtype) for v in variables], variables)


def _copied(run: "Run", make: Callable[[Any], Any]) -> None:
    old, variables = run._optimizer, run._variables
    run._model.compile(old, "mse")
    model = make(run._model)
    run.adopt(model, model.optimizer)
    _update_original(old, variables)


def _change(run: "Run", event: Event) -> None:
    for name, value in event.values:
        setattr(run._optimizer, {"eps": "epsilon"}.get(name, name), value)
    # Compiled functions hold options as constants, as with every Keras optimizer.
    run.adopt(run._model, run._optimizer)
    watch_options(run)


def _replace(run: "Run", event: Event) -> None:
    assert event.parameter is not None
    variable = run._variables[event.parameter]
    variable.assign(ops.convert_to_tensor(run._case.replacement(event), variable.dtype))


def _relocate(run: "Run", event: Event) -> None:
    for variable in [*run._variables, *run._optimizer.variables]:
        variable.value.data = variable.value.data.clone()


HAPPEN: dict[str, Callable[["Run", Event], None]] = {
    "reload": _reload,
    "portable reload": _portable_reload,
    "hand over": _hand_over,
    "copy": lambda run, event: _copied(run, copy.deepcopy),
    "pickle": lambda run, event: _copied(run, lambda model: pickle.loads(pickle.dumps(model))),
    "change": _change,
    "replace": _replace,
    "relocate": _relocate,
    "skip": lambda run, event: None,  # ``step`` gets no gradients then.
}
"""The implementation of each kind of event."""
