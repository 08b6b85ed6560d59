"""The hyperparameters of a case.

The suite does not use the core's class, since a mistake there must not change the cases.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Hyperparameters:
    """The hyperparameters of Algorithm 1 as plain numbers, with the paper's names.

    Args:
        gamma: Step size, below beta. Default 1e-3.
        alpha: Viscous damping. Default 0.1.
        beta: Newtonian damping. Default 0.9.
        sigma: Memory of the second moment. Default 0.999.
        eps: Added to the root of the second moment. Default 1e-8.
        weight_decay: The paper's lambda. Default 0.01.
        decay_momentum: Whether weight decay changes the momentum. Default True, as printed.

    Source: arXiv 2410.05871, Algorithm 1; the defaults are those of section 3.
    """

    gamma: float = 1e-3
    alpha: float = 0.1
    beta: float = 0.9
    sigma: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.01
    decay_momentum: bool = True
