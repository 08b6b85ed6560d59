"""State dicts: checks, and conversion to the optimizer's state."""

from collections import defaultdict
from copy import deepcopy
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from innaprop.forms import Row
from innaprop.forms.foreach import SIXTEEN_BITS, WORDS, join, repack, unpacked
from innaprop.torch.options import SCHEDULABLE, check_options
from innaprop.torch.plain import local

MANTISSA = {torch.bfloat16: 7, torch.float16: 10}
"""Bits of the mantissa; in a state dict they tell the dtype that a residual is for."""
PACKED = "packed_state"
"""The state's entry for packed momentum and second moment, as in ``innaprop_core.packed``."""
_TENSORS = ("momentum_buffer", "exp_avg_sq")
_OWN = (*_TENSORS, "psi", PACKED, "residual")
_AUTHORS = ("exp_avg_sq", "psi")
_DISTINCTIVE = {"alpha", "beta", "sigma"}
"""Options that other PyTorch optimizers do not have."""


def read_state_dict(optimizer: torch.optim.Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
    """Convert a state dict to the state and groups that ``__setstate__`` takes.

    All tensors are copied: the base class would share the caller's tensors if it need not cast
    them, and would cast the state of 16-bit parameters to 16 bits.

    Raises:
        TypeError, ValueError: The dict does not fit this optimizer, or is damaged.
    """
    if not isinstance(state_dict, dict) or not {"state", "param_groups"} <= state_dict.keys():
        raise ValueError("state_dict must have the entries 'state' and 'param_groups'")
    groups, saved_groups = optimizer.param_groups, state_dict["param_groups"]
    if not isinstance(state_dict["state"], dict):
        raise ValueError(f"state must be a dict, got {state_dict['state']!r}")
    if not isinstance(saved_groups, list) or not all(
        isinstance(group, dict) and isinstance(group.get("params"), list) for group in saved_groups
    ):
        raise ValueError(
            f"param_groups must be a list of dicts with the entry 'params', got {saved_groups!r}"
        )
    if [len(g["params"]) for g in groups] != [len(g["params"]) for g in saved_groups]:
        raise ValueError(
            "state_dict must have parameter groups of the sizes "
            f"{[len(g['params']) for g in groups]}, "
            f"got {[len(g['params']) for g in saved_groups]}"
        )
    for group in saved_groups:
        if not group.keys() & _DISTINCTIVE:
            raise ValueError(
                f"a parameter group must have one of {', '.join(sorted(_DISTINCTIVE))}, got only "
                f"{', '.join(group)}: is this the state dict of another optimizer?"
            )
    saved_state = state_dict["state"]
    of_params = {i for group in saved_groups for i in group["params"]}
    state: dict[Any, Any] = defaultdict(dict)
    # Entries that belong to no parameter are kept.
    state.update({key: value for key, value in saved_state.items() if key not in of_params})
    read = []
    for group, saved in zip(groups, saved_groups, strict=True):
        # None stands for a schedule, for which the group keeps its own value.
        keeps = {key for key in SCHEDULABLE if saved.get(key) is None} | {"params", "state_bits"}
        merged = {**group, **deepcopy({k: v for k, v in saved.items() if k not in keeps})}
        check_options(merged)
        read.append(merged)
        for p, i in zip(group["params"], saved["params"], strict=True):
            if saved_state.get(i):
                check_state_bits(p, merged)
                state[p] = _read_state(saved_state[i], p, i, merged)
                store_state(p, state[p], merged)
    return {"state": state, "param_groups": read}


def _read_state(saved: Any, p: Tensor, i: Any, group: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(saved, dict):
        raise ValueError(f"the state of parameter {i} must be a dict, got {saved!r}")
    added = {
        name: _as_base_class(value, p)
        for name, value in saved.items()
        if name not in ("step", *_OWN, "residual_mantissa")
    }
    if len(added) == len(saved):
        return added
    names = (PACKED,) if PACKED in saved else _AUTHORS if "psi" in saved else _TENSORS
    missing = [name for name in ("step", *names) if name not in saved]
    if missing:
        raise ValueError(
            f"the state of parameter {i} must have step, momentum_buffer and exp_avg_sq, or "
            f"step, exp_avg_sq and psi, or step and {PACKED}; {', '.join(missing)} missing, got "
            f"{', '.join(saved)}: "
            "is this the state dict of another optimizer?"
        )
    device = p.device if group["capturable"] else torch.device("cpu")
    state: dict[str, Any] = {
        "step": torch.tensor(_count(saved["step"], i), dtype=count_dtype(device), device=device)
    }
    for name in _OWN:
        if name not in saved:
            continue
        value = saved[name]
        if not isinstance(value, Tensor) or value.shape != p.shape:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(
                f"{name} of parameter {i} must be a tensor of shape {tuple(p.shape)}, got {shape}"
            )
        dtypes = {"residual": torch.int16, PACKED: WORDS}
        dtype = dtypes.get(name, torch.promote_types(p.dtype, torch.float32))
        if name == PACKED and value.dtype != WORDS:
            raise ValueError(f"{PACKED} of parameter {i} must be int32, got {value.dtype}")
        if value.is_complex() and not p.is_complex():
            raise ValueError(f"{name} of parameter {i} must be real, got {value.dtype}")
        if name == "exp_avg_sq" and bool((_as_real(value) < 0).any()):
            raise ValueError(f"exp_avg_sq of parameter {i} must not be negative, got one that is")
        # With the parameter's strides, as the kernels require.
        state[name] = torch.empty_like(p, dtype=dtype).copy_(value.detach())
    if "residual" in saved:
        # Older dicts lack it; they are assumed to have the model's dtype.
        mantissa = saved.get("residual_mantissa", MANTISSA.get(p.dtype))
        if mantissa not in (None, *MANTISSA.values()):
            raise ValueError(
                f"residual_mantissa of parameter {i} must be 7 (bfloat16) or 10 (float16), got "
                f"{mantissa!r}"
            )
        if mantissa is not None:
            state["residual_mantissa"] = int(mantissa)
    return {**state, **added}


def check_state_bits(p: Tensor, group: dict[str, Any]) -> None:
    """Raise if a group has ``state_bits=16`` and the parameter does not allow it.

    Raises:
        TypeError: It is float64 or complex.
    """
    if group["state_bits"] == 16 and (p.is_complex() or p.dtype == torch.float64):
        raise TypeError(
            "state_bits=16 needs parameters of float32, bfloat16 or float16, got one of "
            f"{p.dtype}; give it a group with state_bits=32"
        )


def moments_of(p: Tensor, state: dict[str, Any]) -> tuple[Any, Any]:
    """Return a parameter's momentum and second moment; None for missing ones."""
    if PACKED not in state:
        return tuple(map(state.get, _TENSORS))  # type: ignore[return-value]
    words = local(state[PACKED])
    found = []
    for values in unpacked(Row(None, None, words, words)):
        # On local parts: shifts of a DTensor's bits go wrong.
        whole = torch.empty_like(state[PACKED], dtype=torch.float32)
        local(whole).copy_(values)
        found.append(whole)
    return found[0], found[1]


@torch.no_grad()
def store_state(p: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    """Convert a state in place to its group's ``state_bits``; unless it still has psi."""
    if group["state_bits"] == 16 and all(name in state for name in _TENSORS):
        words = torch.zeros_like(p, dtype=WORDS)
        m, v = (local(state[name]).float() for name in _TENSORS)
        row = Row(None, None, local(words), local(words))
        repack(row, m, v, state["step"].item())
        state[PACKED] = words
        for name in _TENSORS:
            del state[name]
    elif group["state_bits"] == 32 and PACKED in state:
        m, v = moments_of(p, state)
        state.update(zip(_TENSORS, (m.to(_compute_dtype(p)), v.to(_compute_dtype(p))), strict=True))
        del state[PACKED]


def _compute_dtype(p: Tensor) -> torch.dtype:
    """Return the dtype in which a parameter is updated."""
    return torch.promote_types(p.dtype, torch.float32)


def residual_of(p: Tensor, state: dict[str, Any]) -> Any:
    """Return a parameter's residual; None if there is none for its dtype."""
    if p.dtype not in MANTISSA or state.get("residual_mantissa") not in (None, MANTISSA[p.dtype]):
        return None
    return state.get("residual")


def master_weights_of(p: Tensor, state: dict[str, Any]) -> Tensor:
    """Return a parameter in its compute dtype, combined with its residual if it has one."""
    residual = residual_of(p, state)
    if residual is not None:
        # On local parts: shifts of a DTensor's bits go wrong.
        master = torch.empty_like(p, dtype=torch.float32)
        local(master).copy_(join(local(p), local(residual)))
        return master
    return p.float() if p.dtype in SIXTEEN_BITS else p


def as_saved(optimizer: torch.optim.Optimizer, state_dict: dict[str, Any]) -> None:
    """Convert the base class's state dict in place, so that it can be pickled and communicated."""
    for i, state in state_dict["state"].items():
        if (
            isinstance(state, dict)
            and "residual" in state
            and type(state["residual"]) is not Tensor
        ):
            state_dict["state"][i] = {**state, "residual": state["residual"].int()}
    for group in state_dict["param_groups"]:
        for key in SCHEDULABLE:
            if callable(group.get(key)):
                group[key] = None


def _as_base_class(value: Any, p: Tensor) -> Any:
    """Return a copy of another entry, cast as ``Optimizer.load_state_dict`` would cast it."""
    if isinstance(value, Tensor):
        return value.detach().to(p.device, p.dtype if p.is_floating_point() else None, copy=True)
    if type(value) is dict:
        return {key: _as_base_class(inner, p) for key, inner in value.items()}
    if type(value) in (list, tuple, set):
        return type(value)(_as_base_class(inner, p) for inner in value)
    return deepcopy(value)


def _count(step: Any, i: Any) -> float:
    """Return a step count as a number."""
    if not isinstance(step, Tensor | Real) or (isinstance(step, Tensor) and step.numel() != 1):
        raise ValueError(f"step of parameter {i} must be a number, got {step!r}")
    count = float(step)
    if not (count >= 0 and count.is_integer()):
        raise ValueError(f"step of parameter {i} must be a whole number >= 0, got {count}")
    return count


def _as_real(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def count_dtype(device: torch.device) -> torch.dtype:
    """Return the dtype of step counts: float64, or float32 on devices without float64."""
    return torch.float32 if device.type == "mps" else torch.float64
