"""JAX: the core's own lines, or on a CPU those that look back, as functions of arrays.

Compilers for accelerators make one loop for all results, which the core's lines are best for. The
functions are jitted, so that many arrays of one shape are traced once, and an update that is not
compiled as a whole still takes one computation per array.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.lax import bitcast_convert_type

from innaprop.forms import Form, Row, looking_back, residual
from innaprop_core import momentum
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
    # A number that is traced is no longer known to be zero.
    drives = not looking_back.is_zero(c.decay_drive)
    changed: tuple[Any, Any, Any] = _update(row, c, looks_back, drives)
    return changed


@partial(jax.jit, static_argnums=(2, 3))
def _update(row: Row, c: Coefficients, looks_back: bool, drives: bool) -> Any:
    def look_back(row: Row, c: Coefficients) -> Any:
        known = c if drives else c._replace(decay_drive=0.0)
        return looking_back.update(row, known, jnp.sqrt, jnp.where)

    if not looks_back:
        return core(row, c)
    return jax.lax.platform_dependent(row, c, cpu=look_back, default=core)


def core(row: Row, c: Coefficients) -> tuple[Any, Any, Any]:
    """Return what to add to the parameter, and m and v after the update: the core's lines."""
    descent, m, v = momentum.move(row.theta, row.m, row.v, row.g, c, jnp.sqrt, jnp.where)
    return -descent, m, v


def join(parameter: Any, remainder: Any) -> Any:
    """Return the float32 that a bfloat16 or float16 array and its int16 residual are."""
    return residual.join(parameter, remainder, parameter.dtype.name, _OPERATIONS)


def split(value: Any, dtype: Any) -> tuple[Any, Any]:
    """Return the array of a 16-bit dtype, and the int16 residual, that a float32 is made of."""
    return residual.split(value, jnp.dtype(dtype).name, _OPERATIONS)


def widen(parameter: Any) -> Any:
    """Return a bfloat16 or float16 array as float32, from its bits."""
    bits = bitcast_convert_type(parameter, jnp.int16).astype(jnp.int32)
    return residual.widen(bits, parameter.dtype.name, _OPERATIONS)


_OPERATIONS = residual.Operations(
    where=jnp.where,
    bits=lambda x: bitcast_convert_type(x, jnp.int32),
    real=lambda bits: bitcast_convert_type(bits, jnp.float32),
    integer=lambda x: x.astype(jnp.int32),
    floating=lambda x: x.astype(jnp.float32),
    widen=widen,
    narrow=lambda x, dtype: x.astype(dtype),
    round=jnp.round,
)
