"""PyTorch, with the core's formula, for ``torch.compile`` to fuse; reads no tensor's value."""

from typing import Any

import torch
from torch import Tensor

from innaprop.forms import Form, Row
from innaprop.forms.foreach import WORDS, compute_dtype, master_weights, repack, store, unpacked
from innaprop_core import momentum
from innaprop_core.momentum import Coefficients

FORM = Form(
    framework="torch",
    compiler="torch.compile",
    moves="28",
    temporaries="0 once compiled",
    valid="everywhere",
    in_place=True,
    reads_scalars=False,
    skips=True,
)


def update(
    rows: list[Row], c: Coefficients, gradient_scale: Any = 1.0, skip: Tensor | None = None
) -> None:
    """Make one update of rows, in place.

    Args:
        rows: Rows of any tensors.
        c: The scalars of this update, numbers or 0-d tensors.
        gradient_scale: Factor of the gradients, a number or a 0-d tensor. Default 1.
        skip: Tensor of one element; if it is not zero, nothing changes. Default None.
    """
    for row in rows:
        theta, g = master_weights(row), row.g.to(compute_dtype(row)) * gradient_scale
        old = theta, *unpacked(row)
        new = momentum.step(*old, g, c, torch.sqrt)
        if skip is not None:
            new = tuple(torch.where(skip == 0, *pair) for pair in zip(new, old, strict=True))  # type: ignore[assignment]
        # A 0-d parameter is promoted to float64 by traced coefficients of that dtype.
        theta, m, v = (x.to(compute_dtype(row)) for x in new)
        if row.m.dtype == WORDS:
            repack(row, m, v, c.draw)
        else:
            row.m.copy_(m)
            row.v.copy_(v)
        store(row, theta)
