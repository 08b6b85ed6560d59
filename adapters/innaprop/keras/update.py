"""The update in the order in which XLA can make it in place.

XLA on the CPU writes one loop per output, each over its own old value. In the core's lines the
new momentum needs the old parameter and the new parameter the old momentum: so XLA keeps a copy
of one. Here the new momentum takes the new parameter, and goes back from there to the old one.
"""

from collections.abc import Callable
from typing import Any

from innaprop_core import momentum
from innaprop_core.momentum import Coefficients


def can_go_back(alpha: Any, beta: Any, weight_decay: float) -> bool:
    """Return whether ``step`` is as exact as the core's at every step size below beta.

    Going back divides by 1 - gamma lambda (1 + gamma (1 - alpha beta) / beta). This says whether
    that is at least one half. It is not known for schedules.
    """
    if callable(alpha) or callable(beta):
        return False
    return bool(weight_decay * beta * max(0.5, abs(2 - alpha * beta)) <= 0.5)


def step(
    theta: Any,
    m: Any,
    v: Any,
    g: Any,
    c: Coefficients,
    sqrt: Callable[[Any], Any],
) -> tuple[Any, Any, Any]:
    """Make one update: the arguments and results of ``innaprop_core.momentum.step``.

    u stands in two forms that a compiler does not take for one, so that each output's loop computes
    it and no array is made for it.

    Source: arXiv 2410.05871, Algorithm 1, in momentum coordinates.
    """
    taken = c.decay + c.gamma * c.decay_drive
    back = (1 - c.friction) * c.decay_drive / (1 - taken)
    root = c.bias_correction**0.5

    v = momentum.average(v, g * g, c)
    u = g / (sqrt(v) + c.eps * root)  # The u of the core is root times this one.
    theta = theta - (taken * theta + c.gamma * m + c.impulse * root * u)
    drive = c.drive + back * c.impulse
    u = g / (sqrt(v / c.bias_correction) + c.eps)
    # The old theta is (theta + gamma m + impulse u) / (1 - taken), with the core's u.
    return theta, m + ((back * c.gamma - c.friction) * m + back * theta + drive * u), v
