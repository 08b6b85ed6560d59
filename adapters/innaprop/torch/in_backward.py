"""Updates in the backward pass: each parameter as soon as its gradient is complete."""

import weakref
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from innaprop.torch.optimizer import INNAprop
from innaprop.torch.plan import Plan

_AVERAGE_LATER = {
    "DistributedDataParallel": "averages gradients over the processes only after these updates, "
    "and keeps all of them until then; use torch.distributed.fsdp.fully_shard",
    "FullyShardedDataParallel": "keeps gradients of flattened parameters; use "
    "torch.distributed.fsdp.fully_shard",
}


class _GradientHooks:
    """The state of the gradient hooks of a model's parameters."""

    def __init__(self, optimizer: INNAprop) -> None:
        self._optimizer = optimizer
        self.places = {
            p: i for i, group in enumerate(optimizer.param_groups) for p in group["params"]
        }
        """The index of each parameter's group."""
        self._plans: dict[Tensor, Plan | None] = {}

    @torch.no_grad()
    def update(self, p: Tensor) -> None:
        """Update a parameter, and free its gradient."""
        optimizer = self._optimizer
        # One plan per parameter: the optimizer's single plan would be rebuilt for each of them.
        own, optimizer._plan = optimizer._plan, self._plans.get(p)
        active: list[list[Tensor]] = [[] for _ in optimizer.param_groups]
        active[self.places[p]].append(p)
        try:
            optimizer._update_params(active)
            self._plans[p] = optimizer._plan
        finally:
            optimizer._plan = own
        p.grad = None


# A parameter's hook must not hold a reference to the parameter: autograd stores hooks where the
# garbage collector cannot see them, so the model would never be freed. Hooks therefore hold a weak
# reference to their _GradientHooks, which the optimizer and the model keep alive.
_OF_MODELS: "weakref.WeakKeyDictionary[torch.nn.Module, list[_GradientHooks]]"
_OF_MODELS = weakref.WeakKeyDictionary()


class StepInBackward(AbstractContextManager["StepInBackward"]):
    """The handle of ``step_in_backward``: ``remove()``, or the end of a ``with``, undoes it."""

    def __init__(
        self, handles: list[Any], hooks: _GradientHooks, kept: list[list[_GradientHooks]]
    ) -> None:
        self._handles, self._hooks, self._kept = handles, hooks, kept

    def remove(self) -> None:
        """Remove the hooks, so that ``optimizer.step()`` makes the updates again."""
        for handle in self._handles:
            handle.remove()
        for keeper in self._kept:
            if self._hooks in keeper:
                keeper.remove(self._hooks)

    def __exit__(self, *error: object) -> None:
        self.remove()


def step_in_backward(model: torch.nn.Module, optimizer: INNAprop) -> StepInBackward:
    """Update each parameter of a model in ``backward()``, and free its gradient there.

    The gradients of a model are never all in memory at the same time. The training loop does not
    change: ``optimizer.step()`` updates parameters that are not the model's, and counts for
    schedulers. There is still a single optimizer with its state, groups and state dict, and the
    updates are those that ``step()`` would have made.

    Every ``backward()`` is an update, so gradients cannot be accumulated over several of them,
    clipped by their global norm, or scaled by ``torch.amp.GradScaler``. Errors of ``step()``, such
    as a learning rate that is not smaller than beta, are raised by ``backward()``.

    Args:
        model: A module; the optimizer holds some or all of its parameters. Any device and dtype,
            also after ``torch.distributed.fsdp.fully_shard``.
        optimizer: The optimizer, which stays in use.

    Returns:
        A handle whose ``remove()`` undoes this. It is also a context manager.

    Raises:
        TypeError: optimizer is not an INNAprop.
        ValueError: The optimizer holds no parameter of the model.
        RuntimeError: A module of the model is a DistributedDataParallel or a
            FullyShardedDataParallel, which still need a gradient after it is accumulated.

    Example:
        >>> import torch
        >>> from innaprop.torch import INNAprop, step_in_backward
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = INNAprop(model.parameters(), lr=1e-3)
        >>> handle = step_in_backward(model, optimizer)
        >>> model(torch.ones(1, 2)).sum().backward()
        >>> model.weight.grad is None
        True
        >>> optimizer.step()
    """
    if not isinstance(optimizer, INNAprop):
        raise TypeError(f"optimizer must be an innaprop.torch.INNAprop, got {optimizer!r}")
    for module in model.modules():
        for cls in type(module).__mro__:
            if cls.__name__ in _AVERAGE_LATER:
                raise RuntimeError(
                    f"model must not contain a {cls.__name__}, got {type(module).__name__}: it "
                    f"{_AVERAGE_LATER[cls.__name__]}"
                )
    hooks = _GradientHooks(optimizer)
    params = [p for p in model.parameters() if p in hooks.places and p.requires_grad]
    if not params:
        raise ValueError(
            "optimizer must hold parameters of the model, got one that holds none that are trained"
        )
    kept = [_OF_MODELS.setdefault(model, []), optimizer._in_backward]
    for keeper in kept:
        keeper.append(hooks)
    weakly = weakref.ref(hooks)

    def update(p: Tensor) -> None:
        alive = weakly()
        if alive is None:
            raise RuntimeError(
                "the optimizer and the model have been deleted: keep one of them while gradients "
                "of the parameters are computed, or remove() what step_in_backward returned"
            )
        alive.update(p)

    handles = [p.register_post_accumulate_grad_hook(update) for p in params]  # type: ignore[no-untyped-call]
    return StepInBackward(handles, hooks, kept)
