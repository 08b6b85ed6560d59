"""The optimizer of the paper's authors, from a checkout of github.com/innaprop/innaprop.

It is not part of this project and not a package: INNAPROP_AUTHORS is the path of the checkout.
"""

import hashlib
import importlib.util
import os
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from innaprop_conformance.backends import SteppingBackend
from innaprop_conformance.cases import Array, Case

VARIABLE = "INNAPROP_AUTHORS"
FILE = "innaprop.py"


class AuthorsBackend(SteppingBackend):
    """``INNAprop`` from ``innaprop.py`` in the checkout."""

    distributions = ("torch",)
    modules = ("torch",)
    # No "damping schedules": when alpha or beta changes, it keeps psi and not the momentum.
    features = frozenset({"groups", "decay groups", "missing gradients", "long runs"})
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float64", "bfloat16", "float16")

    @classmethod
    def missing(cls) -> list[str]:
        return super().missing() + ([] if _file() else [_missing_checkout()])

    @classmethod
    def versions(cls) -> dict[str, str]:
        file = _file()
        digest = hashlib.sha256(file.read_bytes()).hexdigest()[:12] if file else "not there"
        return {**super().versions(), f"{FILE} (SHA-256)": digest}

    @classmethod
    def lacks(cls, case: Case, dtype: str) -> str:
        if not all(group.hyperparameters.decay_momentum for group in case.groups):
            return "without decay_momentum=False"
        return super().lacks(case, dtype)

    def begin(self, case: Case, dtype: str) -> None:
        import torch

        self._dtype = getattr(torch, dtype)
        self._parameters = [
            torch.nn.Parameter(torch.tensor(p, dtype=self._dtype)) for p in case.parameters()
        ]
        rest = iter(self._parameters)
        groups = []
        for group in case.groups:
            h = group.hyperparameters
            groups.append(
                {
                    "params": [next(rest) for _ in group.shapes],
                    "lr": h.gamma,
                    "alpha": h.alpha,
                    "beta": h.beta,
                    "sigma": h.sigma,
                    "eps": h.eps,
                    "weight_decay": h.weight_decay,
                }
            )
        self._optimizer = _optimizer_class()(groups)

    def step(self, gradients: list[Array | None], gammas: list[float]) -> None:
        import torch

        for p, g in zip(self._parameters, gradients, strict=True):
            p.grad = None if g is None else torch.tensor(g, dtype=self._dtype)
        for group, gamma in zip(self._optimizer.param_groups, gammas, strict=True):
            group["lr"] = gamma
        self._optimizer.step()

    def parameters(self) -> list[NDArray[np.floating]]:
        import torch

        # Converted to float32, since NumPy has no bfloat16.
        return [
            (p.float() if p.dtype == torch.bfloat16 else p).numpy(force=True)
            for p in self._parameters
        ]


def _file() -> Path | None:
    """Return the authors' file, if it exists."""
    folder = os.environ.get(VARIABLE)
    file = Path(folder, FILE) if folder else None
    return file if file and file.is_file() else None


def _missing_checkout() -> str:
    folder = os.environ.get(VARIABLE)
    if not folder:
        return f"a checkout of github.com/innaprop/innaprop, which {VARIABLE} names"
    return f"{FILE} in {folder}, which {VARIABLE} names"


def _optimizer_class() -> Any:
    # Imported by its path, since its name is that of our package.
    file = _file()
    spec = file and importlib.util.spec_from_file_location("authors_innaprop", file)
    if not (spec and spec.loader):
        raise ModuleNotFoundError(_missing_checkout())
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.INNAprop
