"""``innaprop.torch``."""

import ctypes
import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from innaprop_conformance.backends import EVERYTHING, SteppingBackend, WithCompiler
from innaprop_conformance.cases import Array, Case, Group, some
from innaprop_conformance.training.task import Task, Training


def settings(group: Group) -> dict[str, Any]:
    """Return a group's hyperparameters by their names in PyTorch, schedules of dampings too."""
    h = group.hyperparameters
    return {
        "lr": h.gamma,
        "alpha": group.alpha or h.alpha,
        "beta": group.beta or h.beta,
        "sigma": h.sigma,
        "eps": h.eps,
        "weight_decay": h.weight_decay,
        "decay_momentum": h.decay_momentum,
    }


class TorchBackend(SteppingBackend):
    """``innaprop.torch.INNAprop``, a parameter at a time."""

    distributions = ("torch",)
    modules = ("torch",)
    features = EVERYTHING
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float64", "bfloat16", "float16")
    optimizers: ClassVar[tuple[str, ...]] = ("INNAprop", "AdamW")
    options: ClassVar[Mapping[str, bool]] = MappingProxyType({"foreach": False})
    device: ClassVar[str] = "cpu"

    def begin(self, case: Case, dtype: str) -> None:
        import torch

        from innaprop.torch import INNAprop

        self._dtype = self._stored_as(dtype)
        self._parameters = [
            torch.nn.Parameter(torch.tensor(p, dtype=self._dtype, device=self.device))
            for p in case.parameters()
        ]
        rest = iter(self._parameters)
        groups = [
            {"params": [next(rest) for _ in group.shapes], **settings(group)}
            for group in case.groups
        ]
        # By itself, a 16-bit parameter is held to what its own dtype can hold.
        self._optimizer = INNAprop(groups, residual=dtype == "float32", **self.options)

    def step(self, gradients: list[Array | None], gammas: list[float]) -> None:
        self._give(gradients)
        for group, gamma in zip(self._optimizer.param_groups, gammas, strict=True):
            group["lr"] = gamma
        self._optimizer.step()

    def _give(self, gradients: list[Array | None]) -> None:
        import torch

        for p, g in zip(self._parameters, gradients, strict=True):
            p.grad = None if g is None else torch.tensor(g, dtype=self._dtype, device=self.device)

    def parameters(self) -> list[NDArray[np.floating]]:
        # NumPy has no bfloat16.
        import torch

        return [
            (p.float() if p.dtype == torch.bfloat16 else p).numpy(force=True)
            for p in self._parameters
        ]

    def train(self, task: Task, optimizer: str, progress: Callable[[int], None]) -> Training:
        from innaprop_conformance.training.torch import train

        return train(task, optimizer, progress)

    @staticmethod
    def _stored_as(dtype: str) -> Any:
        import torch

        return getattr(torch, dtype)


class TorchForeach(TorchBackend):
    """``innaprop.torch.INNAprop`` with foreach=True."""

    optimizers = ()
    options = MappingProxyType({"foreach": True})

    @classmethod
    def cases(cls) -> dict[str, Case]:
        """Return some: the same operations on lists, which one parameter at a time shows."""
        return some()


class TorchFused(WithCompiler, TorchBackend):
    """``innaprop.torch.INNAprop`` with fused=True."""

    optimizers = ()
    mode = "fused"
    options = MappingProxyType({"fused": True})

    def begin(self, case: Case, dtype: str) -> None:
        from innaprop.forms import c

        kernel = c.load()
        if isinstance(kernel, str):
            raise RuntimeError(f"the fused kernel could not be built: {kernel}")
        super().begin(case, dtype)


class TorchBFloat16(WithCompiler, TorchBackend):
    """``innaprop.torch.INNAprop`` with bfloat16 parameters and their residuals, fused.

    Both together are to be the float32 trajectory.
    """

    dtypes = ("float32",)
    optimizers = ()
    mode = "fused"
    options = MappingProxyType({"fused": True})

    @classmethod
    def cases(cls) -> dict[str, Case]:
        """Return some: the kernel itself follows all."""
        return some()

    def parameters(self) -> list[NDArray[np.floating]]:
        return [self._optimizer.master_weights(p).numpy() for p in self._parameters]

    @staticmethod
    def _stored_as(dtype: str) -> Any:
        import torch

        return torch.bfloat16


class TorchCUDA(TorchBackend):
    """``innaprop.torch.INNAprop`` on a CUDA device, with foreach=True."""

    optimizers = ()
    options = MappingProxyType({"foreach": True})
    device = "cuda"

    @classmethod
    def missing(cls) -> list[str]:
        return super().missing() + ([] if _has_cuda_device() else ["a CUDA device"])


class TorchCUDAFused(TorchCUDA):
    """``innaprop.torch.INNAprop`` on a CUDA device with fused=True."""

    mode = "fused"
    options = MappingProxyType({"fused": True})

    def begin(self, case: Case, dtype: str) -> None:
        from innaprop.forms import triton

        kernel = triton.load()
        if isinstance(kernel, str):
            raise RuntimeError(f"the fused kernel is missing: {kernel}")
        super().begin(case, dtype)


def _has_cuda_device() -> bool:
    # Of the driver, since asking torch would import it into the process of the suite.
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return bool(driver.cuInit(0) == 0)
