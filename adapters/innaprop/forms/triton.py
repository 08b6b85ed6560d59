"""A Triton kernel for a GPU: all rows in one launch, every value read and written once.

The kernel is in ``triton_kernel``. Triton is installed with PyTorch's CUDA builds; without it
``load`` returns a message.
"""

import functools
import sys
from array import array
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from innaprop.forms import Form, Row, c, kernel
from innaprop_core.momentum import Coefficients

FORM = Form(
    framework="torch",
    compiler="Triton",
    moves="28",
    temporaries="0",
    valid="dense tensors of one layout on a CUDA device; a gradient of the parameter's dtype, or "
    "float32 for 16-bit ones",
    in_place=True,
    reads_scalars=False,
    skips=True,
)
SCALARS = (*kernel.SCALARS, "skip")
"""The scalars of a set, in the kernel's order."""
_BLOCK = 1024


@functools.cache
def load() -> Any:
    """Return the kernel's module; or a sentence that says why there is none."""
    try:
        from innaprop.forms import triton_kernel
    except ImportError as error:
        return f"its kernel needs Triton ({error})"
    return triton_kernel


def kernel_of(device: torch.device) -> Any:
    """Return the form with a kernel for a device; None if it is neither a CPU nor a CUDA GPU."""
    return {"cpu": c, "cuda": sys.modules[__name__]}.get(device.type)


def takes(rows: Row) -> bool:
    """Return whether the kernel can update rows of tensors, whatever the layout of the gradients.

    Args:
        rows: A row whose fields are lists of tensors.
    """
    return {theta.device.type for theta in rows.theta} == {"cuda"} and c.have_addresses(rows)


def bucket_key(row: Row) -> tuple[Any, ...]:
    """Return the key of a row's bucket; one call takes the rows of one bucket.

    It includes whether the kernel can use vectorised loads and stores.
    """
    tensors = (t for t in (row.theta, row.m, row.v, row.residual) if t is not None)
    aligned = all(t.data_ptr() % 16 == 0 and t.numel() % 16 == 0 for t in tensors)
    dtypes = row.theta.dtype, row.g.dtype, row.m.dtype
    return row.theta.device, *dtypes, row.residual is None, aligned


class Layout(c.Layout):
    """What is cached of rows from step to step, with the kernel's tables in GPU memory.

    Args:
        rows: A row whose fields are lists of tensors of one bucket.
        steps: The step count of each row; None if they are not counted here.
    """

    def __init__(self, rows: Row, steps: list[Tensor] | None) -> None:
        super().__init__(rows, steps)
        self.device = rows.theta[0].device
        fixed = (self.thetas, self.ms, self.vs, self.residuals, self.sizes)
        # One small copy, the rest computed on the GPU: the host may have to wait for a copy, and
        # with LayerDrop, for example, the rows change and every step builds a layout.
        count = len(self.sizes)
        # Of even length: Triton would recompile for addresses that are not multiples of 16.
        even = [[*column, *[0] * (count % 2)] for column in fixed]
        table = torch.tensor(even, dtype=torch.int64).to(self.device, non_blocking=True)
        *self.pointers, sizes = table[:, :count]
        blocks = (sizes + _BLOCK - 1) // _BLOCK
        ends = blocks.cumsum(0)
        total = sum((size + _BLOCK - 1) // _BLOCK for size in self.sizes)
        block = torch.arange(total, device=self.device)
        self.tensor = torch.searchsorted(ends, block, right=True)
        start = (block - (ends - blocks)[self.tensor]) * _BLOCK
        self.of_blocks = sizes, self.tensor, start
        self.aligned = not any(x % 16 for column in fixed for x in column)
        self._tables: dict[str, tuple[array[int], Tensor]] = {}

    def table(self, name: str, numbers: "array[int]") -> Tensor:
        """Return numbers as a tensor in GPU memory, copied only if they have changed."""
        before, there = self._tables.get(name, (None, None))
        if before != numbers or there is None:
            there = self._put(numbers)
            self._tables[name] = numbers, there
        return there

    def _put(self, numbers: "array[int]") -> Tensor:
        if self.device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            # A CUDA graph can capture fills, but not a copy from pageable host memory.
            fills = [torch.full((), x, dtype=torch.int64, device=self.device) for x in numbers]
            return torch.stack(fills)
        return torch.tensor(numbers, dtype=torch.int64).to(self.device, non_blocking=True)


def update(
    rows: Row,
    layout: Layout,
    sets: Sequence[tuple[Coefficients, Any]],
    which: "array[int]",
    steps: list[Tensor] | None,
    skip: Tensor | None = None,
) -> None:
    """Make one update of all rows in one launch; ``load`` must have returned a kernel.

    Args:
        rows: A row whose fields are lists of tensors that the kernel ``takes``.
        layout: Their ``Layout``.
        sets: Pairs of scalars and a factor of the gradients: numbers, tensors of one element, or
            tensors of one element for each row of the set.
        which: For each row, the index of its set.
        steps: The step count of each row; incremented here. None: nothing is counted.
        skip: Tensor of one element; if it is not zero, nothing changes, step counts included.
            Default None.
    """
    kernel = load()

    def named(dtype: torch.dtype) -> Any:
        return getattr(kernel.tl, str(dtype).removeprefix("torch."))

    gradients = layout.in_layout(rows.g, rows.theta)
    if len(layout.tensor) > 0:
        packed = rows.m[0].dtype == torch.int32
        real = torch.float32 if packed else rows.m[0].dtype
        stop = 0.0 if skip is None else skip
        blocks = [_columns((*c, scale, stop), real, layout.device) for c, scale in sets]
        scalars = torch.cat(blocks, dim=1) if len(blocks) > 1 else blocks[0]
        columns = _columns_of_rows([block.shape[1] for block in blocks], which)
        addresses = c.addresses(gradients)
        thetas, ms, vs, residuals = layout.pointers
        # Triton launches on PyTorch's current device.
        with torch.cuda.device_of(rows.theta[0]):  # type: ignore[no-untyped-call]
            kernel.step[(len(layout.tensor),)](
                thetas,
                ms,
                vs,
                layout.table("gradients", addresses),
                residuals,
                *layout.of_blocks,
                layout.table("columns", columns),
                scalars,
                scalars.shape[1],
                parameter=named(rows.theta[0].dtype),
                gradient=named(rows.g[0].dtype),
                real=named(real),
                packed=packed,
                has_residual=rows.residual[0] is not None,
                aligned=layout.aligned and not any(address % 16 for address in addresses),
                block=_BLOCK,
                num_warps=8,
                enable_fp_fusion=True,  # Explicit: Triton warns if it is not given.
            )
    # After the launch, so that nothing is counted if the kernel's compilation is interrupted.
    if steps is not None:
        torch._foreach_add_(steps, 1.0)
    if steps is not None and skip is not None:
        skipped = skip.to(steps[0].device, steps[0].dtype).reshape(())
        torch._foreach_sub_(steps, [skipped] * len(steps))
    # Autograd does not see what the kernel writes.
    torch.autograd.graph.increment_version(rows.theta)


def _columns(values: tuple[Any, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return a matrix with a line for each value: one column, or one for each row of the set."""
    if not any(isinstance(value, Tensor) for value in values):
        return torch.tensor([[value] for value in values], dtype=dtype).to(
            device, non_blocking=True
        )
    # A fill is a kernel, which a CUDA graph can capture; a copy from the host is not.
    lines = [
        value.to(device, dtype).reshape(-1)
        if isinstance(value, Tensor)
        else torch.full((1,), value, dtype=dtype, device=device)
        for value in values
    ]
    columns = max(map(len, lines))
    return torch.stack([line.expand(columns) for line in lines])


def _columns_of_rows(widths: list[int], which: "array[int]") -> "array[int]":
    """Return the column of each row: its set's only one, or the next one of its set."""
    if {*widths} == {1}:
        return which
    following = [sum(widths[:i]) for i in range(len(widths))]
    columns = array("q")
    for i in which:
        columns.append(following[i])
        following[i] += widths[i] > 1
    return columns
