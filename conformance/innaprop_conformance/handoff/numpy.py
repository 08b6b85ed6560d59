"""The core's reference optimizer."""

from collections.abc import Sequence
from pathlib import Path

import innaprop
from innaprop_conformance.handoff.loop import Array, TrainingLoop
from innaprop_core import Hyperparameters, INNAprop


class NumPyTrainingLoop(TrainingLoop):
    """``innaprop_core.INNAprop`` on NumPy arrays."""

    modules = ("numpy",)
    dtypes = ("float32", "float64")

    def begin(self, hyperparameters: Hyperparameters, values: Sequence[Array], dtype: str) -> None:
        """Make parameters and optimizer."""
        self._optimizer = INNAprop([v.astype(dtype) for v in values], hyperparameters)
        self._dtype = dtype

    def step(self, gradients: Sequence[Array], gamma: float) -> None:
        """Make one update."""
        self._optimizer.step([g.astype(self._dtype) for g in gradients], gamma=gamma)

    def values(self) -> list[Array]:
        """Return the parameters."""
        return self._optimizer.parameters

    def put(self, values: Sequence[Array]) -> None:
        """Set the parameters."""
        self._optimizer.parameters = [v.astype(self._dtype) for v in values]

    def save(self, path: Path) -> None:
        """Save the state."""
        innaprop.save_state(path, self._optimizer, list(self.names(self.values())))

    def load(self, path: Path) -> None:
        """Load a state."""
        innaprop.load_state(path, self._optimizer, list(self.names(self.values())))
