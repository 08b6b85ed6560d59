"""The options of a parameter group: defaults and checks."""

from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from innaprop_core import check_hyperparameters, packed

NAMES = {"gamma": "lr"}
SCALARS = ("alpha", "beta", "sigma", "eps", "weight_decay")
SCHEDULABLE = ("alpha", "beta")

# Options that an older state dict may lack, with their defaults.
FLAGS: Mapping[str, bool | None] = {
    "maximize": False,
    "foreach": None,
    "capturable": False,
    "fused": None,
    "residual": True,
    "decay_momentum": True,
}

STORAGE: Mapping[str, int] = {"state_bits": 32, "seed": 0}
"""Integer options of the storage of state, with their defaults."""


def check_options(options: Mapping[str, Any]) -> None:
    """Raise if a parameter group's options are invalid.

    ``check_step_size`` checks lr < beta at the step, since a scheduler may still change lr.

    Raises:
        TypeError: An option is of the wrong type.
        ValueError: An option is outside its range, or two options exclude each other.
    """
    lr = options["lr"]
    if isinstance(lr, Tensor) and lr.numel() != 1:
        raise ValueError(f"lr must be a float or a tensor of one element, got {lr!r}")
    check_hyperparameters({"gamma": _readable(lr)}, NAMES)
    values = {key: options[key] for key in SCALARS if not _is_schedule(key, options[key])}
    check_hyperparameters(values, NAMES)
    for key, default in FLAGS.items():
        allowed = "True, False or None" if default is None else "True or False"
        value = options[key]
        if not (isinstance(value, bool) or (default is None and value is None)):
            raise TypeError(f"{key} must be {allowed}, got {value!r}")
    packed.check_storage(**{key: options[key] for key in STORAGE})
    if options["fused"] and options["foreach"]:
        raise ValueError("fused and foreach cannot both be True")


def check_step_size(lr: Any, beta: Any) -> None:
    """Raise if lr is not smaller than beta.

    Args:
        lr: A number, or a tensor of one element.
        beta: A number; anything else is not checked.

    Raises:
        ValueError: lr >= beta.
    """
    if isinstance(beta, Real):
        check_hyperparameters({"gamma": _readable(lr), "beta": beta}, NAMES)


def _readable(lr: Any) -> Any:
    """Return lr as a number; 0 if reading it from its device would synchronise."""
    if not isinstance(lr, Tensor):
        return lr
    return lr.item() if lr.device.type == "cpu" else 0.0


def uses_kernel(options: Mapping[str, Any]) -> bool:
    """Return whether a group uses a kernel if available, explicitly or by default."""
    if options["fused"] is None:
        return options["foreach"] is None
    return bool(options["fused"])


def _is_schedule(key: str, value: Any) -> bool:
    return key in SCHEDULABLE and callable(value)


def plain_numbers(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with NumPy scalars as floats, which ``torch.load`` can always read."""
    return {
        key: float(value)
        if key in ("lr", *SCALARS) and isinstance(value, Real) and not isinstance(value, int)
        else value
        for key, value in options.items()
    }


def has_schedules(options: Mapping[str, Any]) -> bool:
    """Return whether alpha or beta depends on the number of updates."""
    return any(callable(options[key]) for key in SCHEDULABLE)


def numbers_at(options: Mapping[str, Any], updates: Any) -> dict[str, Any]:
    """Return alpha and beta as numbers, for the update after ``updates`` previous ones.

    Raises:
        TypeError, ValueError: A schedule returned a number outside its range.
    """
    values = {
        key: _at(options[key], updates) if callable(options[key]) else float(options[key])
        for key in SCHEDULABLE
    }
    if has_schedules(options) and not torch.compiler.is_compiling():
        concrete = {key: v for key, v in values.items() if not isinstance(v, Tensor)}
        check_hyperparameters(concrete, NAMES)
    return values


def _at(schedule: Callable[[Any], Any], updates: Any) -> Any:
    """Call a schedule with a count, or with each count of a vector."""
    if not isinstance(updates, Tensor) or updates.dim() == 0:
        return schedule(updates)
    values = [schedule(count) for count in updates.unbind()]
    return torch.stack(
        [torch.as_tensor(v, dtype=updates.dtype, device=updates.device) for v in values]
    )
