"""Algorithm 1 in momentum form, which is numerically stable.

With m = (psi - (1 - alpha beta) theta) / beta in place of psi, Algorithm 1 becomes, exactly
and for any schedule::

    m'    = m + gamma lambda (1 - alpha beta) / beta * theta
    theta = theta - (gamma lambda theta + gamma m' + gamma beta u)
    m     = m' - alpha gamma m' + gamma (1 - alpha beta) u

where theta on the right is the value before weight decay, and m starts at zero. If
``decay_momentum`` is False, m' = m: weight decay does not change the momentum. This form has no
cancellation, and does not divide by beta - gamma.

``coefficients`` and ``step`` use arithmetic operators only, and take functions such as sqrt and
expm1 as arguments, so that they accept the arrays and scalars of every framework. Every adapter
takes its coefficients from here, and its update too, except where a kernel evaluates the same
formula faster. The conformance suite checks those kernels.
"""

import math
from collections.abc import Callable
from numbers import Real
from typing import Any, NamedTuple

from array_api_compat import array_namespace

from innaprop_core import packed


class Coefficients(NamedTuple):
    """The scalars of one update: numbers, or 0-d tensors if the step size is a tensor."""

    gamma: Any
    """Step size: the factor of m' in theta's update."""
    decay: Any
    """gamma lambda: the fraction of theta that weight decay removes. The number 0 if lambda is the
    number 0."""
    decay_drive: Any
    """gamma lambda (1 - alpha beta) / beta: the factor of theta in m'. The number 0 if lambda is
    the number 0, or if ``decay_momentum`` is False."""
    impulse: Any
    """gamma beta: the factor of u in theta's update."""
    friction: Any
    """alpha gamma: the fraction of m' that viscous damping removes."""
    drive: Any
    """gamma (1 - alpha beta): the factor of u in m's update."""
    memory: Any
    """sigma: the weight of the old v in the new v."""
    averaging: Any
    """1 - sigma: the weight of the squared gradient in the new v."""
    bias_correction: Any
    """1 - sigma^k: the total weight of all squared gradients in v."""
    eps: Any
    """Added to the root of the bias-corrected second moment."""
    draw: Any = 0.0
    """Number of the random draw for the stochastic rounding of a packed state; 0 if the state is
    not packed."""


def bias_correction(
    sigma: Any,
    k: Any,
    expm1: Callable[[Any], Any] = math.expm1,
    log: Callable[[Any], Any] = math.log,
) -> Any:
    """Return 1 - sigma^k, computed without cancellation.

    Computed as 1 - sigma**k in float32, it has a relative error of 1.3e-5 at k = 1 and
    sigma = 0.999.

    Args:
        sigma: Memory of the second moment in [0, 1); a number, or a type that ``log`` accepts.
        k: Number of the update, starting at 1; a number or a floating 0-d tensor.
        expm1: exp(x) - 1 for k's type. Default ``math.expm1``.
        log: The natural logarithm for sigma's type. Default ``math.log``.

    Returns:
        A number, or a 0-d tensor of k's dtype; the number 1.0 if sigma is the number 0.

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
        k: Number of the update, starting at 1; a number or a floating 0-d tensor.
        gamma: Step size of this update; a number or a floating 0-d tensor.
        alpha: Viscous damping; a number or a floating 0-d tensor.
        beta: Newtonian damping; a number or a floating 0-d tensor.
        sigma: Memory of the second moment in [0, 1); a number, or a type that ``log`` accepts.
        eps: Added to the root of the second moment.
        weight_decay: The paper's lambda.
        decay_momentum: Whether weight decay changes the momentum. Default True, as printed.
        seed: Seed of the stochastic rounding of a packed state. Default None: the state is not
            packed.
        expm1: exp(x) - 1 for k's type. Default ``math.expm1``.
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
    """Return theta, m and v after one update; the inputs are not modified.

    Weight decay is subtracted. Multiplying by 1 - gamma lambda instead, rounded to the dtype,
    would make the same error in the same direction at every update.

    If g^2 overflows its dtype, the parameter becomes NaN at the next update. An element whose
    gradients have all been zero needs eps > 0, since its u is 0 / eps.

    Args:
        theta: Parameter; array or tensor of any shape, real floating dtype.
        m: Momentum, like theta; starts at zero.
        v: Second moment, like theta; starts at zero.
        g: Gradient at theta, like theta.
        c: The scalars of this update, from ``coefficients``.
        sqrt: The elementwise square root for these arrays. Default: that of their array-API
            namespace.

    Returns:
        theta, m and v after the update, with the input's shape, dtype and device.

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
    """Return the amount that ``step`` subtracts from theta, and m and v after the update.

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

    It is computed as an interpolation, v + (1 - sigma) (g^2 - v), and not as a weighted sum: the
    two weights, each rounded to float32, do not add up to 1, which biases v by 1.3e-5 at
    sigma = 0.999. For sigma < 1/2 the interpolation starts from g^2, so that the rounding error is
    relative to the term of larger weight.

    Args:
        v: Second moment; array or tensor of any shape, real floating dtype.
        squared: The squared gradient, like v.
        c: The scalars of this update.
        where: ``where(condition, x, y)`` for these arrays; needed if sigma is a tensor whose value
            is not known while tracing. Default None: sigma is a number.

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
