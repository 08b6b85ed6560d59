"""Tensors as the forms take them: plain, real, and local to this process."""

from typing import Any

import torch
from torch import Tensor

from innaprop.forms import c

PLAIN = {*c.PLAIN}


def local(tensor: Any) -> Any:
    """Return the local shard of a DTensor, and any other tensor unchanged."""
    # A tuple, since PyTorch before 2.9 cannot trace membership in a set.
    if type(tensor) in c.PLAIN:
        return tensor
    if hasattr(tensor, "to_local"):
        tensor = tensor.to_local()
    # An asynchronous collective returns a tensor to wait for.
    return tensor.wait() if hasattr(tensor, "wait") else tensor


def plain(tensor: Any) -> Any:
    """Return the local shard of a tensor; of a complex one its view as reals."""
    tensor = local(tensor)
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def is_fake(tensor: Any) -> bool:
    """Return whether a tensor is from ``FakeTensorMode``, and so has no data."""
    return hasattr(local(tensor), "fake_mode")


def gradient_of(parameter: Tensor) -> Any:
    """Return a parameter's gradient like ``plain``, with the parameter's placements."""
    gradient: Any = parameter.grad
    placements = getattr(parameter, "placements", None)
    if placements is not None and gradient.placements != placements:
        # A replicated parameter may have a partial gradient, which is summed here.
        gradient = gradient.redistribute(gradient.device_mesh, placements)
    gradient = local(gradient)
    return torch.view_as_real(gradient.resolve_conj()) if gradient.is_complex() else gradient
