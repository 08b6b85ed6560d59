"""What a step of a PyTorch optimizer reads, writes and allocates, as the dispatcher sees it."""

import weakref

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Traffic(TorchDispatchMode):
    """Counts the bytes that operations move, and the most that are allocated at once.

    An operation moves every tensor that it takes or makes once, and twice one that it changes.
    What changes memory without the dispatcher's knowledge is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.moved = self.peak = self._allocated = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        schema = function._schema
        named = zip(schema.arguments, args, strict=False)
        given = [*named, *((a, kwargs[a.name]) for a in schema.arguments if a.name in kwargs)]
        for argument, value in given:
            alias = argument.alias_info
            if alias is not None and not alias.is_write:
                return result  # A view: nothing moves.
            self.moved += _bytes(value) * (2 if alias is not None else 1)
        if all(r.alias_info is None for r in schema.returns):
            self.moved += _bytes(result)
            for tensor in _tensors(result):
                self._allocated += _bytes(tensor)
                weakref.finalize(tensor, self._free, _bytes(tensor))
            self.peak = max(self.peak, self._allocated)
        return result

    def _free(self, size: int) -> None:
        self._allocated -= size


def _tensors(tree) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _bytes(tree) -> int:
    return sum(t.numel() * t.element_size() for t in _tensors(tree))


def held(optimizer: torch.optim.Optimizer) -> int:
    """Return the bytes of an optimizer's state, without what is a single number."""
    return sum(
        _bytes(value)
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, Tensor) and value.dim() > 0
    )
