"""The update of a list of torch tensors, operation by operation: for every adapter that has such.

The lines of ``innaprop_core.momentum.step`` through ``torch._foreach``, in place.
"""

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import torch
from torch import Tensor

from innaprop_core.momentum import Coefficients

# On the CPU, lists are worked through in parts of about this many elements, so that what one
# operation writes is still in the cache when the next one reads it.
_ELEMENTS_IN_CACHE = 1 << 17

List: TypeAlias = list[Tensor] | tuple[Tensor, ...]

Row: TypeAlias = tuple[Tensor, ...]
"""What belongs to a parameter: itself, its gradient, momentum, second moment and, if it has one,
residual."""


def update(thetas: List, gs: List, ms: List, vs: List, c: Coefficients) -> None:
    """Make one update of parameters and their state, in place.

    Args:
        thetas: Parameters, of any shapes, on one device and of one dtype: float32 or float64.
        gs: Their gradients, like them.
        ms: Their momenta, likewise.
        vs: Their second moments, likewise.
        c: The scalars of this update, numbers or 0-d tensors.
    """
    # lerp takes the step from the side of the larger weight, as the core does.
    torch._foreach_lerp_(vs, torch._foreach_mul(gs, gs), c.averaging)
    # sqrt(v / correction) + eps, both sides times the root of the correction.
    root = c.bias_correction**0.5
    denominators = torch._foreach_sqrt(vs)
    _add_(denominators, c.eps * root)
    us = torch._foreach_div(gs, denominators)
    if not (isinstance(c.decay_drive, float) and c.decay_drive == 0):
        _add_scaled_(ms, thetas, c.decay_drive)
    # Collected first, so that theta is rounded once.
    moves = torch._foreach_mul(ms, c.gamma)
    _add_scaled_(moves, us, c.impulse * root)
    if not (isinstance(c.decay, float) and c.decay == 0):
        _add_scaled_(moves, thetas, c.decay)
    torch._foreach_sub_(thetas, moves)
    _add_scaled_(ms, ms, -c.friction)
    _add_scaled_(ms, us, c.drive * root)


def parts(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Split lists of tensors, and long tensors, into parts that fit the cache."""
    part: list[Row] = []
    size = 0
    for row in rows:
        n = row[0].numel()
        if n > _ELEMENTS_IN_CACHE and all(t.is_contiguous() for t in row):
            pieces = (torch.split(t.view(-1), _ELEMENTS_IN_CACHE) for t in row)
            for piece in zip(*pieces, strict=True):
                yield [piece]
            continue
        if part and size + n > _ELEMENTS_IN_CACHE:
            yield part
            part, size = [], 0
        part.append(row)
        size += n
    if part:
        yield part


def _add_(into: List, what: Any) -> None:
    if isinstance(what, Tensor):
        # Without alpha it would be taken for a number, for which the host would wait.
        torch._foreach_add_(into, what, alpha=1)
    else:
        torch._foreach_add_(into, what)


def _add_scaled_(into: List, what: List, factor: Any) -> None:
    if isinstance(factor, Tensor):
        torch._foreach_add_(into, torch._foreach_mul(what, factor))
    else:
        torch._foreach_add_(into, what, alpha=factor)
