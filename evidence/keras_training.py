"""The VGG in Keras, compiled and fitted: the same weights to begin with, the same batches."""

import os
from typing import Any

import numpy as np
import torch

from evidence.optimizers import rate_factor
from evidence.store import Config, Result
from evidence.tasks import Classifier
from evidence.training import MARKS, rounded, short


def train_in_keras(config: Config) -> Result:
    """Return what ``train`` returns of the same configuration in PyTorch, less the weights.

    The training loss at a mark is Keras's own mean over the batches since the mark before.
    """
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    from innaprop.keras import INNAprop

    theirs = Classifier(config)
    channels = theirs.batch(torch.zeros(1, dtype=torch.int64))[0].shape[1]
    model = _vgg(keras, config, channels, theirs.model)

    class Schedule(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
        def __init__(self) -> None:
            factors = [rate_factor(config, step) for step in range(config["steps"])]
            self.rates = keras.ops.convert_to_tensor(
                config["lr"] * np.array([*factors, 0.0]), "float32"
            )

        def __call__(self, step: Any) -> Any:
            return keras.ops.take(self.rates, keras.ops.cast(step, "int32"))

    optimizer = INNAprop(
        learning_rate=Schedule(),
        alpha=config["alpha"],
        beta=config["beta"],
        sigma=config["sigma"],
        epsilon=config.get("eps", 1e-8),
        weight_decay=config["weight_decay"],
        decay_momentum=config.get("decay_momentum", True),
    )
    model.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    marks = sorted({max(1, round(share * config["steps"])) for share in MARKS})
    batches = [theirs.next_batch() for _ in range(config["steps"])]
    training, scores, done = [], [], 0
    for mark in marks:
        pixels, labels = (
            torch.cat(part)
            for part in zip(*(theirs.batch(b) for b in batches[done:mark]), strict=True)
        )
        history = model.fit(
            _last(pixels), labels.numpy(), config["batch"], shuffle=False, verbose=0
        ).history
        training.append(short(history["loss"][0]))
        scores.append(_score(model, theirs, "validation"))
        done = mark
    return {
        "marks": marks,
        "training": training,
        "validation": {name: [each[name] for each in scores] for name in scores[0]},
        "test": _score(model, theirs, "test"),
    }


def _last(pixels: torch.Tensor) -> np.ndarray[Any, Any]:
    """Return images with the channels last."""
    return np.ascontiguousarray(pixels.numpy().transpose(0, 2, 3, 1))


def _score(model: Any, theirs: Classifier, split: str) -> dict[str, float]:
    pixels, labels = theirs.whole(split)
    loss, accuracy = model.evaluate(_last(pixels), labels.numpy(), 512, verbose=0)
    return rounded({"loss": loss, "error": 100 * (1 - accuracy)})


def _vgg(keras: Any, config: Config, channels: int, theirs: torch.nn.Module) -> Any:
    """Return the network, with the weights that PyTorch's begins with."""
    layers = keras.layers
    x = entry = keras.Input((config["side"], config["side"], channels))
    weighted = []
    for width in config["shape"]["widths"]:
        if not width:
            x = layers.MaxPooling2D(2)(x)
            continue
        weighted.append(layers.Conv2D(width, 3, padding="same", use_bias=False))
        weighted.append(layers.BatchNormalization(momentum=0.9, epsilon=1e-5))
        x = layers.ReLU()(weighted[-1](weighted[-2](x)))
    weighted.append(layers.Dense(10))
    model = keras.Model(entry, weighted[-1](layers.GlobalAveragePooling2D()(x)))
    parameters = [p.detach().numpy() for p in theirs.parameters()]
    for layer in weighted:
        count = len(layer.trainable_variables)
        mine, parameters = parameters[:count], parameters[count:]
        for variable, value in zip(layer.trainable_variables, mine, strict=True):
            order = {4: (2, 3, 1, 0), 2: (1, 0)}.get(value.ndim)
            variable.assign(value.transpose(order) if order else value)
    return model
