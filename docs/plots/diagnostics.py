"""A run whose momentum builds up until the validation loss rises, as ``Diagnostics.plot`` draws it.

``python docs/plots/diagnostics.py FILE`` writes the figure into a file.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np

from innaprop.diagnostics import Diagnostics
from innaprop.diagnostics.figure import draw
from innaprop.diagnostics.measure import SUMS, Operations, sums
from innaprop_core import Hyperparameters, momentum

FEATURES, TRAINING, UPDATES, EVERY = 80, 40, 600, 15
NUMPY = Operations(
    sqrt=np.sqrt,
    finite=lambda x: np.isfinite(x).astype(x.dtype),
    less=lambda a, b: np.less(a, b).astype(a.dtype),
    equal=lambda a, b: np.equal(a, b).astype(a.dtype),
    total=np.sum,
    dot=lambda a, b: np.sum(a * b),
)
SCALARS = {"gamma": 1e-2, "alpha": 0.1, "beta": 0.9, "sigma": 0.999, "eps": 1e-8}


def run():
    """Fit a line of 80 features to 40 noisy points, on the core, and return what was recorded."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(TRAINING + 200, FEATURES)) / (1 + np.arange(FEATURES))
    y = x @ rng.normal(size=FEATURES) + rng.normal(size=len(x))
    theta = 0.1 * rng.normal(size=FEATURES)
    m = v = np.zeros(FEATURES)
    scalars = {**SCALARS, "weight_decay": Hyperparameters().weight_decay}
    diagnostics = Diagnostics(EVERY, warn=False)
    for k in range(1, UPDATES + 1):
        error = x @ theta - y
        g = 2 / TRAINING * x[:TRAINING].T @ error[:TRAINING]
        c = momentum.coefficients(k, **scalars)
        diagnostics.loss(np.mean(error[:TRAINING] ** 2), np.mean(error[TRAINING:] ** 2))
        if diagnostics.due(k):
            found = dict(zip(SUMS, sums(theta, m, v, g, c, NUMPY), strict=True))
            diagnostics.record(k, {"all": {**found, **scalars}})
        theta, m, v = momentum.step(theta, m, v, g, c)
    return diagnostics


diagnostics = run()
figure = plt.figure(figsize=(8.0, 5.6), layout="constrained")
draw(diagnostics.records, diagnostics.findings, figure)
if sys.argv[1:] and __name__ == "__main__":
    figure.savefig(sys.argv[1])
