"""Weight decay that reaches the momentum, and decay that does not, measured on the core."""

import matplotlib.pyplot as plt
import numpy as np

from innaprop_core import Hyperparameters, trajectory

GAMMA = 1e-3
STEPS = 120_000

figure, axes = plt.subplots()
for (alpha, beta), color in (((0.1, 0.9), "C0"), ((2.0, 2.0), "C1")):
    for decay_momentum in (True, False):
        scalars = Hyperparameters(GAMMA, alpha, beta, decay_momentum=decay_momentum)
        idle = trajectory(scalars, 1.0, (0.0 for _ in range(STEPS)), digits=None)
        label = f"({alpha:g}, {beta:g}), {decay_momentum}"
        # Both dashed curves lie on each other: the dashes of one fill the gaps of the other.
        style = "-" if decay_momentum else (4.0 * (alpha > 1), (4, 4))
        axes.plot(np.arange(1, STEPS + 1), idle.theta, ls=style, color=color, label=label)
axes.axhline(0.0, linewidth=0.6, color=axes.spines["left"].get_edgecolor())
axes.set_xlabel("number of the update, at a step size of 1e-3 and weight decay 0.01")
axes.set_ylabel("weight")
axes.xaxis.set_major_formatter("{x:,.0f}")
axes.legend(title="(alpha, beta), decay_momentum", loc="center left", bbox_to_anchor=(1.0, 0.5))
