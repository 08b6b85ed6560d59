"""Algorithm 1 of arXiv 2410.05871, line by line as printed.

``step`` is meant to be compared with the paper. In floating point it loses digits to
cancellation: psi and theta are of the same size, and their small difference is the motion. Use
``innaprop_core.momentum`` to compute, and this module with exact numbers as the reference.
"""

from typing import Any

from array_api_compat import array_namespace


def initial_psi(theta: Any, *, alpha: Any, beta: Any) -> Any:
    """Return psi_0 = (1 - alpha beta) theta_0, from theta before the first weight decay.

    Args:
        theta: Array of any shape, real floating dtype, any array-API namespace.
        alpha: Viscous damping, a scalar.
        beta: Newtonian damping, a scalar.

    Returns:
        Array of theta's shape, dtype and device.

    Source: arXiv 2410.05871, Algorithm 1, initialization.
    """
    return (1 - alpha * beta) * theta


def step(
    theta: Any,
    psi: Any,
    v: Any,
    g: Any,
    *,
    k: int,
    gamma: Any,
    alpha: Any,
    beta: Any,
    sigma: Any,
    eps: Any,
    weight_decay: Any,
    decay_momentum: bool = True,
) -> tuple[Any, Any, Any]:
    """Return theta, psi and v after update number k; the inputs are not modified.

    The scalars may be Python floats, or of any type that the arrays' elements can be combined
    with: arrays of ``decimal.Decimal`` and Decimal scalars are computed to the digits of the
    decimal context.

    Args:
        theta: Parameter; array of any shape, real floating dtype, any array-API namespace.
        psi: Auxiliary variable, like theta; starts as ``initial_psi``.
        v: Second moment, like theta; starts at zero.
        g: Gradient at theta, like theta.
        k: Number of this update, starting at 1.
        gamma: Step size of this update.
        alpha: Viscous damping.
        beta: Newtonian damping, greater than gamma.
        sigma: Memory of the second moment.
        eps: Added to the root of the second moment, outside the root.
        weight_decay: The paper's lambda.
        decay_momentum: Whether weight decay changes the momentum, as in the printed algorithm. If
            False, psi is decayed together with theta, so that the momentum stays the same.
            Default True.

    Returns:
        theta, psi and v after the update, with the input's shape, dtype and device.

    Source: arXiv 2410.05871, Algorithm 1.
    """
    xp = array_namespace(theta, psi, v, g)
    if not decay_momentum:
        psi = psi - weight_decay * gamma * (1 - alpha * beta) * theta
    theta = (1 - weight_decay * gamma) * theta
    v = sigma * v + (1 - sigma) * g**2
    v_hat = v / (1 - sigma**k)
    u = g / (xp.sqrt(v_hat) + eps)
    psi = (1 - gamma / beta) * psi + gamma * (1 / beta - alpha) * theta
    theta = (
        (1 + gamma * (1 - alpha * beta) / (beta - gamma)) * theta
        - gamma / (beta - gamma) * psi
        - gamma * beta * u
    )
    return theta, psi, v
