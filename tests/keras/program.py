"""Train in a process of its own, from and to a model's file.

``python program.py ROLE FOLDER KIND...``: "begin" trains a hundred steps, saves and dies; "go_on"
loads and trains a hundred more. What comes out is left in ``FOLDER/{kind}-{backend}.npz``.
"""

import os
import signal
import sys

import keras
import numpy as np

import innaprop.keras

KINDS = ("losses", "gradients")


@keras.saving.register_keras_serializable(package="tests")
def falling(updates):
    return 2.0 - 0.001 * updates


def make_model():
    """Two dtypes, an embedding, a clipped gradient; a schedule of alpha."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((3,), dtype="int32"),
            keras.layers.Embedding(10, 4),
            keras.layers.Flatten(),
            keras.layers.Dense(6, activation="tanh", dtype="bfloat16"),
            keras.layers.Dense(1),
        ]
    )
    optimizer = innaprop.keras.INNAprop(
        1e-3, alpha=falling, beta=2.0, weight_decay=0.1, clipnorm=100.0
    )
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    model.compile(optimizer, "mse")
    optimizer.build(model.trainable_variables)
    return model


def advance(model, first, last, kind):
    """Make updates from batches, or from gradients that are the same on every backend."""
    for step in range(first, last):
        rng = np.random.default_rng(step)
        if kind == "losses":
            x = rng.integers(0, 10, size=(8, 3))
            model.train_on_batch(x, x.sum(axis=1, keepdims=True) / 10)
        else:
            gradients = [
                keras.ops.convert_to_tensor(rng.normal(size=v.shape) + 0.3, v.dtype)
                for v in model.trainable_variables
            ]
            model.optimizer.apply(gradients, model.trainable_variables)


def everything(model):
    """Return weights, joined with their residuals, and optimizer state as arrays."""
    state = model.optimizer.variables
    weights = map(model.optimizer.master_weights, model.trainable_variables)
    return [
        np.asarray(keras.ops.convert_to_numpy(v), np.float64)
        for v in [*weights, *(v for v in state if v.dtype != "int16")]
    ]


def main(role, folder, *kinds):
    if role == "begin":
        for kind in kinds:
            model = make_model()
            advance(model, 0, 100, kind)
            model.save(f"{folder}/{kind}.keras")
        os.kill(os.getpid(), signal.SIGKILL)
    for kind in kinds:
        model = keras.models.load_model(f"{folder}/{kind}.keras")
        advance(model, 100, 200, kind)
        np.savez(f"{folder}/{kind}-{keras.backend.backend()}.npz", *everything(model))


if __name__ == "__main__":
    main(*sys.argv[1:])
