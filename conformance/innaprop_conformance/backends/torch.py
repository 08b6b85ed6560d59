"""``innaprop.torch``."""

import ctypes
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from innaprop_conformance.backends.protocol import PLAIN, WithCompiler
from innaprop_conformance.backends.stepping import SteppingBackend
from innaprop_conformance.cases import Array, Case, Event, Group, some
from innaprop_conformance.cases.dtypes import NARROW_STATE, STORAGE, has_narrow_state, has_residual
from innaprop_conformance.training.task import Task, Training

EVENTS = frozenset(
    {
        "reload", "portable reload", "hand over", "copy", "pickle", "add", "replace", "relocate",
        "skip", "count", "mixed dtypes", "change alpha", "change beta", "change sigma",
        "change eps", "change weight_decay",
    }
)  # fmt: skip
"""Events that the PyTorch backends support."""
WAYS = frozenset(
    {
        "defaults", "preset", "maximize", "closure", "capturable", "loss scaling", "accumulation",
        "clip by value", "clip by norm", "clip by global norm", "step size schedule",
        "step in backward", "excluded by name", "strided gradients", "strided parameters",
        "complex", "psi",
    }
)  # fmt: skip
"""Ways that PyTorch supports."""
THREADS = frozenset({"one thread", "three threads"})


def settings(group: Group) -> dict[str, Any]:
    """Return a group's hyperparameters and schedules of alpha and beta, by PyTorch's names."""
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


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Set PyTorch's number of threads within a context."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class TorchBackend(SteppingBackend):
    """``innaprop.torch.INNAprop`` with foreach=False."""

    distributions = ("torch",)
    modules = ("torch",)
    features = PLAIN | EVENTS | WAYS | THREADS
    dtypes: ClassVar[tuple[str, ...]] = (*STORAGE, *NARROW_STATE)
    optimizers: ClassVar[tuple[str, ...]] = ("INNAprop", "AdamW")
    options: ClassVar[Mapping[str, bool]] = MappingProxyType({"foreach": False})
    device: ClassVar[str] = "cpu"

    def begin(self, case: Case, dtype: str) -> None:
        from innaprop_conformance.backends import torch_events

        self._case, self._storage = case, case.storage(dtype)
        self._given_gammas = [group.hyperparameters.gamma for group in case.groups]
        self._parameters = [
            torch_events.parameter(p, d, case.way, self.device)
            for p, d in zip(case.parameters(), self._storage, strict=True)
        ]
        self._joins = {e.parameter for e in case.events if e.kind == "add"}
        self._optimizer = self.make(self._parameters)
        self._steps = torch_events.steps(case, self._optimizer)
        if case.counted:
            torch_events.begin_counted(self)

    def make(self, parameters: list[Any], others: Mapping[str, Any] | None = None) -> Any:
        """Return an optimizer with the case's groups, without parameters that join later.

        Args:
            parameters: All parameters of the case.
            others: Options instead of the case's. Default None.
        """
        from innaprop import BEST_ACCURACY
        from innaprop.torch import INNAprop
        from innaprop_conformance.backends import torch_events

        if self._case.way == "defaults":
            return INNAprop(parameters)
        if self._case.way == "excluded by name":
            return INNAprop(**torch_events.split_by_name(self._case, parameters), **self.options)
        groups = []
        places = range(len(parameters))
        for group in self._case.groups:
            own, places = places[: len(group.shapes)], places[len(group.shapes) :]
            options = {**settings(group), **(others or {})}
            if group.alpha or group.beta:  # State dicts do not hold functions.
                options |= {name: settings(group)[name] for name in ("alpha", "beta")}
            if self._case.way == "capturable":
                import torch

                options["lr"] = torch.tensor(options["lr"], dtype=torch.float64)
            if self._case.way == "preset":
                options |= BEST_ACCURACY
            options["residual"] = has_residual(self._storage[own[0]])
            options["state_bits"] = 16 if has_narrow_state(self._storage[own[0]]) else 32
            named = [(f"p{i}", parameters[i]) for i in own if i not in self._joins]
            groups.append({"params": named, **options})
        flags = {n: True for n in ("maximize", "capturable") if self._case.way == n}
        return INNAprop(groups, **self.options, **flags)

    def step(self, gradients: list[Array | None], gammas: list[float]) -> None:
        # Set only on changes: setting it always would hide values that were loaded wrongly.
        if gammas != self._given_gammas:
            self.set_rates(gammas)
            self._given_gammas = gammas
        self._steps(self, gradients)

    def set_rates(self, gammas: list[float]) -> None:
        """Set every group's learning rate."""
        # Each parameter that was added has its own group.
        groups = self._optimizer.param_groups
        for i, group in enumerate(groups):
            group["lr"] = gammas[min(i, len(gammas) - 1)]

    def give(self, gradients: list[Array | None]) -> None:
        """Set the gradients, and watch them: no update may change them."""
        from innaprop_conformance.backends import torch_events

        self.forget_watched("gradient")
        for i, (p, g) in enumerate(zip(self._parameters, gradients, strict=True)):
            # As from autograd: 16-bit parameters have gradients of their dtype.
            p.grad = None if g is None else torch_events.tensor(g, p, self._case.way)
            if g is not None:
                self.watch(f"gradient {i}", p.grad, torch_events.array)

    @classmethod
    def lacks(cls, case: Case, dtype: str) -> str:
        """Return why it does not run a case in a dtype; in 16 bits it runs a part of them."""
        if (has_residual(dtype) or has_narrow_state(dtype)) and case.name not in some():
            return "takes too long"
        return super().lacks(case, dtype)

    def happen(self, event: Event) -> None:
        from innaprop_conformance.backends import torch_events

        torch_events.HAPPEN[event.kind](self, event)

    def threads(self, number: int) -> AbstractContextManager[None]:
        return torch_threads(number)

    def parameters(self) -> Sequence[NDArray[np.floating]]:
        from innaprop_conformance.backends import torch_events

        return [
            torch_events.array(
                self._master_weights(i) if has_residual(dtype) else self._parameters[i]
            )
            for i, dtype in enumerate(self._storage)
        ]

    def _master_weights(self, place: int) -> Any:
        """Return the master weights of a parameter, or its values if it has not joined yet."""
        p = self._parameters[place]
        return p.float() if place in self._joins else self._optimizer.master_weights(p)

    def observed(self) -> Sequence[NDArray[np.floating]]:
        if self._case.way != "psi":
            return self.parameters()
        return [self._optimizer.psi(p).numpy(force=True) for p in self._parameters]

    def train(self, task: Task, optimizer: str, progress: Callable[[int], None]) -> Training:
        from innaprop_conformance.training.torch import train

        return train(task, optimizer, progress)


class TorchForeach(TorchBackend):
    """``innaprop.torch.INNAprop`` with foreach=True."""

    optimizers = ()
    options = MappingProxyType({"foreach": True})

    @classmethod
    def cases(cls) -> dict[str, Case]:
        """Return a part of the cases: the operations are those of foreach=False, on lists."""
        return some()


class TorchFused(WithCompiler, TorchBackend):
    """``innaprop.torch.INNAprop`` with fused=True."""

    optimizers = ()
    mode = "fused"
    features = TorchBackend.features - {"complex"}
    options = MappingProxyType({"fused": True})

    def begin(self, case: Case, dtype: str) -> None:
        from innaprop.forms import c

        kernel = c.load()
        if isinstance(kernel, str):
            raise RuntimeError(f"the fused kernel could not be built: {kernel}")
        super().begin(case, dtype)

    def step(self, gradients: list[Array | None], gammas: list[float]) -> None:
        # INNAprop warns if it falls back to another implementation.
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            super().step(gradients, gammas)


class TorchCUDA(TorchBackend):
    """``innaprop.torch.INNAprop`` on a CUDA device, with foreach=True."""

    optimizers = ()
    features = TorchBackend.features - THREADS
    options = MappingProxyType({"foreach": True})
    device = "cuda"

    @classmethod
    def missing(cls) -> list[str]:
        return super().missing() + ([] if _has_cuda_device() else ["a CUDA device"])


class TorchCUDAFused(TorchCUDA):
    """``innaprop.torch.INNAprop`` on a CUDA device with fused=True."""

    mode = "fused"
    features = TorchCUDA.features - {"complex"}
    options = MappingProxyType({"fused": True})

    def begin(self, case: Case, dtype: str) -> None:
        from innaprop.forms import triton

        kernel = triton.load()
        if isinstance(kernel, str):
            raise RuntimeError(f"the fused kernel is missing: {kernel}")
        super().begin(case, dtype)


def _has_cuda_device() -> bool:
    # Ask the driver, since importing torch here would load it into the suite's process.
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return bool(driver.cuInit(0) == 0)
