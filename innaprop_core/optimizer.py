"""The reference optimizer: a stateful INNAprop for arrays of any array-API library."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from numbers import Integral
from typing import Any, SupportsIndex

import numpy as np
from array_api_compat import array_namespace, device

from innaprop_core import momentum
from innaprop_core.hyperparameters import (
    Hyperparameters,
    check_hyperparameters,
    check_is_hyperparameters,
)

_DEFAULTS = Hyperparameters()


class INNAprop:
    """INNAprop for a list of arrays of any array-API namespace.

    Nothing is updated in place: every step makes new arrays.

    Args:
        parameters: At least one array, of any shape and of a real floating dtype of at least 32
            bits; any iterable. Tensors must not require a gradient.
        hyperparameters: Default ``Hyperparameters()``.

    Attributes:
        parameters: The current arrays, in the order given.
        hyperparameters: As given.
        k: Number of updates made.

    Raises:
        TypeError: A parameter is not an array, or its dtype is not supported; ``parameters`` is a
            single array or a mapping; ``hyperparameters`` is not a ``Hyperparameters``.
        ValueError: There are no parameters, or one requires a gradient.

    Source: arXiv 2410.05871, Algorithm 1.

    Example:
        >>> import numpy as np
        >>> from innaprop_core import BEST_ACCURACY, Hyperparameters, INNAprop
        >>> optimizer = INNAprop([np.ones(3)], Hyperparameters(gamma=0.1, **BEST_ACCURACY))
        >>> for _ in range(300):
        ...     (w,) = optimizer.parameters
        ...     _ = optimizer.step([2 * w])
        >>> bool(np.all(np.abs(optimizer.parameters[0]) < 1e-3))
        True
    """

    def __init__(
        self, parameters: Iterable[Any], hyperparameters: Hyperparameters = _DEFAULTS
    ) -> None:
        check_is_hyperparameters(hyperparameters)
        self.parameters = _parameters(parameters)
        self.hyperparameters = hyperparameters
        self.k = 0
        self._m = [array_namespace(p).zeros_like(p) for p in self.parameters]
        self._v = [array_namespace(p).zeros_like(p) for p in self.parameters]

    def step(self, gradients: Sequence[Any], *, gamma: float | None = None) -> list[Any]:
        """Update all parameters once.

        Args:
            gradients: One array per parameter, of its shape and dtype.
            gamma: Step size of this update. Default: that of ``hyperparameters``.

        Returns:
            The new ``parameters``.

        Raises:
            TypeError: gamma is not a number, or a gradient is not an array of its parameter's
                namespace. The optimizer is unchanged.
            ValueError: The gradients do not match the parameters in number, shape or dtype, or
                require gradients themselves; gamma is negative, not finite, or not smaller than
                beta. The optimizer is unchanged.
        """
        values = asdict(self.hyperparameters)
        if gamma is not None:
            check_hyperparameters({"gamma": gamma, "beta": values["beta"]})
            values["gamma"] = float(gamma)
        if len(gradients) != len(self.parameters):
            raise ValueError(
                f"gradients must be {len(self.parameters)} arrays, one per parameter, "
                f"got {len(gradients)}"
            )
        for i, (g, p) in enumerate(zip(gradients, self.parameters, strict=True)):
            array_namespace(p, g)
            _check_detached(f"gradients[{i}]", g)
            if g.shape != p.shape or g.dtype != p.dtype:
                raise ValueError(
                    f"gradients[{i}] must have its parameter's shape {p.shape} and dtype "
                    f"{p.dtype}, got {g.shape} and {g.dtype}"
                )
        c = momentum.coefficients(self.k + 1, **values)
        updated = [
            momentum.step(p, m, v, g, c)
            for p, m, v, g in zip(self.parameters, self._m, self._v, gradients, strict=True)
        ]
        self.k += 1
        self.parameters = [theta for theta, _, _ in updated]
        self._m = [m for _, m, _ in updated]
        self._v = [v for _, _, v in updated]
        return self.parameters

    def set_state(self, *, k: SupportsIndex, m: Sequence[Any], v: Sequence[Any]) -> None:
        """Set the state, to continue another run.

        Args:
            k: Number of updates made, >= 0.
            m: The momentum of every parameter: finite arrays of the parameters' shapes, of their
                namespace or NumPy's. They are copied and cast to the parameters' dtypes.
            v: The second moment of every parameter, likewise; not negative.

        Raises:
            TypeError: k is not an integer, or m or v holds something other than arrays. The
                optimizer is unchanged.
            ValueError: k is negative; the arrays do not match the parameters in number or
                shape, or are not finite in their dtype; an element of v is negative. The
                optimizer is unchanged.
        """
        if isinstance(k, bool) or not isinstance(k, Integral):
            raise TypeError(f"k must be an integer >= 0, got {k!r}")
        if k < 0:
            raise ValueError(f"k must be an integer >= 0, got {k}")
        new_m, new_v = self._like_parameters("m", m), self._like_parameters("v", v)
        for i, array in enumerate(new_v):
            xp = array_namespace(array)
            if bool(xp.any(array < 0)):
                raise ValueError(f"v[{i}] must not be negative, got {float(xp.min(array))}")
        self.k, self._m, self._v = int(k), new_m, new_v

    def _like_parameters(self, name: str, arrays: Sequence[Any]) -> list[Any]:
        """Return copies of arrays, each with its parameter's dtype and device."""
        arrays = list(arrays)
        for i, array in enumerate(arrays):
            if not hasattr(array, "shape"):
                raise TypeError(f"{name}[{i}] must be an array, got a {type(array).__name__}")
        expected = [tuple(p.shape) for p in self.parameters]
        shapes = [tuple(a.shape) for a in arrays]
        if shapes != expected:
            raise ValueError(f"{name} must be arrays of the shapes {expected}, got {shapes}")
        copies = []
        for i, (array, p) in enumerate(zip(arrays, self.parameters, strict=True)):
            _check_detached(f"{name}[{i}]", array)
            xp = array_namespace(p)
            with np.errstate(over="ignore"):  # The check below has a better message.
                copy = xp.asarray(array, dtype=p.dtype, device=device(p), copy=True)
            if not bool(xp.all(xp.isfinite(copy))):
                raise ValueError(f"{name}[{i}] must be finite in {p.dtype}, got {array}")
            copies.append(copy)
        return copies

    @property
    def m(self) -> list[Any]:
        """The momentum of every parameter."""
        return list(self._m)

    @property
    def v(self) -> list[Any]:
        """The second moment of every parameter."""
        return list(self._v)

    @property
    def psi(self) -> list[Any]:
        """The paper's psi of every parameter, computed from momentum and parameter."""
        h = self.hyperparameters
        return [
            momentum.psi_from_momentum(p, m, alpha=h.alpha, beta=h.beta)
            for p, m in zip(self.parameters, self._m, strict=True)
        ]


def _parameters(given: Iterable[Any]) -> list[Any]:
    """Return parameters as a list, after checking that each can be updated."""
    if isinstance(given, Mapping) or hasattr(given, "shape"):
        raise TypeError(
            f"parameters must be a list of arrays, got one {type(given).__name__}: give "
            "[array], or list(mapping.values())"
        )
    parameters = list(given)
    if not parameters:
        raise ValueError("parameters must hold at least one array, got none")
    for i, parameter in enumerate(parameters):
        try:
            array_namespace(parameter)
        except TypeError as error:
            raise TypeError(
                f"parameters[{i}] must be an array, got a {type(parameter).__name__}: {error}"
            ) from error
        if not _is_wide_float(parameter):
            raise TypeError(
                f"parameters[{i}] must be of a real floating dtype of at least 32 bits, in which "
                f"the state is kept, got {parameter.dtype}"
            )
        _check_detached(f"parameters[{i}]", parameter)
    return parameters


def _is_wide_float(array: Any) -> bool:
    """Return whether an array's dtype is real, floating, and of at least 32 bits."""
    xp = array_namespace(array)
    try:
        return bool(xp.isdtype(array.dtype, "real floating")) and xp.finfo(array.dtype).bits >= 32
    except (TypeError, ValueError):  # A dtype registered with NumPy, such as ml_dtypes.bfloat16.
        return False


def _check_detached(name: str, array: Any) -> None:
    """Raise ValueError for a PyTorch tensor that requires a gradient.

    Autograd would record every update, in a graph that grows without end.
    """
    if getattr(array, "requires_grad", False):
        raise ValueError(
            f"{name} must not require a gradient, got a tensor with requires_grad=True: give "
            "tensor.detach(), or use innaprop.torch"
        )
