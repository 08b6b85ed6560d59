"""A C kernel for the CPU: all rows in one call, every value read and written once.

The kernel is in ``kernel.c``, its tables in ``kernel``. It takes addresses, which a ``Layout``
caches from step to step. Nothing here keeps a reference to a tensor.
"""

import ctypes
from array import array
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

from innaprop.forms import Form, Row
from innaprop.forms.kernel import Rows, Scalars
from innaprop.forms.kernel import load as load
from innaprop_core.momentum import Coefficients

FORM = Form(
    framework="torch",
    compiler="C",
    moves="28",
    temporaries="0",
    valid="dense tensors of one layout on the CPU; a gradient of the parameter's dtype, or float32 "
    "for 16-bit ones",
    in_place=True,
    reads_scalars=True,
    corrects=True,
)
_KINDS = {
    (torch.float32, torch.float32): 0,
    (torch.float64, torch.float64): 1,
    (torch.bfloat16, torch.bfloat16): 2,
    (torch.float16, torch.float16): 3,
    (torch.bfloat16, torch.float32): 4,
    (torch.float16, torch.float32): 5,
}
"""The kernel's row kind, by the dtypes of parameter and gradient."""
_PACKED = 8
"""Added to the kind if the state is packed."""
_STATES = {(dtype, torch.promote_types(dtype, torch.float32)) for dtype, _ in _KINDS}
_STATES |= {(dtype, torch.int32) for dtype, _ in _KINDS if dtype != torch.float64}
"""Valid pairs of dtypes of a parameter and its state."""
PLAIN = (Tensor, torch.nn.Parameter)
"""Types whose tensors have one address; subclasses may wrap several tensors, or none yet."""
_dtype: Callable[[Tensor], torch.dtype] = attrgetter("dtype")


def takes(rows: Row) -> bool:
    """Return whether the kernel can update rows of tensors, whatever the layout of the gradients.

    Args:
        rows: A row whose fields are lists of tensors.
    """
    return {theta.device.type for theta in rows.theta} == {"cpu"} and have_addresses(rows)


def have_addresses(rows: Row) -> bool:
    """Return whether a kernel can address the elements of rows by the pointers of their tensors.

    It pairs elements by their position in memory, and cannot see the negative bit of lazily negated
    views.
    """
    written = [*rows.theta, *rows.m, *rows.v, *(r for r in rows.residual if r is not None)]
    dtypes = list(map(_dtype, rows.theta))
    return (
        {*zip(dtypes, map(_dtype, rows.m), strict=True)} <= _STATES
        and {*zip(dtypes, map(_dtype, rows.g), strict=True)} <= _KINDS.keys()
        and {*map(type, written), *map(type, rows.g)} <= {*PLAIN}
        and not any(map(Tensor.is_neg, written))
        and (all(map(Tensor.is_contiguous, written)) or all(map(_has_one_layout, map(Row, *rows))))
    )


def _has_one_layout(row: Row) -> bool:
    tensors = [t for t in (row.theta, row.m, row.v, row.residual) if t is not None]
    return {t.stride() for t in tensors} == {row.theta.stride()} and is_dense(row.theta)


def bucket_key(row: Row) -> tuple[Any, ...]:
    """Return the key of a row's bucket: all rows can share a call."""
    return ()


def is_dense(tensor: Tensor) -> bool:
    """Return whether the elements fill a contiguous block of memory, in any order of axes."""
    if tensor.is_contiguous():
        return True
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size != 1:
            if stride != expected:
                return False
            expected *= size
    return True


class Layout:
    """Addresses, sizes and strides of rows, cached from step to step.

    Valid as long as addresses, dtypes and shapes do not change; gradients may move.

    Args:
        rows: A row whose fields are lists of tensors.
        steps: The step count of each row; None if the kernel does not count.
    """

    def __init__(self, rows: Row, steps: list[Tensor] | None) -> None:
        self.thetas, self.ms, self.vs = map(addresses, (rows.theta, rows.m, rows.v))
        self.residuals = array("q", [0 if r is None else r.data_ptr() for r in rows.residual])
        self.steps = None if steps is None else addresses(steps)
        self.sizes = array("q", map(Tensor.numel, rows.theta))
        self.kinds = array(
            "q",
            [
                _KINDS[theta.dtype, g.dtype] + _PACKED * (m.dtype == torch.int32)
                for theta, g, m in zip(rows.theta, rows.g, rows.m, strict=True)
            ],
        )
        self._strides = list(map(Tensor.stride, rows.theta))

    def in_layout(self, gradients: list[Tensor], thetas: list[Tensor]) -> list[Tensor]:
        """Return gradients with the strides of their parameters, copied if necessary."""
        if list(map(Tensor.stride, gradients)) == self._strides and not any(
            map(Tensor.is_neg, gradients)
        ):
            return gradients
        return [
            g
            if g.stride() == p.stride() and not g.is_neg()
            else torch.empty_like(p, dtype=g.dtype).copy_(g)
            for g, p in zip(gradients, thetas, strict=True)
        ]


def update(
    rows: Row,
    layout: Layout,
    sets: Sequence[tuple[Coefficients, Any]],
    which: "array[int]",
    steps: list[Tensor] | None,
    skip: None = None,
) -> None:
    """Make one update of all rows in one parallel pass; ``load`` must have returned a kernel.

    Args:
        rows: A row whose fields are lists of tensors that the kernel ``takes``; residuals may be
            None.
        layout: Their ``Layout``.
        sets: Pairs of scalars and a factor of the gradients: numbers, or tensors of one element.
        which: For each row, the index of its set.
        steps: The step count of each row, a float64 tensor of one element on the CPU. The kernel
            computes the bias correction from it and increments it. None: the sets contain the bias
            correction.
        skip: None: it cannot skip.
    """
    kernel = load()
    assert isinstance(kernel, ctypes.CDLL)
    gradients = layout.in_layout(rows.g, rows.theta)
    columns = (
        layout.thetas,
        addresses(gradients),
        layout.ms,
        layout.vs,
        layout.residuals,
        layout.steps,
        layout.sizes,
        layout.kinds,
        which,
    )
    table = Rows(*(None if column is None else column.buffer_info()[0] for column in columns))
    # With capturable the scalars are tensors; on the CPU, reading them does not synchronise.
    scalars = (Scalars * len(sets))(*(Scalars(*map(float, (*c, scale))) for c, scale in sets))
    kernel.innaprop_step(len(which), ctypes.byref(table), scalars, torch.get_num_threads())
    # Autograd does not see what the kernel writes.
    torch.autograd.graph.increment_version(rows.theta)


def addresses(tensors: list[Tensor]) -> "array[int]":
    """Return the addresses of the data of tensors."""
    return array("q", map(Tensor.data_ptr, tensors))
