"""Hyperparameters as the options of a framework's optimizer."""

from typing import Any

from innaprop_core import Hyperparameters


def keras_options(hyperparameters: Hyperparameters) -> dict[str, Any]:
    """Return the options of ``INNAprop`` in Keras and TensorFlow, all but the learning rate."""
    h = hyperparameters
    return {
        "alpha": h.alpha,
        "beta": h.beta,
        "sigma": h.sigma,
        "epsilon": h.eps,
        "weight_decay": h.weight_decay,
        "decay_momentum": h.decay_momentum,
    }
