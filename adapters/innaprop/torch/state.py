"""State dicts: what may be loaded, and how it becomes the optimizer's own."""

from typing import Any

import torch
from torch import Tensor

from innaprop.torch.options import SCHEDULABLE, check_options

_TENSORS = ("momentum_buffer", "exp_avg_sq")
_AUTHORS = ("exp_avg_sq", "psi")


def prepare_state_dict(
    optimizer: torch.optim.Optimizer, state_dict: dict[str, Any]
) -> dict[str, Any]:
    """Return a state dict of this class's form, fit for the optimizer; the given one is kept.

    Raises:
        ValueError: The dict is not of this optimizer, or damaged.
    """
    if not isinstance(state_dict, dict) or not {"state", "param_groups"} <= state_dict.keys():
        raise ValueError("state_dict must have the entries 'state' and 'param_groups'")
    groups, saved_groups = optimizer.param_groups, state_dict["param_groups"]
    if [len(g["params"]) for g in groups] != [len(g["params"]) for g in saved_groups]:
        raise ValueError(
            "state_dict must have parameter groups of the sizes "
            f"{[len(g['params']) for g in groups]}, "
            f"got {[len(g['params']) for g in saved_groups]}"
        )
    state = dict(state_dict["state"])
    prepared = []
    for group, saved in zip(groups, saved_groups, strict=True):
        own = {key: value for key, value in group.items() if key != "params"}
        # None stands for a schedule, which the group has to bring itself.
        merged = {**own, **{key: value for key, value in saved.items() if key not in SCHEDULABLE}}
        merged |= {key: saved[key] for key in SCHEDULABLE if saved.get(key) is not None}
        check_options(merged)
        prepared.append(merged)
        for p, i in zip(group["params"], saved["params"], strict=True):
            if state.get(i):
                state[i] = _checked_state(state[i], p, i)
    return {**state_dict, "state": state, "param_groups": prepared}


def _checked_state(saved: dict[str, Any], p: Tensor, i: Any) -> dict[str, Any]:
    names = _AUTHORS if "psi" in saved else _TENSORS
    missing = [name for name in ("step", *names) if name not in saved]
    if missing:
        raise ValueError(
            f"the state of parameter {i} must have step, momentum_buffer and exp_avg_sq, or "
            f"step, exp_avg_sq and psi; {', '.join(missing)} missing, got {', '.join(saved)}: "
            "is this the state dict of another optimizer?"
        )
    for name, value in saved.items():
        if name != "step" and (not isinstance(value, Tensor) or value.shape != p.shape):
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(
                f"{name} of parameter {i} must be a tensor of shape {tuple(p.shape)}, got {shape}"
            )
    step = saved["step"]
    if not isinstance(step, Tensor):
        step = torch.tensor(float(step), dtype=torch.float32)
    return {**saved, "step": step}


def take_over_state(optimizer: torch.optim.Optimizer, prepared: dict[str, Any]) -> None:
    """Give every parameter tensors of its own, of the right dtype and on the right device.

    The base class casts state to the parameter's dtype, which 16-bit parameters' state must
    not be, and keeps the caller's tensors where nothing has to be cast.
    """
    for group, saved in zip(optimizer.param_groups, prepared["param_groups"], strict=True):
        for p, i in zip(group["params"], saved["params"], strict=True):
            if not prepared["state"].get(i):
                continue
            state = {}
            for name, value in prepared["state"][i].items():
                if name == "step":
                    device = p.device if group["capturable"] else "cpu"
                    state[name] = value.detach().to(device, torch.float32, copy=True)
                elif name == "residual":
                    if group["residual"]:
                        state[name] = value.detach().to(p.device, torch.int16, copy=True)
                else:
                    dtype = torch.promote_types(p.dtype, torch.float32)
                    state[name] = value.detach().to(p.device, dtype, copy=True)
            optimizer.state[p] = state
