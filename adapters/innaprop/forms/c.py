"""A C kernel for the CPU: all rows in one call, every value read and written once.

The lines are in ``kernel.c``. It takes addresses, which a ``Layout`` keeps from step to step;
nothing here holds a tensor.
"""

import ctypes
import functools
from array import array
from collections.abc import Callable, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from innaprop.forms import Form, Row, library
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
SCALARS = (*Coefficients._fields, "gradient_scale")
"""What the kernel gets of every set, in this order."""
_SOURCE = Path(__file__).with_name("kernel.c")
_KINDS = {
    (torch.float32, torch.float32): 0,
    (torch.float64, torch.float64): 1,
    (torch.bfloat16, torch.bfloat16): 2,
    (torch.float16, torch.float16): 3,
    (torch.bfloat16, torch.float32): 4,
    (torch.float16, torch.float32): 5,
}
"""By the dtypes of parameter and gradient."""
_STATES = {(dtype, torch.promote_types(dtype, torch.float32)) for dtype, _ in _KINDS}
"""Dtypes of a parameter and its state."""
PLAIN = (Tensor, torch.nn.Parameter)
"""Types whose tensors have one address; others may hold several tensors, or none yet."""
_dtype: Callable[[Tensor], torch.dtype] = attrgetter("dtype")
_COLUMNS = ("theta", "g", "m", "v", "residual", "step", "size", "kind", "set")


class _Rows(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in _COLUMNS]


class _Scalars(ctypes.Structure):
    _fields_ = [(name, ctypes.c_double) for name in SCALARS]


@functools.cache
def load() -> ctypes.CDLL | str:
    """Return the kernel, built if need be; or why there is none, in a sentence."""
    scalars = " ".join(f"X({name})" for name in SCALARS)
    kernel = library.load(
        _SOURCE, defines=(f"COEFFICIENTS={scalars}",), exports=("innaprop_step", "innaprop_layout")
    )
    if isinstance(kernel, str):
        return kernel
    built_for = ctypes.string_at(ctypes.addressof(ctypes.c_char.in_dll(kernel, "innaprop_layout")))
    if tuple(built_for.decode().split()) != SCALARS:
        return f"the kernel must be built for {' '.join(SCALARS)}, got one for {built_for.decode()}"
    kernel.innaprop_step.restype = None
    kernel.innaprop_step.argtypes = (
        ctypes.c_int64,
        ctypes.POINTER(_Rows),
        ctypes.c_void_p,
        ctypes.c_int,
    )
    return kernel


def takes(rows: Row) -> bool:
    """Return whether the kernel can update rows of tensors, whatever the layout of the gradients.

    Args:
        rows: A row whose fields are lists of tensors.
    """
    return {theta.device.type for theta in rows.theta} == {"cpu"} and have_addresses(rows)


def have_addresses(rows: Row) -> bool:
    """Return whether a kernel can find the elements of rows by the addresses of their tensors.

    It pairs elements by their place in memory, and knows nothing of views that only say that their
    elements are negative.
    """
    written = [*rows.theta, *rows.m, *rows.v, *(r for r in rows.residual if r is not None)]
    dtypes = list(map(_dtype, rows.theta))
    return (
        {*zip(dtypes, map(_dtype, rows.m), strict=True)} <= _STATES
        and {*zip(dtypes, map(_dtype, rows.g), strict=True)} <= _KINDS.keys()
        and {*map(type, written), *map(type, rows.g)} <= {*PLAIN}
        and not any(map(Tensor.is_neg, written))
        and (all(map(Tensor.is_contiguous, written)) or all(map(_lies_alike, map(Row, *rows))))
    )


def _lies_alike(row: Row) -> bool:
    tensors = [t for t in (row.theta, row.m, row.v, row.residual) if t is not None]
    return {t.stride() for t in tensors} == {row.theta.stride()} and is_dense(row.theta)


def alike(row: Row) -> tuple[Any, ...]:
    """Return what rows of one call have in common: nothing."""
    return ()


def is_dense(tensor: Tensor) -> bool:
    """Return whether the elements fill a block of memory, in whatever order."""
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
    """What stays of some rows from step to step: where they lie in memory, and how.

    It holds as long as addresses, dtypes and shapes stay, but for the addresses of gradients.

    Args:
        rows: A row whose fields are lists of tensors.
        steps: For each row its count of updates; None if they are not counted here.
    """

    def __init__(self, rows: Row, steps: list[Tensor] | None) -> None:
        self.thetas, self.ms, self.vs = map(addresses, (rows.theta, rows.m, rows.v))
        self.residuals = array("q", [0 if r is None else r.data_ptr() for r in rows.residual])
        self.steps = None if steps is None else addresses(steps)
        self.sizes = array("q", map(Tensor.numel, rows.theta))
        self.kinds = array(
            "q", [_KINDS[theta.dtype, g.dtype] for theta, g in zip(rows.theta, rows.g, strict=True)]
        )
        self._strides = list(map(Tensor.stride, rows.theta))

    def laid_out_alike(self, gradients: list[Tensor], thetas: list[Tensor]) -> list[Tensor]:
        """Return gradients as they lie in memory like their parameters, copied where need be."""
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
    """Make one update of all rows in one parallel pass; ``load`` gave a kernel.

    Args:
        rows: A row whose fields are lists of tensors that the kernel ``takes``; of its residuals
            some may be None.
        layout: What ``Layout`` makes of them.
        sets: Scalars, and factors of the gradients: numbers, or tensors of one element.
        which: For each row the place of its set.
        steps: For each row its count of updates, a float64 tensor of one element on the CPU. The
            kernel finds the bias correction from it, and counts the update. None: the sets have
            the correction.
        skip: None: it cannot skip.
    """
    kernel = load()
    assert isinstance(kernel, ctypes.CDLL)
    gradients = layout.laid_out_alike(rows.g, rows.theta)
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
    table = _Rows(*(None if column is None else column.buffer_info()[0] for column in columns))
    # Tensors, if capturable: on the CPU reading them stops nobody.
    scalars = (_Scalars * len(sets))(*(_Scalars(*map(float, (*c, scale))) for c, scale in sets))
    kernel.innaprop_step(len(which), ctypes.byref(table), scalars, torch.get_num_threads())
    # The kernel writes behind autograd's back.
    torch.autograd.graph.increment_version(rows.theta)


def addresses(tensors: list[Tensor]) -> "array[int]":
    """Return where the data of tensors begins."""
    return array("q", map(Tensor.data_ptr, tensors))
