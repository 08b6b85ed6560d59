import os

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from keras import ops


@pytest.fixture
def float64():
    """Work in float64, which Keras has to be told for its learning rate too."""
    if keras.backend.backend() == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx("float32")
    if keras.backend.backend() == "jax":
        jax.config.update("jax_enable_x64", False)


@pytest.fixture
def tensor():
    return ops.convert_to_tensor


@pytest.fixture
def regression():
    """A model and data that it can learn something of."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(16, activation="tanh"),
            keras.layers.Dense(1),
        ]
    )
    x = keras.random.normal((64, 8), seed=1)
    y = ops.sum(x[:, :2], axis=1, keepdims=True)
    return model, ops.convert_to_numpy(x), ops.convert_to_numpy(y)
