"""``innaprop.optax``: jitted on one device, sharded over two, and eager."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from innaprop_conformance.backends.protocol import PLAIN
from innaprop_conformance.backends.stepping import SteppingBackend
from innaprop_conformance.cases import Array, Case, Event, few, some
from innaprop_conformance.cases.dtypes import (
    FOLLOWED_WITH_NARROW_STATE,
    NARROW_STATE,
    STORAGE,
    has_narrow_state,
    has_residual,
    stored_as,
)
from innaprop_conformance.training.task import Task, Training

# Gradients that are None are rejected.
_PLAIN = PLAIN - {"missing gradients"}
EVENTS = frozenset(
    {
        "reload", "portable reload", "hand over", "copy", "pickle", "add", "replace", "relocate",
        "skip", "count", "mixed dtypes", "change alpha", "change beta", "change sigma",
        "change eps", "change weight_decay",
    }
)  # fmt: skip
"""Events that the optax backends support."""
WAYS = frozenset(
    {
        "defaults", "preset", "maximize", "closure", "loss scaling", "accumulation",
        "clip by value", "clip by norm", "clip by global norm", "moving average",
        "excluded by name", "excluded by mask", "step size schedule", "step size function",
        "strided gradients", "strided parameters", "complex", "psi",
    }
)  # fmt: skip
"""Ways that optax supports."""
_INJECTING = {"reload", "portable reload", "hand over", "change"}
"""Events that need all options in the state (``optax.inject_hyperparams``)."""


_WITH_RESIDUALS = ("way,psi", "event,add", "event,copy", "event,pickle")
"""Cases to run with residuals, besides those that list a 16-bit dtype and those of ``few``."""


class OptaxBackend(SteppingBackend):
    """``innaprop.optax.innaprop``, jitted and donated; changing step sizes are injected."""

    distributions = ("optax", "jax")
    modules = ("optax", "jax")
    mode = "compiled"
    features = _PLAIN | EVENTS | WAYS
    counts = "run"
    dtypes: ClassVar[tuple[str, ...]] = (*STORAGE, *NARROW_STATE)
    optimizers: ClassVar[tuple[str, ...]] = ("INNAprop", "AdamW")

    @classmethod
    def cases(cls) -> dict[str, Case]:
        """Return a part of the cases, since each is compiled again."""
        return some()

    @classmethod
    def lacks(cls, case: Case, dtype: str) -> str:
        """Return why it does not run a case in a dtype; in 16 bits it runs the relevant ones."""
        if has_narrow_state(dtype) and case.name not in FOLLOWED_WITH_NARROW_STATE:
            return "takes too long"
        chosen = stored_as(dtype) in case.dtypes or case.name in _WITH_RESIDUALS
        of_residual = has_residual(dtype) and not has_narrow_state(dtype)
        if of_residual and not chosen and case.name not in few():
            return "takes too long"
        return super().lacks(case, dtype)

    def follow(self, case: Case, dtype: str) -> Array:
        # Decided here, so that the run without events uses the same compiled functions.
        happens = {event.kind for event in case.events}
        self._injects = bool(happens & _INJECTING)
        # A state that was handed over still belongs to the caller, and must not be donated.
        self._donates = "hand over" not in happens
        return super().follow(case, dtype)

    def begin(self, case: Case, dtype: str) -> None:
        import jax

        from innaprop_conformance.backends import optax_events
        from innaprop_conformance.backends.optax_transformations import Recipe, name_of

        self._case, self._storage = case, case.storage(dtype)
        self._given_gammas = [group.hyperparameters.gamma for group in case.groups]
        self._made = 0
        self._average: dict[str, Any] = {}
        enables = "float64" in self._storage
        jax.config.update("jax_enable_x64", enables)  # type: ignore[no-untyped-call]
        self._names = [name_of(i) for i in range(len(case.shapes))]
        storage = tuple(self._storage)
        self._recipe = Recipe(case.groups, storage, case.way, case.amount, self._injects)
        self._init, self._step = self._compiled(self._recipe)
        given = self._arrays(case.parameters(), "strided parameters")
        for name, array in given.items():
            self.watch(f"initial {name}", array)
        self._parameters = self._put(given)
        joining = [e.parameter for e in case.events if e.kind == "add" and e.parameter is not None]
        self._waiting = {self._names[i]: self._parameters.pop(self._names[i]) for i in joining}
        self._state = self._init(self._parameters)
        if case.counted:
            optax_events.begin_counted(self)

    def begin_anew(self) -> None:
        """Make a new state with other options, and copies of the parameters."""
        import jax.numpy as jnp

        self._recipe = replace(self._recipe, others=True)
        self._init, self._step = self._compiled(self._recipe)
        self._parameters = {name: jnp.array(p) for name, p in self._parameters.items()}
        self._state = self._init(self._parameters)

    def step(self, gradients: list[Array | None], gammas: list[float]) -> None:
        from innaprop_conformance.backends import optax_events

        # Set only on changes: setting it always would hide values that were loaded wrongly.
        if gammas != self._given_gammas:
            if not self._case.way.startswith("step size"):
                for group, gamma in enumerate(gammas[: len(self.parts())]):
                    self.set_option(group, "learning_rate", gamma)
            self._given_gammas = gammas
        given = self._put(self._arrays(gradients, "strided gradients"))
        for name, gradient in given.items():
            self.watch(f"gradient of {name}", gradient, np.asarray)
        optax_events.step(self, given)
        self._made += 1
        if self._case.way == "moving average":
            self._average = optax_events.averaged(self._average, self._values(), self._case.amount)

    def update(self, gradients: dict[str, Any]) -> None:
        """Make an update."""
        self._parameters, self._state = self._step(self._parameters, self._state, gradients)

    def happen(self, event: Event) -> None:
        from innaprop_conformance.backends import optax_events

        optax_events.HAPPEN[event.kind](self, event)

    def parts(self) -> list[Any]:
        """Return the state of each transformation: one per group, or one for all groups."""
        from innaprop_conformance.backends.optax_transformations import is_partitioned

        if not is_partitioned(self._case.groups):
            return [self._state]
        inner = self._state.inner_states
        return [inner[str(i)].inner_state for i in range(len(self._case.groups))]

    def set_parts(self, parts: Sequence[Any]) -> None:
        """Set the state of each transformation."""
        if len(parts) == 1:
            (self._state,) = parts
            return
        inner = self._state.inner_states
        new = {str(i): inner[str(i)]._replace(inner_state=part) for i, part in enumerate(parts)}
        self._state = self._state._replace(inner_states=new)

    def parameters_of_parts(self) -> list[dict[str, Any]]:
        """Return the parameters of each transformation, with the mask of its state."""
        import optax

        trees = [optax.tree.get(part, "INNApropState").momentum for part in self.parts()]
        return [
            {n: m if isinstance(m, optax.MaskedNode) else self._parameters[n] for n, m in t.items()}
            for t in trees
        ]

    def set_option(self, group: int, name: str, value: float) -> None:
        """Set an injected option of a group."""
        import jax.numpy as jnp

        options = self.parts()[group].hyperparams
        options[name] = jnp.asarray(value, options[name].dtype)

    def _values(self) -> dict[str, Any]:
        """Return the parameters, or the master weights of those that have residuals."""
        import optax

        from innaprop_conformance.backends import optax_events

        values = {**self._parameters, **self._waiting}
        if any(has_residual(dtype) for dtype in self._storage):
            for part, own in zip(self.parts(), self.parameters_of_parts(), strict=True):
                found = optax_events.whole(optax.tree.get(part, "INNApropState"), own)
                values |= {n: w for n, w in found.items() if not isinstance(w, optax.MaskedNode)}
        return values

    def parameters(self) -> list[NDArray[np.floating]]:
        values = self._values()
        return [_array(values[name]) for name in self._names]

    def observed(self) -> Sequence[NDArray[np.floating]]:
        import optax

        from innaprop.optax import psi

        if self._average:
            return [_array(self._average[name]) for name in self._names]
        if self._case.way != "psi":
            return self.parameters()
        group = self._case.group
        dampings = {name: group.at(name, self._made - 1) for name in ("alpha", "beta")}
        found = psi(optax.tree.get(self._state, "INNApropState"), self._parameters, **dampings)
        return [_array(found[name]) for name in self._names]

    def train(self, task: Task, optimizer: str, progress: Callable[[int], None]) -> Training:
        from innaprop_conformance.training.optax import train

        return train(task, optimizer, progress)

    def _compiled(self, recipe: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
        from innaprop_conformance.backends.optax_transformations import compiled

        return compiled(recipe, jitted=self.mode != "eager", donates=self._donates)

    def _arrays(self, values: Sequence[Array | None], strided: str) -> dict[str, NDArray[Any]]:
        """Return the values that are not None as NumPy arrays, with the strides of the way."""
        import jax.numpy as jnp

        arrays = {
            name: given.astype(jnp.dtype(stored_as(dtype)))
            for name, given, dtype in zip(self._names, values, self._storage, strict=True)
            if given is not None
        }
        if self._case.way == strided:
            return {name: _strided(array) for name, array in arrays.items()}
        if self._case.way == "complex":
            pairs = np.result_type(np.complex64, *arrays.values())
            return {name: array.view(pairs)[..., 0] for name, array in arrays.items()}
        return arrays

    def _put(self, arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
        import jax

        # JAX accepts NumPy arrays, and only these can be strided.
        if "strided" in self._case.way:
            return arrays
        placed: dict[str, Any] = jax.device_put(arrays)
        return placed


class OptaxEager(OptaxBackend):
    """``innaprop.optax.innaprop`` without jit: the values of injected options are known."""

    mode = "eager"
    # MultiSteps and apply_if_finite compile their branches at every call.
    features = OptaxBackend.features - {"accumulation", "loss scaling"}
    dtypes = ("float32",)
    optimizers = ()

    @classmethod
    def cases(cls) -> dict[str, Case]:
        """Return a few cases, and all events and ways; the main backend runs more."""
        families = ("events", "ways")
        return few() | {name: case for name, case in some().items() if case.family in families}


class OptaxSharded(OptaxBackend):
    """``innaprop.optax.innaprop`` with every array sharded over two host devices."""

    environment = MappingProxyType({"XLA_FLAGS": "--xla_force_host_platform_device_count=2"})
    mode = "distributed"
    features = _PLAIN - {"long runs"}
    dtypes = ("float32", "float32+state16")
    optimizers = ()

    @classmethod
    def cases(cls) -> dict[str, Case]:
        """Return a few cases; the main backend runs more."""
        return few()

    def parameters(self) -> list[NDArray[np.floating]]:
        return [
            p.ravel()[: math.prod(shape)].reshape(shape)
            for p, shape in zip(super().parameters(), self._case.shapes, strict=True)
        ]

    def _put(self, arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
        import jax
        from jax.sharding import Mesh, NamedSharding, PartitionSpec

        mesh = Mesh(np.array(jax.devices()).reshape(2), ("devices",))
        spec = PartitionSpec("devices")  # type: ignore[no-untyped-call]
        halves = {name: _halves(array) for name, array in arrays.items()}
        placed: dict[str, Any] = jax.device_put(halves, NamedSharding(mesh, spec))
        return placed


def _halves(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array's elements as two rows of equal length, padded with a zero if necessary."""
    halves = np.zeros((2, (array.size + 1) // 2), array.dtype)
    halves.ravel()[: array.size] = array.ravel()
    return halves


def _strided(array: NDArray[Any]) -> NDArray[Any]:
    """Return a view of the same values: transposed, or every second element of a larger array."""
    if array.ndim > 1:
        return array.T.copy().T
    return np.stack([array, np.full_like(array, np.nan)], -1)[..., 0]


def _array(given: Any) -> NDArray[Any]:
    """Return an array as NumPy's: complex numbers as pairs, bfloat16 as float32."""
    array = np.asarray(given)
    if np.iscomplexobj(array):
        return np.stack([array.real, array.imag], -1)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array
