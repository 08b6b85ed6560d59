"""The task in NumPy in float64, with explicit backpropagation: the reference for the others."""

from collections.abc import Callable

import numpy as np

from innaprop_conformance.training.task import Task, Training
from innaprop_core import INNAprop


def train(task: Task, progress: Callable[[int], None]) -> Training:
    """Train with ``innaprop_core.INNAprop``.

    Args:
        task: What to train.
        progress: Called after every step with the number of steps done.
    """
    optimizer = INNAprop([w.astype(np.float64) for w in task.weights()], task.hyperparameters)
    losses = []
    for done, (x, y) in enumerate(task.batches(), start=1):
        w1, b1, w2, b2 = optimizer.parameters
        hidden = np.maximum(x @ w1 + b1, 0)
        log_p = _log_softmax(hidden @ w2 + b2)
        rows = np.arange(len(y))
        losses.append(float(-log_p[rows, y].mean()))
        d_logits = np.exp(log_p)
        d_logits[rows, y] -= 1
        d_logits /= len(y)
        d_hidden = (d_logits @ w2.T) * (hidden > 0)
        optimizer.step(
            [x.T @ d_hidden, d_hidden.sum(axis=0), hidden.T @ d_logits, d_logits.sum(axis=0)]
        )
        progress(done)
    w1, b1, w2, b2 = optimizer.parameters
    x, y = task.test
    guess = (np.maximum(x @ w1 + b1, 0) @ w2 + b2).argmax(axis=1)
    return Training(losses, float((guess == y).mean()))


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))
