"""The update as one pass over a GPU's memory: one launch of a Triton kernel for all parameters.

Triton comes with PyTorch's builds for GPUs; elsewhere ``load`` says that it is missing.
"""

import functools
from typing import Any

import torch
from torch import Tensor

from innaprop.torch.memory import Memory, addresses
from innaprop.torch.update import Grads, Tensors
from innaprop_core.momentum import Coefficients

SCALARS = (*Coefficients._fields, "gradient_scale", "skip")
"""What the kernel reads, in this order."""
_BLOCK = 1024


@functools.cache
def load() -> Any:
    """Return the module of the kernel; or why there is none, in a sentence."""
    try:
        from innaprop.torch import kernel
    except ImportError as error:
        return f"its kernel needs Triton ({error})"
    return kernel


class _Tables(Memory):
    """The addresses, and which program works on which block, in the GPU's memory."""

    def __init__(self, tensors: Tensors) -> None:
        super().__init__(tensors)
        self.device = tensors.params[0].device
        lists = (self.params, self.momentum_buffers, self.exp_avg_sqs, self.residuals, self.sizes)
        *pointers, sizes = (torch.tensor(values, dtype=torch.int64) for values in lists)
        state = (tensors.momentum_buffers, tensors.exp_avg_sqs, tensors.residuals)
        self.aligned = is_aligned(*tensors.params, *(t for ts in state for t in ts))
        blocks = (sizes + _BLOCK - 1) // _BLOCK
        tensor = torch.repeat_interleave(torch.arange(len(sizes)), blocks)
        start = (torch.arange(len(tensor)) - (blocks.cumsum(0) - blocks)[tensor]) * _BLOCK
        self.pointers = [table.to(self.device) for table in pointers]
        self.sizes_there, self.tensor, self.start = (
            table.to(self.device) for table in (sizes, tensor, start)
        )
        self._grads = addresses([])
        self.grads_aligned = False
        self.grad_pointers = torch.empty(0)

    def find(self, grads: list[Tensor]) -> None:
        """Take up where the gradients lie, which is where they lay before, mostly."""
        now = addresses(grads)
        if now == self._grads:
            return
        self._grads = now
        self.grads_aligned = not any(address % 16 for address in now)
        if self.device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            # A CUDA graph can hold fills, but no copy from the host's memory.
            fills = [torch.full((), x, dtype=torch.int64, device=self.device) for x in now]
            self.grad_pointers = torch.stack(fills)
        else:
            table = torch.tensor(now, dtype=torch.int64)
            self.grad_pointers = table.to(self.device, non_blocking=True)


def is_aligned(*tensors: Tensor | None) -> bool:
    """Return whether the kernel can take these tensors in wide words."""
    return all(t is None or (t.data_ptr() % 16 == 0 and t.numel() % 16 == 0) for t in tensors)


def fused(
    tensors: Tensors,
    grads: Grads,
    c: Coefficients,
    gradient_scale: Any,
    skip: Tensor | None = None,
) -> None:
    """Make one update of all parameters in one launch; ``load`` gave a kernel.

    Takes what ``single_tensor`` takes: plain tensors, whose state has the parameter's strides,
    which are those of a dense tensor, and whose gradient has its dtype. Coefficients may be
    tensors of one element, or of one a parameter. Where ``skip`` is given and not zero nothing
    changes.
    """
    kernel = load()
    language = kernel.tl
    if tensors.memory is None:
        tensors.memory = _Tables(tensors)
    tables: _Tables = tensors.memory
    grads = tables.laid_out_alike(grads, tensors.params)
    tables.find(grads)
    if len(tables.tensor) > 0:
        real = tensors.momentum_buffers[0].dtype
        values = (*c, gradient_scale, 0.0 if skip is None else skip)
        scalars = _scalars(values, real, tables.device)
        thetas, ms, vs, residuals = tables.pointers
        # Triton launches where PyTorch is at the moment.
        with torch.cuda.device_of(tensors.params[0]):  # type: ignore[no-untyped-call]
            kernel.step[(len(tables.tensor),)](
                thetas,
                ms,
                vs,
                tables.grad_pointers,
                residuals,
                tables.sizes_there,
                tables.tensor,
                tables.start,
                scalars,
                scalars.shape[1],
                one_each=scalars.shape[1] > 1,
                parameter=getattr(language, str(tables.dtype).removeprefix("torch.")),
                real=getattr(language, str(real).removeprefix("torch.")),
                has_residual=bool(tensors.residuals),
                remembers=c.averaging <= c.memory,
                aligned=tables.aligned and tables.grads_aligned,
                block=_BLOCK,
                num_warps=8,
                enable_fp_fusion=True,  # Said, since Triton warns where it is not.
            )
    # The kernel writes behind autograd's back.
    torch.autograd.graph.increment_version(tensors.params)


def _scalars(values: tuple[Any, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return a row for each value: of one column, or of one a parameter."""
    if not any(isinstance(value, Tensor) for value in values):
        return torch.tensor([[value] for value in values], dtype=dtype).to(
            device, non_blocking=True
        )
    # A fill is a kernel of its own, which a CUDA graph can hold; a copy from the host is not.
    rows = [
        value.to(device, dtype).reshape(-1)
        if isinstance(value, Tensor)
        else torch.full((1,), value, dtype=dtype, device=device)
        for value in values
    ]
    columns = max(map(len, rows))
    return torch.stack([row.expand(columns) for row in rows])
