"""A stateful INNAprop for plain array loops: the reference optimizer."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from array_api_compat import array_namespace, device

from innaprop_core import momentum
from innaprop_core.hyperparameters import Hyperparameters, check_hyperparameters

_DEFAULTS = Hyperparameters()


class INNAprop:
    """INNAprop over a list of arrays of any array-API namespace.

    Arrays are replaced, never written into: what was handed in stays as it is.

    Args:
        parameters: Arrays of any shape, real floating dtype.
        hyperparameters: Default ``Hyperparameters()``.

    Attributes:
        parameters: The current arrays, in the order given.
        hyperparameters: As given.
        k: Number of updates made.

    Raises:
        TypeError: A parameter is not an array, or not of a real floating dtype.

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
        self, parameters: Sequence[Any], hyperparameters: Hyperparameters = _DEFAULTS
    ) -> None:
        for i, parameter in enumerate(parameters):
            xp = array_namespace(parameter)
            if not xp.isdtype(parameter.dtype, "real floating"):
                raise TypeError(
                    f"parameters[{i}] must be of a real floating dtype, got {parameter.dtype}"
                )
        self.parameters = list(parameters)
        self.hyperparameters = hyperparameters
        self.k = 0
        self._m = [array_namespace(p).zeros_like(p) for p in parameters]
        self._v = [array_namespace(p).zeros_like(p) for p in parameters]

    def step(self, gradients: Sequence[Any], *, gamma: float | None = None) -> list[Any]:
        """Make one update of all parameters.

        Args:
            gradients: One array per parameter, of its shape and dtype.
            gamma: Step size of this update. Default: that of ``hyperparameters``.

        Returns:
            The new ``parameters``.

        Raises:
            TypeError: gamma is not a number, or a gradient is not an array of its parameter's
                namespace. Nothing has changed then.
            ValueError: The gradients do not match the parameters in number, shape or dtype;
                gamma is negative, not finite, or not smaller than beta. Nothing has
                changed then.
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

    def set_state(self, *, k: int, m: Sequence[Any], v: Sequence[Any]) -> None:
        """Go on from the state of another run.

        Args:
            k: Number of updates made, >= 0.
            m: The momentum of every parameter: arrays of the parameters' shapes, of their
                namespace or NumPy's. They are copied and cast to the parameters' dtypes.
            v: Likewise the second moment.

        Raises:
            TypeError: k is not an integer.
            ValueError: k is negative, or the arrays do not match the parameters in number or
                shape. Nothing has changed then.
        """
        if isinstance(k, bool) or not isinstance(k, int):
            raise TypeError(f"k must be an integer >= 0, got {k!r}")
        if k < 0:
            raise ValueError(f"k must be an integer >= 0, got {k}")
        for name, arrays in (("m", m), ("v", v)):
            shapes = [tuple(a.shape) for a in arrays]
            if shapes != [tuple(p.shape) for p in self.parameters]:
                raise ValueError(
                    f"{name} must be arrays of the shapes "
                    f"{[tuple(p.shape) for p in self.parameters]}, got {shapes}"
                )
        new_m, new_v = (
            [
                array_namespace(p).asarray(a, dtype=p.dtype, device=device(p), copy=True)
                for a, p in zip(arrays, self.parameters, strict=True)
            ]
            for arrays in (m, v)
        )
        self.k, self._m, self._v = k, new_m, new_v

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
        """The paper's psi of every parameter, from momentum and parameter."""
        h = self.hyperparameters
        return [
            momentum.psi_from_momentum(p, m, alpha=h.alpha, beta=h.beta)
            for p, m in zip(self.parameters, self._m, strict=True)
        ]
