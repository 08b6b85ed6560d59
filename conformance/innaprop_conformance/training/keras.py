"""The task in Keras, on the backend with which Keras was imported."""

from collections.abc import Callable

import keras

from innaprop.keras import INNAprop
from innaprop_conformance.options import keras_options
from innaprop_conformance.training.task import Task, Training


def train(task: Task, optimizer: str, progress: Callable[[int], None]) -> Training:
    """Train with ``innaprop.keras.INNAprop`` or ``keras.optimizers.AdamW``.

    Args:
        task: What to train.
        optimizer: "INNAprop" or "AdamW".
        progress: Called after every step with the number of steps done.
    """
    keras.config.set_floatx("float32")
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(task.hidden, activation="relu"),
            keras.layers.Dense(10),
        ]
    )
    model.set_weights(task.weights())
    h = task.hyperparameters
    if optimizer == "INNAprop":
        opt = INNAprop(h.gamma, **keras_options(h))
    else:
        opt = keras.optimizers.AdamW(
            h.gamma, h.weight_decay, beta_1=0.9, beta_2=h.sigma, epsilon=h.eps
        )
    model.compile(optimizer=opt, loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    losses = []
    for done, (x, y) in enumerate(task.batches(), start=1):
        # Keras returns the mean loss since the last reset.
        model.reset_metrics()
        losses.append(float(model.train_on_batch(x, y)))
        progress(done)
    x, y = task.test
    guess = keras.ops.convert_to_numpy(model(x)).argmax(axis=1)
    return Training(losses, float((guess == y).mean()))
