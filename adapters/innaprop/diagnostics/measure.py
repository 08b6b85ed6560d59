"""Measurements of one parameter in one update: sums over its elements, in any framework.

All reported quantities follow from sums, which can be added over parameters, groups and processes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from innaprop_core import momentum
from innaprop_core.momentum import Coefficients

SUMS = (
    "elements",
    "parameter",
    "gradient",
    "update",
    "momentum",
    "scaled_gradient",
    "momentum_in_update",
    "momentum_and_gradient",
    "active",
    "at_floor",
    "stale",
    "overflow",
    "stalled",
    "decay_driven",
)
"""Names of the results of ``sums``, in order."""
SCALARS = ("gamma", "alpha", "beta", "sigma", "eps", "weight_decay")
"""The hyperparameters that a group has beside its sums."""
STALE = 1e-3
"""A gradient is stale if its ratio to the root of its second moment is at most this. Of normally
distributed ones 0.08 % are."""


class Operations(NamedTuple):
    """The functions needed of a framework, for arrays of any shape.

    Comparisons return 0 and 1 in their operands' dtype, so that sums count elements.
    """

    sqrt: Callable[[Any], Any]
    """The elementwise root."""
    finite: Callable[[Any], Any]
    """Which elements are finite."""
    less: Callable[[Any, Any], Any]
    """Where an array is less than an array or a number."""
    equal: Callable[[Any, Any], Any]
    """Where an array equals an array or a number."""
    total: Callable[[Any], Any]
    """The sum of all elements, of shape ()."""
    dot: Callable[[Any, Any], Any]
    """The sum of products, of shape ()."""
    where: Callable[[Any, Any, Any], Any] | None = None
    """``where(condition, x, y)``, if sigma may be a tensor. Default None: it is a number."""


def sums(
    theta: Any,
    m: Any,
    v: Any,
    g: Any,
    c: Coefficients,
    to: Operations,
    rounded: Callable[[Any], Any] | None = None,
) -> list[Any]:
    """Return the sums of one parameter for the update with these arrays.

    Args:
        theta: Parameter before the update, or its master weights; array of any shape.
        m: Momentum, like theta.
        v: Second moment, like theta.
        g: Gradient as used by the update, like theta.
        c: The scalars of the update.
        to: The framework's operations.
        rounded: Rounds an array like theta to the dtype in which it is stored. Default None: no
            rounding.

    Returns:
        A number for each name in ``SUMS``. The first is an int, the others have shape ().
    """
    elements = 1
    for length in theta.shape:
        elements *= int(length)
    v = momentum.average(v, g * g, c, to.where)
    root = to.sqrt(v / c.bias_correction)
    u = g / (root + c.eps)
    drives = not _is_zero(c.decay_drive)
    from_decay: Any = c.decay_drive * theta if drives else None
    if drives:
        m = m + from_decay
    update = c.gamma * m + c.impulse * u
    if not _is_zero(c.decay):
        update = update + c.decay * theta
    moved = theta - update
    if rounded is not None:
        moved, theta_stored = rounded(moved), rounded(theta)
    same = to.equal(moved, theta if rounded is None else theta_stored)
    idle, at_floor = to.equal(g, 0.0), to.less(root, c.eps)
    return [
        elements,
        to.dot(theta, theta),
        to.dot(g, g),
        to.dot(update, update),
        to.dot(m, m),
        to.dot(u, u),
        c.gamma * to.dot(m, update),
        to.dot(m, u),
        elements - to.total(idle),
        to.total(at_floor) - to.dot(at_floor, idle),
        elements - to.total(to.less(STALE * root, abs(g))),
        elements - to.total(to.finite(v)),
        to.total(same) - to.dot(same, to.equal(update, 0.0)),
        to.total(to.less(abs(c.drive * u), abs(from_decay))) if drives else 0.0,
    ]


def _is_zero(scalar: Any) -> bool:
    return isinstance(scalar, float) and scalar == 0
