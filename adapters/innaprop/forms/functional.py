"""JAX: the core's own lines, or on a CPU those that look back, as functions of arrays.

Compilers for accelerators make one loop for all results, which the core's lines are best for. The
functions are jitted, so that many arrays of one shape are traced once, and an update that is not
compiled as a whole is still one computation.
"""

from collections.abc import Sequence
from functools import partial
from numbers import Real
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.lax import bitcast_convert_type

from innaprop.forms import Form, Row, looking_back
from innaprop.forms import residual as residuals
from innaprop_core import momentum, packed
from innaprop_core.momentum import Coefficients

FORM = Form(
    framework="jax",
    compiler="XLA",
    moves="28 where one loop writes all results; on the CPU copies and a stored u come on top",
    temporaries="0; on the CPU 8",
    valid="everywhere",
    in_place=False,
    reads_scalars=False,
)


def update(row: Row, c: Coefficients, looks_back: bool) -> tuple[Any, Any, Any]:
    """Return what to add to the parameter, and m and v after the update.

    Args:
        row: float32 or float64 arrays of one shape and dtype, without a residual.
        c: The scalars of this update: numbers, or 0-d arrays of that dtype.
        looks_back: Whether ``looking_back`` is valid; it runs on CPUs only.

    Source: arXiv 2410.05871, Algorithm 1, in momentum coordinates.
    """
    return update_all([row], c, looks_back)[0]


def update_all(
    rows: Sequence[Row], c: Coefficients, looks_back: bool
) -> list[tuple[Any, Any, Any]]:
    """Return the same of every row, compiled as one computation.

    Args:
        rows: As in ``update``, each of any shape, all of one dtype.
        c: As in ``update``.
        looks_back: As in ``update``.
    """
    # A number that is traced is no longer known.
    known = _Known(
        drives=not looking_back.is_zero(c.decay_drive),
        remembers=c.averaging <= c.memory if isinstance(c.memory, Real) else None,
    )
    changed: list[tuple[Any, Any, Any]] = _update_all_jitted(list(rows), c, looks_back, known)
    return changed


class _Known(NamedTuple):
    """What is known of the scalars when a function is traced."""

    drives: bool
    """Whether the decay may reach the momentum."""
    remembers: bool | None
    """Whether v weighs more than the squared gradient in the new v; None if sigma is traced."""

    def where(self, condition: Any, x: Any, y: Any) -> Any:
        if self.remembers is None:
            return jnp.where(condition, x, y)
        return x if self.remembers else y


# What chooses by the platform, and what rows have in common, stands once for all rows: per row it
# would be most of what XLA has to compile. A row is a function of its own, traced once per shape.
@partial(jax.jit, static_argnums=(2, 3), inline=True)
def _update_all_jitted(rows: list[Row], c: Coefficients, looks_back: bool, known: _Known) -> Any:
    def look_back(rows: list[Row], c: Coefficients) -> Any:
        shared = looking_back.share(c)
        return [_look_back(row, c, shared, known) for row in rows]

    def by_core(rows: list[Row], c: Coefficients) -> Any:
        return [_core(row, c, known) for row in rows]

    if not looks_back:
        return by_core(rows, c)
    return jax.lax.platform_dependent(rows, c, cpu=look_back, default=by_core)


@partial(jax.jit, static_argnums=3)
def _look_back(row: Row, c: Coefficients, shared: looking_back.Shared, known: _Known) -> Any:
    c = c if known.drives else c._replace(decay_drive=0.0)
    return looking_back.update(row, c, jnp.sqrt, known.where, shared)


@partial(jax.jit, static_argnums=2)
def _core(row: Row, c: Coefficients, known: _Known) -> Any:
    return core(row, c, known.where)


def core(row: Row, c: Coefficients, where: Any = jnp.where) -> tuple[Any, Any, Any]:
    """Return what to add to the parameter, and m and v after the update: the core's lines."""
    descent, m, v = momentum.move(row.theta, row.m, row.v, row.g, c, jnp.sqrt, where)
    return -descent, m, v


def join(parameter: Any, residual: Any) -> Any:
    """Return the float32 that a bfloat16 or float16 array and its int16 residual are."""
    return residuals.join(parameter, residual, parameter.dtype.name, _OPERATIONS)


def split(value: Any, dtype: Any) -> tuple[Any, Any]:
    """Return the array of a 16-bit dtype, and the int16 residual, that a float32 is made of."""
    return residuals.split(value, jnp.dtype(dtype).name, _OPERATIONS)


def to_float32(parameter: Any) -> Any:
    """Return a bfloat16 or float16 array as float32, from its bits."""
    bits = bitcast_convert_type(parameter, jnp.int16).astype(jnp.int32)
    return residuals.to_float32(bits, parameter.dtype.name, _OPERATIONS)


@jax.jit
def unpack(word: Any) -> tuple[Any, Any]:
    """Return the float32 momentum and second moment that an array of words holds."""
    return packed.unpack(word, _OPERATIONS)


@jax.jit
def pack(m: Any, v: Any, draw: Any) -> Any:
    """Return the words that hold a float32 momentum and second moment, rounded.

    Args:
        m: Momentum; array of any shape.
        v: Second moment, likewise.
        draw: Number of the draw, from ``innaprop_core.packed.draw``; of shape ().
    """
    draw = jnp.asarray(draw, jnp.int32)
    indices = jax.lax.iota(jnp.int32, m.size).reshape(m.shape)
    return packed.pack(
        m, v, packed.thresholds(indices, packed.turn_of(draw, _OPERATIONS)), _OPERATIONS
    )


_OPERATIONS = residuals.Operations(
    where=jnp.where,
    bits=lambda x: bitcast_convert_type(x, jnp.int32),
    real=lambda bits: bitcast_convert_type(bits, jnp.float32),
    integer=lambda x: x.astype(jnp.int32),
    floating=lambda x: x.astype(jnp.float32),
    to_float32=to_float32,
    narrow=lambda x, dtype: x.astype(dtype),
    round=jnp.round,
    shift=jnp.right_shift,
)
