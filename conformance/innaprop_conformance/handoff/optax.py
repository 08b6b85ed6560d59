"""JAX, with optax."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import innaprop
from innaprop_conformance.handoff.loop import Array, TrainingLoop
from innaprop_core import Hyperparameters


class OptaxTrainingLoop(TrainingLoop):
    """``innaprop.optax.innaprop``, jitted, with all hyperparameters injected."""

    modules = ("optax", "jax")

    def begin(self, hyperparameters: Hyperparameters, values: Sequence[Array], dtype: str) -> None:
        """Make parameters and state."""
        import jax
        import jax.numpy as jnp

        jax.config.update("jax_enable_x64", dtype == "float64")  # type: ignore[no-untyped-call]
        self._dtype = dtype
        self._wide = jnp.float64 if dtype == "float64" else jnp.float32
        self._parameters = self._arrays(values)
        init, self._step = _compiled(self._wide)
        self._state = init(self._parameters)
        numbers = asdict(hyperparameters)
        # A bool cannot be injected; all runs here have the default.
        del numbers["decay_momentum"]
        for name, value in numbers.items():
            key = "learning_rate" if name == "gamma" else name
            self._state.hyperparams[key] = jnp.asarray(value, self._wide)

    def step(self, gradients: Sequence[Array], gamma: float) -> None:
        """Make one update."""
        import jax.numpy as jnp

        self._state.hyperparams["learning_rate"] = jnp.asarray(gamma, self._wide)
        self._parameters, self._state = self._step(
            self._parameters, self._state, self._arrays(gradients)
        )

    def values(self) -> list[Array]:
        """Return the parameters, joined with their residuals."""
        from innaprop.optax import master_weights

        weights = master_weights(self._state.inner_state, self._parameters)
        return [np.asarray(weights[name]) for name in self._parameters]

    def put(self, values: Sequence[Array]) -> None:
        """Set the parameters."""
        self._parameters = self._arrays(values)

    def save(self, path: Path) -> None:
        """Save the state."""
        innaprop.save_state(path, self._state, self._parameters)

    def load(self, path: Path) -> None:
        """Load a state."""
        self._state = innaprop.load_state(path, self._state, self._parameters)

    def _arrays(self, values: Sequence[Array]) -> dict[str, Any]:
        import jax.numpy as jnp

        return {name: jnp.asarray(v, self._dtype) for name, v in self.names(values).items()}


@cache
def _compiled(dtype: Any) -> tuple[Any, Any]:
    """Return ``init`` and the jitted step, compiled once: all hyperparameters are in the state."""
    import jax
    import optax

    from innaprop.optax import innaprop as transformation

    optimizer = optax.inject_hyperparams(transformation, hyperparam_dtype=dtype)(1e-3)

    def step(parameters: Any, state: Any, gradients: Any) -> Any:
        updates, state = optimizer.update(gradients, state, parameters)
        return optax.apply_updates(parameters, updates), state

    return optimizer.init, jax.jit(step)
