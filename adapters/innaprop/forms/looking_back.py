"""XLA on the CPU: every result in a loop of its own, written over its predecessor.

XLA on the CPU makes one loop for each of theta, m and v. In the core's lines the new m needs the
old theta, and the new theta the old m: so XLA copies one of them, and stores u, which two loops
need. Here the new m takes the new theta, and looks back from there to the old one::

    old theta = (new theta + gamma m + gamma beta u) / remainder
    remainder = 1 - gamma lambda (1 + gamma (1 - alpha beta) / beta)

This costs digits where little of the old theta is left in the new one, and all of them where
nothing is. Which form runs has to be known when a function is traced: a choice inside the compiled
function makes XLA copy again. ``is_valid`` decides it.
"""

from collections.abc import Callable
from numbers import Real
from typing import Any

from innaprop.forms import Form, Row
from innaprop_core import momentum
from innaprop_core.momentum import Coefficients

FORM = Form(
    framework="jax or tensorflow",
    compiler="XLA",
    moves="52: 12 in the loop of v, 20 in those of theta and m",
    temporaries="0",
    valid="where is_valid says that half of the old parameter is left in the new one",
    in_place=False,
    reads_scalars=False,
)


def is_valid(
    *,
    alpha: Any,
    beta: Any,
    weight_decay: Any,
    decay_momentum: bool = True,
    gamma: Any = None,
) -> bool:
    """Return whether ``update`` is sure to be as exact as the core's lines.

    It is if the remainder is at least one half. With x = gamma / beta and p = alpha beta that is
    lambda beta (x + (1 - p) x^2) <= 1/2. Over all x in [0, 1] the left side is at most
    lambda beta max(1/2, 2 - p): it grows up to x = 1 if p <= 3/2, and has a maximum of
    lambda beta / (4 (p - 1)) if p is larger.

    Args:
        alpha: Viscous damping; a number, or anything else if it is not known yet.
        beta: Newtonian damping, likewise.
        weight_decay: The paper's lambda, likewise.
        decay_momentum: Whether the decay reaches the momentum. If not, nothing has to be found.
        gamma: Step size, likewise. Default None: any below beta.
    """
    if not decay_momentum or is_zero(weight_decay):
        return True
    if not all(isinstance(x, Real) for x in (alpha, beta, weight_decay)):
        return False
    if not isinstance(gamma, Real):
        return bool(weight_decay * beta * max(0.5, 2 - alpha * beta) <= 0.5)
    return bool(gamma * weight_decay * (1 + gamma * (1 - alpha * beta) / beta) <= 0.5)


def update(
    row: Row,
    c: Coefficients,
    sqrt: Callable[[Any], Any],
    where: Callable[[Any, Any, Any], Any] | None = None,
) -> tuple[Any, Any, Any]:
    """Return what to add to the parameter, and m and v after the update.

    u stands in two forms that a compiler does not take for one: it would make an array for what
    both loops use.

    Args:
        row: Arrays of one dtype, without a residual.
        c: The scalars of this update. Where the decay does not reach the momentum
            ``decay_drive`` has to be the number 0.
        sqrt: The elementwise root for these arrays.
        where: As in ``innaprop_core.momentum.average``.

    Source: arXiv 2410.05871, Algorithm 1, in momentum coordinates.
    """
    theta, g, m, v, _ = row
    taken = c.decay + c.gamma * c.decay_drive
    root = c.bias_correction**0.5
    v = momentum.average(v, g * g, c, where)
    u = g / (sqrt(v) + c.eps * root)  # The core's u is root times this one.
    change = -(taken * theta + c.gamma * m + c.impulse * root * u)
    u = g / (sqrt(v / c.bias_correction) + c.eps)
    if is_zero(c.decay_drive):
        return change, m - c.friction * m + c.drive * u, v
    back = (1 - c.friction) * c.decay_drive / (1 - taken)
    pushed = (back * c.gamma - c.friction) * m + back * (theta + change)
    return change, m + (pushed + (c.drive + back * c.impulse) * u), v


def is_zero(scalar: Any) -> bool:
    """Return whether a scalar is known to be zero."""
    return isinstance(scalar, Real) and scalar == 0
