"""``innaprop.optax``: jitted on one device, sharded over two, and in bfloat16."""

import math
from collections.abc import Callable
from functools import cache, partial
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from innaprop_conformance.backends.protocol import PLAIN
from innaprop_conformance.backends.stepping import SteppingBackend
from innaprop_conformance.cases import Array, Case, Group, few, some
from innaprop_conformance.cases.case import differ_in_decay_only
from innaprop_conformance.training.task import Task, Training


class OptaxBackend(SteppingBackend):
    """``innaprop.optax.innaprop``, jitted and donated, with the step size injected."""

    distributions = ("optax", "jax")
    modules = ("optax", "jax")
    mode = "compiled"
    features = PLAIN - {"missing gradients"}
    optimizers: ClassVar[tuple[str, ...]] = ("INNAprop", "AdamW")

    @classmethod
    def cases(cls) -> dict[str, Case]:
        """Return some: every case is compiled anew."""
        return some()

    def begin(self, case: Case, dtype: str) -> None:
        import jax

        jax.config.update("jax_enable_x64", dtype == "float64")  # type: ignore[no-untyped-call]
        init, self._step = _compiled(case.groups, dtype)
        self._dtype = dtype
        self._parameters = [self._put(p) for p in case.parameters()]
        self._state = init(self._parameters)

    def step(self, gradients: list[Array | None], gammas: list[float]) -> None:
        import jax.numpy as jnp

        # One part of the state for each group, or one for all.
        for part, gamma in zip(self._state, gammas, strict=False):
            part.inner_state.hyperparams["learning_rate"] = jnp.asarray(gamma, self._dtype)
        self._parameters, self._state = self._step(
            self._parameters, self._state, [self._put(g) for g in gradients if g is not None]
        )

    def parameters(self) -> list[NDArray[np.floating]]:
        return [np.asarray(p) for p in self._parameters]

    def train(self, task: Task, optimizer: str, progress: Callable[[int], None]) -> Training:
        from innaprop_conformance.training.optax import train

        return train(task, optimizer, progress)

    def _put(self, array: Array) -> Any:
        import jax

        return jax.device_put(array.astype(self._dtype))


class _Few(OptaxBackend):
    """Another placement or storage, of which every case is compiled or every step waits."""

    features = OptaxBackend.features - {"long runs"}
    dtypes = ("float32",)
    optimizers = ()

    @classmethod
    def cases(cls) -> dict[str, Case]:
        """Return a few: the backend itself follows more."""
        return few()


class OptaxBFloat16(_Few):
    """The same with bfloat16 parameters and their residuals.

    Both together are to be the float32 trajectory.
    """

    def parameters(self) -> list[NDArray[np.floating]]:
        import optax

        from innaprop.optax import master_weights

        weights: list[Any] = [None] * len(self._parameters)
        for part in self._state:
            state = part.inner_state.inner_state
            # Each group's part of the state has something for its own parameters alone.
            own = [
                m if isinstance(m, optax.MaskedNode) else p
                for p, m in zip(self._parameters, state.momentum, strict=True)
            ]
            for i, weight in enumerate(master_weights(state, own)):
                if not isinstance(weight, optax.MaskedNode):
                    weights[i] = np.asarray(weight)
        return weights

    def _put(self, array: Array) -> Any:
        import jax

        return jax.device_put(array.astype(jax.numpy.bfloat16))


class OptaxSharded(_Few):
    """The same, with the elements of every array in halves on two devices of the host."""

    environment = MappingProxyType({"XLA_FLAGS": "--xla_force_host_platform_device_count=2"})
    mode = "distributed"

    def begin(self, case: Case, dtype: str) -> None:
        self._shapes = case.shapes
        super().begin(case, dtype)

    def parameters(self) -> list[NDArray[np.floating]]:
        return [
            p.ravel()[: math.prod(shape)].reshape(shape)
            for p, shape in zip(super().parameters(), self._shapes, strict=True)
        ]

    def _put(self, array: Array) -> Any:
        import jax
        from jax.sharding import Mesh, NamedSharding, PartitionSpec

        halves = np.zeros((2, (array.size + 1) // 2), self._dtype)
        halves.ravel()[: array.size] = array.ravel()
        mesh = Mesh(np.array(jax.devices()).reshape(2), ("devices",))
        spec = PartitionSpec("devices")  # type: ignore[no-untyped-call]
        return jax.device_put(halves, NamedSharding(mesh, spec))


@cache
def _compiled(
    groups: tuple[Group, ...], dtype: str
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return init and the jitted step, whose step sizes are part of the state, in this dtype."""
    import jax
    import jax.numpy as jnp
    import optax

    from innaprop.optax import innaprop

    fixed = ("alpha", "beta", "sigma", "eps", "weight_decay")
    owners = [i for i, group in enumerate(groups) for _ in group.shapes]

    def make(group: Group, mask: list[bool] | None = None) -> Any:
        h = group.hyperparameters
        inject = optax.inject_hyperparams(
            partial(innaprop, mask=mask, decay_momentum=h.decay_momentum),
            static_args=fixed,
            hyperparam_dtype=jnp.dtype(dtype),
        )
        return inject(
            h.gamma, group.alpha or h.alpha, group.beta or h.beta, h.sigma, h.eps, h.weight_decay
        )

    if differ_in_decay_only(groups):
        # What the mask of weight decay is for.
        decaying = max(groups, key=lambda group: group.hyperparameters.weight_decay)
        mask = [groups[owner].hyperparameters.weight_decay > 0 for owner in owners]
        parts = [optax.masked(make(decaying, mask), [True] * len(owners))]
    else:
        parts = [
            optax.masked(make(group), [owner == i for owner in owners])
            for i, group in enumerate(groups)
        ]
    optimizer = optax.chain(*parts)

    def step(params: list[Any], state: Any, gradients: list[Any]) -> tuple[list[Any], Any]:
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    return optimizer.init, jax.jit(step, donate_argnums=(0, 1))
