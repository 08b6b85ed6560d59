"""The update of lists of torch tensors, by the forms that ``innaprop.torch`` takes by default."""

from array import array

import torch

from innaprop.forms import Row, foreach, traced
from innaprop.forms.triton import kernel_of
from innaprop_core.momentum import Coefficients


def reads_numbers(device: torch.device) -> bool:
    """Return whether scalars may be read as numbers: not where the host would have to wait."""
    return device.type == "cpu" and not torch.compiler.is_compiling()


def number(value: torch.Tensor) -> float | None:
    """Return a scalar's value, or None where it may not be read."""
    return value.item() if reads_numbers(value.device) else None


@torch.no_grad()
def update(rows: list[Row], scalars: Coefficients) -> None:
    """Make one update of parameters, in place.

    Args:
        rows: What belongs to each parameter: all on one device, of one dtype, and all or none with
            a residual (gradients and state float32 for 16-bit parameters).
        scalars: The scalars of this update, numbers or 0-d tensors.
    """
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
