"""PyTorch."""

from collections.abc import Sequence
from pathlib import Path

import innaprop
from innaprop_conformance.handoff.loop import Array, TrainingLoop
from innaprop_core import Hyperparameters


class TorchTrainingLoop(TrainingLoop):
    """``innaprop.torch.INNAprop``."""

    modules = ("torch",)

    def begin(self, hyperparameters: Hyperparameters, values: Sequence[Array], dtype: str) -> None:
        """Make parameters and optimizer."""
        import torch

        from innaprop.torch import INNAprop

        self._dtype = getattr(torch, dtype)
        self._parameters = [torch.nn.Parameter(torch.tensor(v, dtype=self._dtype)) for v in values]
        h = hyperparameters
        self._optimizer = INNAprop(
            list(self.names(self._parameters).items()),
            h.gamma,
            h.alpha,
            h.beta,
            h.sigma,
            h.eps,
            h.weight_decay,
        )

    def step(self, gradients: Sequence[Array], gamma: float) -> None:
        """Make one update."""
        import torch

        for p, g in zip(self._parameters, gradients, strict=True):
            p.grad = torch.tensor(g, dtype=self._dtype)
        self._optimizer.param_groups[0]["lr"] = gamma
        self._optimizer.step()

    def values(self) -> list[Array]:
        """Return the parameters, joined with their residuals."""
        return [self._optimizer.master_weights(p).numpy(force=True) for p in self._parameters]

    def put(self, values: Sequence[Array]) -> None:
        """Set the parameters."""
        import torch

        with torch.no_grad():
            for p, value in zip(self._parameters, values, strict=True):
                p.copy_(torch.tensor(value))

    def save(self, path: Path) -> None:
        """Save the state."""
        innaprop.save_state(path, self._optimizer)

    def load(self, path: Path) -> None:
        """Load a state."""
        innaprop.load_state(path, self._optimizer)
