"""What weight decay alone does to a weight without a gradient, measured on the core."""

import matplotlib.pyplot as plt
import numpy as np

from innaprop_core import Hyperparameters, trajectory

GAMMA = 1e-3
STEPS = 120_000

figure, axes = plt.subplots()
for alpha, beta in ((0.1, 0.9), (2.0, 2.0), (1.0, 1.0)):
    idle = trajectory(
        Hyperparameters(GAMMA, alpha, beta), 1.0, (0.0 for _ in range(STEPS)), digits=None
    )
    label = f"({alpha:g}, {beta:g})" + (", and AdamW" if alpha == beta == 1 else "")
    style = "--" if alpha == beta == 1 else "-"
    axes.plot(np.arange(1, STEPS + 1), idle.theta, style, label=label)
axes.axhline(0.0, linewidth=0.6, color=axes.spines["left"].get_edgecolor())
axes.set_xlabel("number of the update, at a step size of 1e-3 and weight decay 0.01")
axes.set_ylabel("weight")
axes.xaxis.set_major_formatter("{x:,.0f}")
axes.legend(title="(alpha, beta)", loc="center left", bbox_to_anchor=(1.0, 0.5))
