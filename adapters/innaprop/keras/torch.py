"""The update of lists of torch tensors, by the default forms of ``innaprop.torch``."""

from array import array
from typing import Any

import torch

from innaprop.forms import Row, foreach, traced
from innaprop.forms.triton import kernel_of
from innaprop.keras import options
from innaprop_core import packed
from innaprop_core.momentum import Coefficients

WORDS = "int32"
"""Dtype of packed words."""


def unpack(words: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the float32 momentum and second moment packed in a tensor of words."""
    m, v = packed.unpack(words, foreach.OPERATIONS)
    return m, v


def pack(m: Any, v: Any, draw: Any) -> torch.Tensor:
    """Pack a float32 momentum and second moment into words, with stochastic rounding."""
    m = torch.as_tensor(m)
    words = torch.empty_like(m, dtype=foreach.WORDS)
    foreach.repack(Row(None, None, words, words), m, torch.as_tensor(v), draw)
    return words


def reads_numbers(device: torch.device) -> bool:
    """Return whether scalars may be read as numbers, without synchronising or tracing."""
    return device.type == "cpu" and not torch.compiler.is_compiling()


def number(value: torch.Tensor) -> float | None:
    """Return a scalar's value, or None if it may not be read."""
    return value.item() if reads_numbers(value.device) else None


@torch.no_grad()
def update(optimizer: Any, rows: list[tuple[Row, float]], rate: Any) -> None:
    """Make one update of variables in place, one call for each bucket.

    Args:
        optimizer: The optimizer, for its options and step count.
        rows: Pairs of a row (of ``torch.Tensor``, except the ``keras.Variable`` itself; gradients
            and state float32 for 16-bit variables) and its weight decay. With ``state_bits=16``,
            momentums are packed words and second moments None.
        rate: Step size of this update, a 0-d tensor.
    """
    buckets: dict[Any, list[Row]] = {}
    for row, decay in rows:
        theta, v = row.theta.value, row.m if row.v is None else row.v
        key = theta.device, theta.dtype, decay
        buckets.setdefault(key, []).append(row._replace(theta=theta, v=v))
    for (device, _, decay), bucket in buckets.items():
        if reads_numbers(device):
            c = options.coefficients_in_numbers(optimizer, decay, rate)
        else:
            c = options.coefficients_in(foreach.compute_dtype(bucket[0]), optimizer, decay, rate)
        _update_bucket(bucket, c)


def _update_bucket(rows: list[Row], scalars: Coefficients) -> None:
    """Make one update of the rows of a bucket."""
    if torch.compiler.is_compiling():
        traced.update(rows, scalars)
        return
    columns = Row(*map(list, zip(*rows, strict=True)))
    kernel = kernel_of(columns.theta[0].device)
    if kernel is None or isinstance(kernel.load(), str) or not kernel.takes(columns):
        foreach.update_rows(rows, scalars)
        return
    which = array("q", [0] * len(rows))
    kernel.update(columns, kernel.Layout(columns, None), [(scalars, 1.0)], which, None)
