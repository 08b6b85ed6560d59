"""PyTorch, operation by operation, one tensor at a time: ``foreach`` with lists of one row."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from innaprop.forms import Row, foreach
from innaprop_core.momentum import Coefficients

FORM = foreach.FORM


def bucket_key(row: Row) -> tuple[Any, ...]:
    """Return the key of a row's bucket: all rows can share a call."""
    return ()


Layout = foreach.Layout


def update(
    rows: Row,
    layout: None,
    sets: Sequence[tuple[Coefficients, Any]],
    which: Sequence[int],
    steps: list[Tensor],
    skip: None = None,
) -> None:
    """Make one update of all rows in place; arguments as in ``foreach.update``."""
    taken = [0] * len(sets)
    for row, i, step in zip(map(Row, *rows), which, steps, strict=True):
        c, scale = sets[i]
        own = Coefficients(*(foreach.element(x, taken[i]) for x in c))
        taken[i] += 1
        foreach.update_rows([row], own, scale, [step])
