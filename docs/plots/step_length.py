"""The length of the steps under a constant u, measured on the core."""

import matplotlib.pyplot as plt
import numpy as np

from innaprop_core import Hyperparameters, INNAprop

GAMMA = 1e-3
STEPS = 60_000

figure, axes = plt.subplots()
for alpha, beta in ((0.1, 0.9), (2.0, 2.0), (1.0, 1.0)):
    # A constant gradient of one and eps = 0: u is one throughout.
    optimizer = INNAprop(
        [np.zeros(())], Hyperparameters(GAMMA, alpha, beta, eps=0.0, weight_decay=0.0)
    )
    path = np.array([0.0] + [optimizer.step([np.ones(())])[0] for _ in range(STEPS)])
    label = f"({alpha:g}, {beta:g})" + (", and AdamW" if alpha == beta == 1 else "")
    style = "--" if alpha == beta == 1 else "-"
    axes.loglog(np.arange(1, STEPS + 1), -np.diff(path) / GAMMA, style, label=label)
axes.set_xlabel("number of the update, at a step size of 1e-3")
axes.set_ylabel("length of the step / step size")
axes.set_yticks([0.5, 1, 2, 5, 10], ["0.5", "1", "2", "5", "10"])
axes.minorticks_off()
axes.legend(title="(alpha, beta)", loc="center left", bbox_to_anchor=(1.0, 0.5))
