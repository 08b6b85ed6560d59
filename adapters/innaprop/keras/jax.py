"""The update of a JAX array, by the fastest form for its platform."""

from typing import Any

import jax
import jax.numpy as jnp

from innaprop.forms import Row, functional, looking_back
from innaprop.keras import options

WORDS = "int32"
"""Dtype of packed words."""


def number(value: Any) -> float | None:
    """Return a scalar's value, or None if it is traced."""
    return None if isinstance(value, jax.core.Tracer) else float(value)


def unpack(words: Any) -> tuple[Any, Any]:
    """Return the float32 momentum and second moment packed in an array of words."""
    unpacked: tuple[Any, Any] = functional.unpack(words)
    return unpacked


def pack(m: Any, v: Any, draw: Any) -> Any:
    """Pack a float32 momentum and second moment into words, with stochastic rounding."""
    return functional.pack(jnp.asarray(m), jnp.asarray(v), draw)


def updated(optimizer: Any, row: Row, decay: float, rate: Any) -> tuple[Any, Any, Any, Any]:
    """Return a parameter, its momentum, second moment and residual after an update.

    Args:
        optimizer: The optimizer, for its options and step count.
        row: Arrays; the gradient of any floating dtype. If the second moment is None, the momentum
            is packed words, and is returned as such.
        decay: The parameter's weight decay.
        rate: Step size of this update, a 0-d array.
    """
    theta, g, m, v, residual = row
    packs = v is None
    if packs:
        m, v = unpack(m)
    master = theta.astype(m.dtype) if residual is None else functional.join(theta, residual)
    looks_back = looking_back.is_valid(
        alpha=optimizer.alpha,
        beta=optimizer.beta,
        weight_decay=decay,
        decay_momentum=optimizer.decay_momentum,
    )
    c = options.coefficients_in(m.dtype, optimizer, decay, rate)
    change, m, v = functional.update(Row(master, g.astype(m.dtype), m, v), c, looks_back)
    if packs:
        m, v = pack(m, v, c.draw), None
    if residual is None:
        return master + change, m, v, None
    parameter, residual = functional.split(master + change, theta.dtype)
    return parameter, m, v, residual
