"""XLA on the CPU: one loop for each result, written in place over the old value.

XLA on the CPU writes one loop for each of theta, m and v. In the core's formula the new m needs the
old theta, and the new theta the old m. XLA therefore copies one of them, and stores u, which two
loops need. Here the new m is computed from the new theta, by recovering the old one::

    old theta = (new theta + gamma m + gamma beta u) / left
    left = 1 - gamma lambda (1 + gamma (1 - alpha beta) / beta)

``left`` is the fraction of the old theta that is left in the new one. If it is small, the division
loses digits. Whether to use this form must be known when a function is traced, since a branch
inside the compiled function makes XLA copy again. ``is_valid`` decides.
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
    valid="if is_valid says that half of the old parameter is left in the new one",
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
    """Return whether ``update`` is guaranteed to be as accurate as the core's formula.

    It is if at least half of the old parameter is left. With x = gamma / beta and p = alpha beta
    that is lambda beta (x + (1 - p) x^2) <= 1/2. For x in [0, 1] the left side is at most
    lambda beta max(1/2, 2 - p): if p <= 3/2 it increases up to x = 1, and if p is larger it has a
    maximum of lambda beta / (4 (p - 1)).

    Args:
        alpha: Viscous damping; a number, or anything else if it is not known yet.
        beta: Newtonian damping, likewise.
        weight_decay: The paper's lambda, likewise.
        decay_momentum: Whether weight decay changes the momentum. If not, the old parameter is not
            needed.
        gamma: Step size, likewise. Default None: any value below beta.
    """
    if not decay_momentum or is_zero(weight_decay):
        return True
    if not all(isinstance(x, Real) for x in (alpha, beta, weight_decay)):
        return False
    if not isinstance(gamma, Real):
        return bool(weight_decay * beta * max(0.5, 2 - alpha * beta) <= 0.5)
    return bool(gamma * weight_decay * (1 + gamma * (1 - alpha * beta) / beta) <= 0.5)


class Shared(NamedTuple):
    """Scalars that all rows of an update share."""

    taken: Any
    """gamma lambda (1 + gamma (1 - alpha beta) / beta): the fraction of theta that is removed."""
    eps: Any
    """Added to the root of v without bias correction."""
    impulse: Any
    """Factor of the uncorrected u (with this eps) in the change of theta."""
    back: Any
    """Factor of the new theta in the change of m."""
    kept: Any
    """Factor of the old m in the change of m."""
    drive: Any
    """Factor of u in the change of m."""


def share(c: Coefficients) -> Shared:
    """Return the scalars that ``update`` would otherwise compute again for each row."""
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

    u is written in two different ways, so that the compiler does not recognise a common
    subexpression and store it in an array for both loops.

    Args:
        row: Arrays of one dtype, without a residual.
        c: The scalars of this update. If weight decay does not change the momentum,
            ``decay_drive`` must be the number 0.
        sqrt: The elementwise root for these arrays.
        where: As in ``innaprop_core.momentum.average``.
        shared: What ``share`` returned for these scalars. Default None: computed here.

    Source: arXiv 2410.05871, Algorithm 1, in momentum coordinates.
    """
    theta, g, m, v, _ = row
    s = share(c) if shared is None else shared
    v = momentum.average(v, g * g, c, where)
    u = g / (sqrt(v) + s.eps)  # The core's u, divided by the root of the bias correction.
    change = -(s.taken * theta + c.gamma * m + s.impulse * u)
    u = g / (sqrt(v / c.bias_correction) + c.eps)
    if is_zero(c.decay_drive):
        return change, m - c.friction * m + c.drive * u, v
    return change, m + (s.kept * m + s.back * (theta + change) + s.drive * u), v


def is_zero(scalar: Any) -> bool:
    """Return whether a scalar is known to be zero."""
    return isinstance(scalar, Real) and scalar == 0
