"""The task in TensorFlow without Keras: variables, a gradient tape and ``tf.function``."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from innaprop.tensorflow import INNAprop
from innaprop_conformance.options import keras_options
from innaprop_conformance.training.task import Task, Training


def train(task: Task, progress: Callable[[int], None]) -> Training:
    """Train with ``innaprop.tensorflow.INNAprop``.

    Args:
        task: What to train.
        progress: Called after every step with the number of steps done.
    """
    variables = w1, b1, w2, b2 = [tf.Variable(w) for w in task.weights()]
    optimizer = INNAprop(task.hyperparameters.gamma, **keras_options(task.hyperparameters))

    def logits(x: Any) -> Any:
        return tf.nn.relu(x @ w1 + b1) @ w2 + b2

    @tf.function  # type: ignore[untyped-decorator]
    def step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits(x))
            )
        optimizer.minimize(loss, variables, tape=tape)
        return loss

    losses = []
    for done, (x, y) in enumerate(task.batches(), start=1):
        losses.append(float(step(x, y)))
        progress(done)
    x, y = task.test
    guess = logits(x).numpy().argmax(axis=1)
    return Training(losses, float((guess == y).mean()))
