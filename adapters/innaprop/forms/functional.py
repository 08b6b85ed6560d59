"""JAX: pure functions with the core's formula, or with that of ``looking_back`` on the CPU.

Compilers for accelerators fuse all results into one loop, which suits the core's formula best. The
functions are jitted: arrays of equal shape are traced once, and an update outside ``jax.jit`` is
still a single computation.
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
    """Return the same for every row, compiled as one computation.

    Args:
        rows: As in ``update``, each of any shape, all of one dtype.
        c: As in ``update``.
        looks_back: As in ``update``.
    """
    # Inside the jitted function these numbers would be tracers.
    known = _Known(
        drives=not looking_back.is_zero(c.decay_drive),
        remembers=c.averaging <= c.memory if isinstance(c.memory, Real) else None,
    )
    changed: list[tuple[Any, Any, Any]] = _update_all_jitted(list(rows), c, looks_back, known)
    return changed


class _Known(NamedTuple):
    """Static facts about the scalars, known when a function is traced."""

    drives: bool
    """Whether weight decay may change the momentum."""
    remembers: bool | None
    """Whether v has a larger weight than g^2 in the new v; None if sigma is traced."""

    def where(self, condition: Any, x: Any, y: Any) -> Any:
        if self.remembers is None:
            return jnp.where(condition, x, y)
        return x if self.remembers else y


# The platform switch and the shared scalars are outside the loop over rows: repeated per row, they
# would be most of what XLA has to compile. A row is a jitted function, traced once per shape.
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
    """Return what to add to the parameter, and m and v after the update, by the core's formula."""
    descent, m, v = momentum.move(row.theta, row.m, row.v, row.g, c, jnp.sqrt, where)
    return -descent, m, v


def join(parameter: Any, residual: Any) -> Any:
    """Return the float32 value of a bfloat16 or float16 array and its int16 residual."""
    return residuals.join(parameter, residual, parameter.dtype.name, _OPERATIONS)


def split(value: Any, dtype: Any) -> tuple[Any, Any]:
    """Split a float32 into an array of a 16-bit dtype and its int16 residual."""
    return residuals.split(value, jnp.dtype(dtype).name, _OPERATIONS)


def to_float32(parameter: Any) -> Any:
    """Return a bfloat16 or float16 array as float32, by operations on its bits."""
    bits = bitcast_convert_type(parameter, jnp.int16).astype(jnp.int32)
    return residuals.to_float32(bits, parameter.dtype.name, _OPERATIONS)


@jax.jit
def unpack(word: Any) -> tuple[Any, Any]:
    """Return the float32 momentum and second moment packed in an array of words."""
    return packed.unpack(word, _OPERATIONS)


@jax.jit
def pack(m: Any, v: Any, draw: Any) -> Any:
    """Pack a float32 momentum and second moment into words, with stochastic rounding.

    Args:
        m: Momentum; array of any shape.
        v: Second moment, likewise.
        draw: Number of the random draw, from ``innaprop_core.packed.draw``; of shape ().
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
