"""PyTorch, operation by operation, on lists of tensors: the core's formula, in place.

The lists are processed in chunks, so that intermediate results stay in the cache and temporary
memory stays small.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from innaprop.forms import Form, Row
from innaprop.forms import residual as residuals
from innaprop.forms.c import is_dense
from innaprop_core import packed
from innaprop_core.momentum import Coefficients

_ELEMENTS_IN_CACHE = {"cpu": 1 << 17}
_ELEMENTS_IN_A_GPUS_CACHE = 1 << 21

FORM = Form(
    framework="torch",
    compiler="none",
    moves="132, of which all but 28 stay in the cache",
    temporaries=f"8, of {_ELEMENTS_IN_CACHE['cpu']:,} elements at a time on the CPU and "
    f"{_ELEMENTS_IN_A_GPUS_CACHE:,} elsewhere",
    valid="everywhere",
    in_place=True,
    reads_scalars=False,
)
SIXTEEN_BITS = {torch.bfloat16: "bfloat16", torch.float16: "float16"}
"""Dtypes of parameters that may have a residual, and their names."""
OPERATIONS = residuals.Operations(
    where=torch.where,
    bits=lambda x: x.view(torch.int32),
    real=lambda bits: bits.view(torch.float32),
    integer=Tensor.int,
    floating=Tensor.float,
    to_float32=Tensor.float,
    narrow=lambda x, dtype: x.to(getattr(torch, dtype)),
    round=torch.round,
    shift=torch.bitwise_right_shift,
)
WORDS = torch.int32
"""Dtype of packed states."""


def join(parameter: Tensor, residual: Tensor) -> Tensor:
    """Return the float32 value of a bfloat16 or float16 parameter and its int16 residual."""
    joined: Tensor = residuals.join(parameter, residual, SIXTEEN_BITS[parameter.dtype], OPERATIONS)
    return joined


def split(value: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Split a float32 into a parameter of a 16-bit dtype and its int16 residual."""
    return residuals.split(value, SIXTEEN_BITS[dtype], OPERATIONS)


def master_weights(row: Row) -> Tensor:
    """Return the parameter in the compute dtype; no copy if it has that dtype already."""
    theta: Tensor = row.theta
    return theta.to(compute_dtype(row)) if row.residual is None else join(theta, row.residual)


def compute_dtype(row: Row) -> torch.dtype:
    """Return the dtype in which a row is updated."""
    dtype: torch.dtype = row.m.dtype
    return torch.float32 if dtype == WORDS else dtype


def unpacked(row: Row) -> tuple[Tensor, Tensor]:
    """Return momentum and second moment: the row's own tensors, or new ones if they are packed."""
    return packed.unpack(row.m, OPERATIONS) if row.m.dtype == WORDS else (row.m, row.v)


def repack(row: Row, m: Tensor, v: Tensor, draw: Any, first: int = 0) -> None:
    """Pack momentum and second moment into a row's words, with stochastic rounding.

    Args:
        row: A row whose state is packed.
        m: Its new momentum, float32.
        v: Its new second moment, likewise.
        draw: From ``packed.draw``; a number or a 0-d tensor.
        first: Index of the first element, if the row is a piece of a tensor. Default 0.
    """
    if isinstance(draw, Tensor):
        offset: Any = packed.turn_of(draw.to(row.m.device, torch.int32), OPERATIONS)
    else:
        offset = packed.turn(int(draw))
    row.m.copy_(packed.pack(m, v, _lattice(row.m, first) + offset, OPERATIONS))


def _lattice(like: Tensor, first: int) -> Tensor:
    """Return the index of each element times ``packed.LATTICE``, modulo 2^32, as int32.

    Elements of a dense tensor are numbered in memory order.
    """
    n = like.numel()
    if torch.compiler.is_compiling():
        # Inductor would merge this into one expression that is linear in the loop index. As int32
        # in C++ that overflows, which is undefined behaviour: the compiler infers a shorter loop
        # and miscompiles it. The mask does not change the values, but prevents the merging.
        line = torch.arange(first, first + n, dtype=torch.int64, device=like.device)
        line = ((line & 0xFFFFFFFF) * packed.LATTICE).to(torch.int32)
    else:
        first = (first + 2**31) % 2**32 - 2**31
        line = torch.arange(first, first + n, dtype=torch.int32, device=like.device)
        line *= packed.LATTICE
    if like.is_contiguous() or not is_dense(like):
        return line.view(like.shape)
    return line.as_strided(like.shape, like.stride())


def store(row: Row, value: Tensor) -> None:
    """Write a parameter's new value, given in the compute dtype."""
    if row.residual is None:
        row.theta.copy_(value)
    else:
        parameter, residual = split(value, row.theta.dtype)
        row.theta.copy_(parameter)
        row.residual.copy_(residual)


def bucket_key(row: Row) -> tuple[Any, ...]:
    """Return the key of a row's bucket; one call takes the rows of one bucket."""
    return row.theta.device, row.theta.dtype, row.m.dtype, row.residual is None


def Layout(rows: Row, steps: list[Tensor]) -> None:  # noqa: N802 - other forms have a class.
    """Return None: nothing is cached."""


def update(
    rows: Row,
    layout: None,
    sets: Sequence[tuple[Coefficients, Any]],
    which: Sequence[int],
    steps: list[Tensor],
    skip: None = None,
) -> None:
    """Make one update of all rows, in place.

    Args:
        rows: A row whose fields are lists of tensors of one bucket; gradients of any floating
            dtype.
        layout: None.
        sets: Pairs of scalars and a factor of the gradients: numbers, tensors of one element, or
            tensors of one element for each row of the set.
        which: For each row, the index of its set.
        steps: The step count of each row; incremented here.
        skip: None: it cannot skip.
    """
    single_rows = list(map(Row, *rows))
    for i, (c, scale) in enumerate(sets):
        places = [place for place, of in enumerate(which) if of == i]
        for j, together in _by_scalars(c, places):
            own = Coefficients(*(element(x, j) for x in c))
            update_rows(
                [single_rows[place] for place in together],
                own,
                scale,
                [steps[place] for place in together],
            )


def _by_scalars(c: Coefficients, places: list[int]) -> Iterator[tuple[int, list[int]]]:
    """Yield the rows of a set that share scalars; one by one if each row has its own."""
    if not places:
        return
    if any(isinstance(x, Tensor) and x.dim() > 0 for x in c):
        yield from ((j, [place]) for j, place in enumerate(places))
    else:
        yield 0, places


def element(scalar: Any, j: int) -> Any:
    """Return the scalar of row j of a set, which may be common to all rows."""
    return scalar[j] if isinstance(scalar, Tensor) and scalar.dim() > 0 else scalar


def update_rows(
    rows: list[Row],
    c: Coefficients,
    gradient_scale: Any = 1.0,
    steps: list[Tensor] | None = None,
) -> None:
    """Make one update of rows that share their scalars, in place.

    Args:
        rows: Rows of tensors of one bucket.
        c: The scalars of this update, numbers or 0-d tensors.
        gradient_scale: Factor of the gradients, a number or a 0-d tensor. Default 1.
        steps: The step count of each row, incremented as soon as the row is updated: after an
            interrupt the counts of at most one chunk are wrong. Default None: nothing is counted.
    """
    for part, first, ended in _parts(rows):
        states = [unpacked(row) for row in part]
        thetas, ms, vs = (
            [master_weights(row) for row in part],
            [m for m, _ in states],
            [v for _, v in states],
        )
        # Foreach operations cannot write into lazily negated views.
        thetas = [theta.resolve_neg() if theta.is_neg() else theta for theta in thetas]
        dtype = ms[0].dtype
        gs = [row.g if row.g.dtype == dtype else row.g.to(dtype) for row in part]
        if isinstance(gradient_scale, Tensor) or gradient_scale != 1:
            gs = _scaled(gs, gradient_scale)
        _step(thetas, gs, ms, vs, c)
        for row, theta, m, v in zip(part, thetas, ms, vs, strict=True):
            if theta is not row.theta:
                store(row, theta)
            if m is not row.m:
                repack(row, m, v, c.draw, first)
        if steps is not None and ended:
            torch._foreach_add_([steps[place] for place in ended], 1.0)


def _step(
    thetas: list[Tensor], gs: list[Tensor], ms: list[Tensor], vs: list[Tensor], c: Coefficients
) -> None:
    # Like the core, lerp starts from the end of larger weight.
    torch._foreach_lerp_(vs, torch._foreach_mul(gs, gs), c.averaging)
    # sqrt(v / correction) + eps, multiplied by the root of the correction.
    root = c.bias_correction**0.5
    us = list(torch._foreach_sqrt(vs))
    _add_(us, c.eps * root)
    us = list(torch._foreach_div(gs, us))
    if not _is_zero(c.decay_drive):
        _add_scaled_(ms, thetas, c.decay_drive)
    # Summed first, so that theta is rounded only once.
    moves = _scaled(ms, c.gamma)
    _add_scaled_(moves, us, c.impulse * root)
    if not _is_zero(c.decay):
        _add_scaled_(moves, thetas, c.decay)
    torch._foreach_sub_(thetas, moves)
    del moves
    _add_scaled_(ms, ms, -c.friction)
    _add_scaled_(ms, us, c.drive * root)


def _parts(rows: list[Row]) -> Iterator[tuple[list[Row], int, list[int]]]:
    """Split lists of rows, and long rows, into chunks that fit the cache.

    Yields:
        The chunk, the index of the first element of its rows, and the positions of the rows that
        are complete with it.
    """
    most = _ELEMENTS_IN_CACHE.get(rows[0].theta.device.type, _ELEMENTS_IN_A_GPUS_CACHE)
    part: list[Row] = []
    ended: list[int] = []
    size = 0
    for place, row in enumerate(rows):
        n = row.theta.numel()
        if n > most and all(t is None or t.is_contiguous() for t in row):
            pieces = [
                [None] * -(-n // most) if t is None else torch.split(t.view(-1), most) for t in row
            ]
            *first, last = ([Row(*piece)] for piece in zip(*pieces, strict=True))
            yield from ((piece, i * most, []) for i, piece in enumerate(first))
            yield last, len(first) * most, [place]
            continue
        if part and size + n > most:
            yield part, 0, ended
            part, ended, size = [], [], 0
        part.append(row)
        ended.append(place)
        size += n
    if part:
        yield part, 0, ended


def _is_zero(scalar: Any) -> bool:
    return not isinstance(scalar, Tensor) and scalar == 0


def _scaled(tensors: list[Tensor], factor: Any) -> list[Tensor]:
    return list(torch._foreach_mul(tensors, factor))


def _add_(into: list[Tensor], what: Any) -> None:
    if isinstance(what, Tensor):
        # Without alpha PyTorch would take the tensor as a number and synchronise to read it.
        torch._foreach_add_(into, what, alpha=1)
    else:
        torch._foreach_add_(into, what)


def _add_scaled_(into: list[Tensor], what: list[Tensor], factor: Any) -> None:
    if isinstance(factor, Tensor):
        torch._foreach_add_(into, torch._foreach_mul(what, factor))
    else:
        torch._foreach_add_(into, what, alpha=factor)
