"""Algorithm 1 of arXiv 2410.05871, as printed: the ground truth.

Lay ``step`` beside the paper. It is evaluated as it stands there, which costs digits: psi
holds the motion as a small difference of numbers of the size of theta. Compute in
``innaprop_core.momentum``; come here to ask what is true.
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
    """Make update number k.

    Nothing is written in place. The scalars may be Python floats, or any type whose
    arithmetic with the arrays' elements is defined: with arrays of ``decimal.Decimal`` and
    Decimal scalars the result has as many digits as the decimal context.

    Args:
        theta: Parameter; array of any shape, real floating dtype, any array-API namespace.
        psi: Auxiliary variable, like theta; ``initial_psi`` before the first update.
        v: Second moment, like theta; zeros before the first update.
        g: Gradient at theta, like theta.
        k: Number of this update, 1 at the first.
        gamma: Step size of this update.
        alpha: Viscous damping.
        beta: Newtonian damping, > gamma.
        sigma: Memory of the second moment.
        eps: Added outside the root.
        weight_decay: The paper's lambda.
        decay_momentum: Whether the decay reaches the momentum, as printed. Without, psi decays
            along with theta, which leaves the momentum as it is. Default True.

    Returns:
        theta, psi and v after the update, of the input's shape, dtype and device.

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
