"""The iterates of Algorithm 1 in momentum coordinates: the form to compute in.

With m = (psi - (1 - alpha beta) theta) / beta in place of psi, Algorithm 1 becomes, exactly
and for any schedule::

    m'    = m + gamma lambda (1 - alpha beta) / beta * theta
    theta = theta - (gamma lambda theta + gamma m' + gamma beta u)
    m     = m' - alpha gamma m' + gamma (1 - alpha beta) u

where theta on the right is the one from before the weight decay and m starts at zero. Without
``decay_momentum`` m' is m: the decay stays out of the momentum. No
small difference of large numbers is left, and beta - gamma stands in no denominator.

``coefficients`` and ``step`` use arithmetic operators only (the root and expm1 are handed
in), so that the arrays and scalars of every framework can pass through them. Every adapter
takes its coefficients from here, and its update too, unless speed asks for the same lines in
another form: then the conformance suite holds that form to this one.
"""

import math
from collections.abc import Callable
from numbers import Real
from typing import Any, NamedTuple

from array_api_compat import array_namespace

from innaprop_core import packed


class Coefficients(NamedTuple):
    """The scalars of one update: numbers, or 0-d tensors where the step size is one."""

    gamma: Any
    """Step size: how much of m' goes into theta."""
    decay: Any
    """gamma lambda: the share of theta that weight decay takes; the number 0 where lambda is."""
    decay_drive: Any
    """gamma lambda (1 - alpha beta) / beta: the share of theta that decay gives to m; the number
    0 where lambda is, or the decay stays out of the momentum."""
    impulse: Any
    """gamma beta: how much of u goes into theta at once."""
    friction: Any
    """alpha gamma: the share of m' that viscous damping takes."""
    drive: Any
    """gamma (1 - alpha beta): how much of u goes into m."""
    memory: Any
    """sigma: the weight of the old v in the new one."""
    averaging: Any
    """1 - sigma: the weight of the new squared gradient in v."""
    bias_correction: Any
    """1 - sigma^k: the weight that v has gathered so far."""
    eps: Any
    """Added to the root of the corrected second moment."""
    draw: Any = 0.0
    """Number of the draw by which packed states are rounded; 0 where none are."""


def bias_correction(
    sigma: Any,
    k: Any,
    expm1: Callable[[Any], Any] = math.expm1,
    log: Callable[[Any], Any] = math.log,
) -> Any:
    """Return 1 - sigma^k without the cancellation that the plain difference suffers.

    At k = 1 and sigma = 0.999 the plain difference in float32 is off by 1.3e-5 (relative).

    Args:
        sigma: Memory of the second moment in [0, 1); a number, or what ``log`` takes.
        k: Number of the update, 1 at the first; a number or a floating 0-d tensor.
        expm1: The exponential minus one for k's type. Default ``math.expm1``.
        log: The natural logarithm for sigma's type. Default ``math.log``.

    Returns:
        A number, or a 0-d tensor of k's dtype; the number 1.0 for the number sigma = 0.

    Source: arXiv 2410.05871, Algorithm 1, bias correction.
    """
    if isinstance(sigma, Real) and sigma == 0:
        return 1.0
    return -expm1(k * log(sigma))


def coefficients(
    k: Any,
    *,
    gamma: Any,
    alpha: Any,
    beta: Any,
    sigma: Any,
    eps: Any,
    weight_decay: Any,
    decay_momentum: bool = True,
    seed: int | None = None,
    expm1: Callable[[Any], Any] = math.expm1,
    log: Callable[[Any], Any] = math.log,
) -> Coefficients:
    """Return the scalars of update number k.

    Args:
        k: Number of the update, 1 at the first; a number or a floating 0-d tensor.
        gamma: Step size of this update; a number or a floating 0-d tensor.
        alpha: Viscous damping; a number or a floating 0-d tensor.
        beta: Newtonian damping; a number or a floating 0-d tensor.
        sigma: Memory of the second moment in [0, 1); a number, or what ``log`` takes.
        eps: Added to the root of the second moment.
        weight_decay: The paper's lambda.
        decay_momentum: Whether the decay reaches the momentum too. Default True, as printed.
        seed: Where the draws begin by which packed states are rounded. Default None: the state is
            not packed.
        expm1: The exponential minus one for k's type. Default ``math.expm1``.
        log: The natural logarithm for sigma's type. Default ``math.log``.

    Source: arXiv 2410.05871, Algorithm 1, in momentum coordinates.
    """
    viscous = 1 - alpha * beta
    decays = not (isinstance(weight_decay, Real) and weight_decay == 0)
    drives = decays and decay_momentum
    return Coefficients(
        gamma=gamma,
        decay=gamma * weight_decay if decays else 0.0,
        decay_drive=gamma * (weight_decay * (viscous / beta)) if drives else 0.0,
        impulse=gamma * beta,
        friction=gamma * alpha,
        drive=gamma * viscous,
        memory=sigma,
        averaging=1 - sigma,
        bias_correction=bias_correction(sigma, k, expm1, log),
        eps=eps,
        draw=0.0 if seed is None else packed.draw(k, seed),
    )


def step(
    theta: Any,
    m: Any,
    v: Any,
    g: Any,
    c: Coefficients,
    sqrt: Callable[[Any], Any] | None = None,
) -> tuple[Any, Any, Any]:
    """Make one update. Nothing is written in place.

    The decay is subtracted: multiplying by 1 - gamma lambda, rounded to the dtype, would
    bias it in one direction at every update.

    A g^2 that overflows its dtype makes the parameter NaN at the next update. An element whose
    gradients have all been zero needs eps > 0: its u is 0 / eps.

    Args:
        theta: Parameter; array or tensor of any shape, real floating dtype.
        m: Momentum, like theta; zeros before the first update.
        v: Second moment, like theta; zeros before the first update.
        g: Gradient at theta, like theta.
        c: The scalars of this update, from ``coefficients``.
        sqrt: The elementwise root for these arrays. Default: that of their array-API
            namespace.

    Returns:
        theta, m and v after the update, of the input's shape, dtype and device.

    Source: arXiv 2410.05871, Algorithm 1, in momentum coordinates.
    """
    descent, m, v = move(theta, m, v, g, c, sqrt)
    return theta - descent, m, v


def move(
    theta: Any,
    m: Any,
    v: Any,
    g: Any,
    c: Coefficients,
    sqrt: Callable[[Any], Any] | None = None,
    where: Callable[[Any, Any, Any], Any] | None = None,
) -> tuple[Any, Any, Any]:
    """Return what ``step`` subtracts from theta, and m and v after the update.

    Args:
        theta: As in ``step``.
        m: As in ``step``.
        v: As in ``step``.
        g: As in ``step``.
        c: As in ``step``.
        sqrt: As in ``step``.
        where: As in ``average``.

    Source: arXiv 2410.05871, Algorithm 1, in momentum coordinates.
    """
    if sqrt is None:
        sqrt = array_namespace(theta, m, v, g).sqrt
    v = average(v, g * g, c, where)
    u = g / (sqrt(v / c.bias_correction) + c.eps)
    m = m + c.decay_drive * theta
    descent = c.decay * theta + c.gamma * m + c.impulse * u
    m = m - c.friction * m + c.drive * u
    return descent, m, v


def average(
    v: Any,
    squared: Any,
    c: Coefficients,
    where: Callable[[Any, Any, Any], Any] | None = None,
) -> Any:
    """Return sigma v + (1 - sigma) g^2.

    Not as a weighted sum: sigma and 1 - sigma, each rounded to float32, do not add up to one,
    which biases v by 1.3e-5 at sigma = 0.999. The step is taken from the side of the larger
    weight, since what the other side rounds away would be of that side's size.

    Args:
        v: Second moment; array or tensor of any shape, real floating dtype.
        squared: The squared gradient, like v.
        c: The scalars of this update.
        where: ``where(condition, x, y)`` for these arrays, if sigma is a tensor whose value is
            not known yet. Default: sigma is a number.

    Returns:
        Array like v.

    Source: arXiv 2410.05871, Algorithm 1.
    """
    if where is not None:
        remembers = c.averaging <= c.memory
        near, far = where(remembers, v, squared), where(remembers, squared, v)
        return near + where(remembers, c.averaging, c.memory) * (far - near)
    if c.averaging <= c.memory:
        return v + c.averaging * (squared - v)
    return squared + c.memory * (v - squared)


def psi_from_momentum(theta: Any, m: Any, *, alpha: Any, beta: Any) -> Any:
    """Return the paper's psi = beta m + (1 - alpha beta) theta.

    Args:
        theta: Parameter; array or tensor of any shape, real floating dtype.
        m: Momentum, like theta.
        alpha: Viscous damping, a scalar.
        beta: Newtonian damping, a scalar.

    Returns:
        Array like theta.

    Source: arXiv 2410.05871, Algorithm 1, in momentum coordinates.
    """
    return beta * m + (1 - alpha * beta) * theta


def momentum_from_psi(theta: Any, psi: Any, *, alpha: Any, beta: Any) -> Any:
    """Return m = (psi - (1 - alpha beta) theta) / beta, the inverse of ``psi_from_momentum``.

    Args:
        theta: Parameter; array or tensor of any shape, real floating dtype.
        psi: The paper's auxiliary variable, like theta.
        alpha: Viscous damping, a scalar.
        beta: Newtonian damping, a scalar.

    Returns:
        Array like theta.

    Source: arXiv 2410.05871, Algorithm 1, in momentum coordinates.
    """
    return (psi - (1 - alpha * beta) * theta) / beta
