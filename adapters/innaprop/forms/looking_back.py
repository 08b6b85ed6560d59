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
from typing import Any, NamedTuple

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


class Shared(NamedTuple):
    """Scalars that all rows of an update have in common."""

    taken: Any
    """gamma lambda (1 + gamma (1 - alpha beta) / beta): the share that theta loses."""
    eps: Any
    """Added to the root of v where that is not corrected."""
    impulse: Any
    """How much of the u that has this eps goes into theta."""
    back: Any
    """How much of the old theta goes into m."""
    kept: Any
    """How much of the old m is added to m."""
    drive: Any
    """How much of u goes into m."""


def share(c: Coefficients) -> Shared:
    """Return the scalars that ``update`` would compute for each row again."""
    taken = c.decay + c.gamma * c.decay_drive
    root = c.bias_correction**0.5
    back = (1 - c.friction) * c.decay_drive / (1 - taken)
    return Shared(
        taken=taken,
        eps=c.eps * root,
        impulse=c.impulse * root,
        back=back,
        kept=back * c.gamma - c.friction,
        drive=c.drive + back * c.impulse,
    )


def update(
    row: Row,
    c: Coefficients,
    sqrt: Callable[[Any], Any],
    where: Callable[[Any, Any, Any], Any] | None = None,
    shared: Shared | None = None,
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
        shared: What ``share`` returned for these scalars; None computes it here. Default None.

    Source: arXiv 2410.05871, Algorithm 1, in momentum coordinates.
    """
    theta, g, m, v, _ = row
    s = share(c) if shared is None else shared
    v = momentum.average(v, g * g, c, where)
    u = g / (sqrt(v) + s.eps)  # The core's u is the root of the bias correction times this one.
    change = -(s.taken * theta + c.gamma * m + s.impulse * u)
    u = g / (sqrt(v / c.bias_correction) + c.eps)
    if is_zero(c.decay_drive):
        return change, m - c.friction * m + c.drive * u, v
    return change, m + (s.kept * m + s.back * (theta + change) + s.drive * u), v


def is_zero(scalar: Any) -> bool:
    """Return whether a scalar is known to be zero."""
    return isinstance(scalar, Real) and scalar == 0
