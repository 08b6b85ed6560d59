"""The hyperparameters of INNAprop: names, defaults, presets and validation."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from numbers import Real
from types import MappingProxyType
from typing import Any, TypedDict, cast

_NO_NAMES: Mapping[str, str] = MappingProxyType({})

_ALLOWED: Mapping[str, tuple[str, Callable[[float], bool]]] = MappingProxyType(
    {
        "gamma": ("a finite number >= 0", lambda x: 0 <= x < math.inf),
        "alpha": ("a finite number >= 0", lambda x: 0 <= x < math.inf),
        "beta": ("a finite number > 0", lambda x: 0 < x < math.inf),
        "sigma": ("a number in [0, 1)", lambda x: 0 <= x < 1),
        "eps": ("a finite number >= 0", lambda x: 0 <= x < math.inf),
        "weight_decay": ("a finite number >= 0", lambda x: 0 <= x < math.inf),
    }
)


def check_hyperparameters(values: Mapping[str, Any], names: Mapping[str, str] = _NO_NAMES) -> None:
    """Raise an error if Algorithm 1 is not defined for these hyperparameters.

    Args:
        values: Values by their names in ``Hyperparameters``; any subset. Leave ``gamma`` out
            if the step size is not known as a number (a schedule, a tensor).
        names: Names to use in messages, where they differ: ``{"gamma": "lr"}``.

    Raises:
        TypeError: A value is not a real number, decay_momentum is not a bool, or a name is
            unknown.
        ValueError: A value is not finite or outside its range (alpha >= 0, beta > 0,
            sigma in [0, 1), eps >= 0, weight_decay >= 0, gamma >= 0), or gamma >= beta.

    Source: arXiv 2410.05871, Algorithm 1; its last line divides by beta - gamma.
    """
    for key, value in values.items():
        name = names.get(key, key)
        if key == "decay_momentum":
            if not isinstance(value, bool):
                raise TypeError(f"{name} must be True or False, got {value!r}")
            continue
        if key not in _ALLOWED:
            known = ", ".join([*_ALLOWED, "decay_momentum"])
            raise TypeError(f"{key!r} is not a hyperparameter; the hyperparameters are {known}")
        allowed, holds = _ALLOWED[key]
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError(
                f"{name} must be {allowed}, got {value!r} of type {type(value).__name__}"
            )
        if not holds(_as_float(value)):
            raise ValueError(f"{name} must be {allowed}, got {value!r}")
    if "gamma" in values and "beta" in values and values["gamma"] >= values["beta"]:
        gamma, beta = names.get("gamma", "gamma"), names.get("beta", "beta")
        raise ValueError(
            f"{gamma} must be smaller than {beta}, "
            f"got {gamma}={values['gamma']!r} with {beta}={values['beta']!r}"
        )


def check_is_hyperparameters(value: Any) -> None:
    """Raise an error if a value is not a ``Hyperparameters``.

    Raises:
        TypeError: The value is of another type, such as a number or a dict.
    """
    if not isinstance(value, Hyperparameters):
        raise TypeError(
            f"hyperparameters must be an innaprop_core.Hyperparameters, got {value!r} of type "
            f"{type(value).__name__}: give Hyperparameters(gamma=1e-3), for example"
        )


def _as_float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:  # An integer larger than the largest float.
        return math.inf if value > 0 else -math.inf


@dataclass(frozen=True)
class Hyperparameters:
    """The hyperparameters of Algorithm 1, with the paper's names and defaults.

    ``weight_decay`` is the paper's lambda, a reserved word in Python.

    Args:
        gamma: Step size, 0 <= gamma < beta. Default 1e-3.
        alpha: Viscous damping, >= 0. Default 0.1.
        beta: Newtonian (Hessian-driven) damping, > 0. Default 0.9.
        sigma: Memory of the second moment (AdamW's beta2), in [0, 1). Default 0.999.
        eps: Added to the root of the second moment, >= 0. Default 1e-8.
        weight_decay: Decay rate per unit of gamma, >= 0. Default 0.01.
        decay_momentum: Whether weight decay changes the momentum, as in Algorithm 1. If False, it
            only multiplies the parameter by 1 - gamma lambda, as in AdamW. Default True.

    Raises:
        TypeError: A value is not a real number, or decay_momentum is not a bool.
        ValueError: A value is outside its range, or gamma >= beta.

    Source: arXiv 2410.05871, Algorithm 1 and section 3.
    """

    gamma: float = 1e-3
    alpha: float = 0.1
    beta: float = 0.9
    sigma: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.01
    decay_momentum: bool = True

    def __post_init__(self) -> None:
        check_hyperparameters(asdict(self))
        # Python floats take on the dtype of the arrays they are combined with; NumPy scalars
        # promote the arrays to their own.
        for name in _ALLOWED:
            object.__setattr__(self, name, float(getattr(self, name)))


class Dampings(TypedDict):
    """alpha and beta, the type of a preset: its values can be unpacked as keyword arguments."""

    alpha: float
    beta: float


FAST_TRAINING = cast(Dampings, MappingProxyType({"alpha": 0.1, "beta": 0.9}))
"""(alpha, beta) for fast training; unpack it: ``INNAprop(params, **FAST_TRAINING)``."""

BEST_ACCURACY = cast(Dampings, MappingProxyType({"alpha": 2.0, "beta": 2.0}))
"""(alpha, beta) for final accuracy; unpack it: ``INNAprop(params, **BEST_ACCURACY)``."""
