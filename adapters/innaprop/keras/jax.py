"""The update of a JAX array, by the form that its platform makes most of."""

from typing import Any

import jax
import jax.numpy as jnp

from innaprop.forms import Row, functional, looking_back
from innaprop.keras import options

WORDS = "int32"
"""Dtype of packed states."""


def number(value: Any) -> float | None:
    """Return a scalar's value, or None while it is traced."""
    return None if isinstance(value, jax.core.Tracer) else float(value)


def unpack(words: Any) -> tuple[Any, Any]:
    """Return the float32 momentum and second moment that an array of words holds."""
    unpacked: tuple[Any, Any] = functional.unpack(words)
    return unpacked


def pack(m: Any, v: Any, draw: Any) -> Any:
    """Return the words that a float32 momentum and second moment are packed into, rounded."""
    return functional.pack(jnp.asarray(m), jnp.asarray(v), draw)


def updated(optimizer: Any, row: Row, decay: float, rate: Any) -> tuple[Any, Any, Any, Any]:
    """Return a parameter, its momentum, second moment and residual after an update.

    Args:
        optimizer: Whose options and count these are.
        row: Arrays; the gradient of any floating dtype. The momentum may be words, with None for
            the second moment, and is returned so.
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
