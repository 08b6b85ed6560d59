"""``innaprop.torch`` with a step compiled by ``torch.compile``."""

from innaprop_conformance.backends.protocol import PLAIN, WithCompiler
from innaprop_conformance.backends.torch import TorchBackend
from innaprop_conformance.cases import Array, Case, few


class TorchCompiled(WithCompiler, TorchBackend):
    """``INNAprop.step`` compiled with ``fullgraph=True`` and a tensor as learning rate."""

    compilers = ("c++", "g++", "clang++")
    mode = "compiled"
    # A step with a missing gradient would be compiled again.
    features = PLAIN - {"long runs", "missing gradients"}
    dtypes = ("float32", "float32+state16")
    optimizers = ()

    @classmethod
    def cases(cls) -> dict[str, Case]:
        """Return a few cases, since compiling each takes many seconds."""
        return few()

    def begin(self, case: Case, dtype: str) -> None:
        import torch

        # Every case has other constants, and so another graph.
        torch.compiler.reset()
        super().begin(case, dtype)
        self._lrs = [torch.tensor(group.hyperparameters.gamma) for group in case.groups]
        for group, lr in zip(self._optimizer.param_groups, self._lrs, strict=True):
            group["lr"] = lr
        self._compiled = torch.compile(self._optimizer.step, fullgraph=True)

    def step(self, gradients: list[Array | None], gammas: list[float]) -> None:
        self.give(gradients)
        for lr, gamma in zip(self._lrs, gammas, strict=True):
            lr.fill_(gamma)
        self._compiled()  # type: ignore[no-untyped-call]
