"""``innaprop.torch`` with its step under ``torch.compile``."""

from innaprop_conformance.backends.protocol import PLAIN, WithCompiler
from innaprop_conformance.backends.torch import TorchBackend
from innaprop_conformance.cases import Array, Case, few


class TorchCompiled(WithCompiler, TorchBackend):
    """``torch.compile`` of ``INNAprop.step``, whole and with the learning rate a tensor."""

    compilers = ("c++", "g++", "clang++")
    mode = "compiled"
    # A step without one of its gradients is compiled anew.
    features = PLAIN - {"long runs", "missing gradients"}
    dtypes = ("float32", "float32+state16")
    optimizers = ()

    @classmethod
    def cases(cls) -> dict[str, Case]:
        """Return a few: compiling takes many seconds, and every case is compiled anew."""
        return few()

    def begin(self, case: Case, dtype: str) -> None:
        import torch

        # Every case has other constants, and so a graph of its own.
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
