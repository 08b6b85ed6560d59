"""Tensors as the implementations take them: plain, real, and of this process."""

from typing import Any

import torch
from torch import Tensor

from innaprop.forms import c

PLAIN = {*c.PLAIN}


def local(tensor: Any) -> Any:
    """Return the part of a DTensor that this process holds, and any other tensor itself."""
    # The tuple: PyTorch before 2.9 does not trace the question to a set.
    if type(tensor) in c.PLAIN:
        return tensor
    if hasattr(tensor, "to_local"):
        tensor = tensor.to_local()
    # What a collective operation returns before it has ended.
    return tensor.wait() if hasattr(tensor, "wait") else tensor


def plain(tensor: Any) -> Any:
    """Return what this process holds of a tensor; of complex numbers a view as reals."""
    tensor = local(tensor)
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def is_fake(tensor: Any) -> bool:
    """Return whether a tensor is one of ``FakeTensorMode``, which has no data to read."""
    return hasattr(local(tensor), "fake_mode")


def gradient_of(parameter: Tensor) -> Any:
    """Return a parameter's gradient as ``plain`` does, placed as the parameter is."""
    gradient: Any = parameter.grad
    placements = getattr(parameter, "placements", None)
    if placements is not None and gradient.placements != placements:
        # A replicated parameter may have a gradient that is still to be summed.
        gradient = gradient.redistribute(gradient.device_mesh, placements)
    gradient = local(gradient)
    return torch.view_as_real(gradient.resolve_conj()) if gradient.is_complex() else gradient
