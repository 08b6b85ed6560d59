"""Every misuse has an error that names what was given."""

import re

import keras
import numpy as np
import pytest

from innaprop.keras import INNAprop


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"learning_rate": -1.0}, ValueError, "learning_rate must be a finite number >= 0"),
        ({"learning_rate": "fast"}, TypeError, "learning_rate must be a finite number >= 0"),
        ({"learning_rate": 0.9}, ValueError, "learning_rate must be smaller than beta"),
        ({"alpha": -0.1}, ValueError, "alpha must be a finite number >= 0, got -0.1"),
        ({"beta": 0}, ValueError, "beta must be a finite number > 0, got 0"),
        ({"sigma": 1}, ValueError, "sigma must be a number in [0, 1), got 1"),
        ({"epsilon": -1.0}, ValueError, "epsilon must be a finite number >= 0, got -1.0"),
        ({"weight_decay": -0.1}, ValueError, "weight_decay must be a finite number >= 0"),
        ({"momentum": 0.9}, ValueError, "momentum"),
    ],
    ids=str,
)
def test_arguments(arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        INNAprop(**arguments)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_dtypes_that_would_lose_the_motion(dtype):
    optimizer = INNAprop()
    variable = keras.Variable(np.ones(2), dtype=dtype, name="narrow")
    with pytest.raises(TypeError, match=f"must be float32 or float64, got narrow of {dtype}"):
        optimizer.build([variable])
    assert not optimizer.built


@pytest.mark.parametrize("rate", [0.9, float("nan"), -1.0])
def test_a_learning_rate_set_out_of_range(rate):
    optimizer = INNAprop(1e-3)
    with pytest.raises(ValueError, match="learning_rate must be"):
        optimizer.learning_rate = rate
    assert float(optimizer.learning_rate) == np.float32(1e-3)


def test_psi_of_a_stranger():
    optimizer = INNAprop()
    optimizer.build([keras.Variable(np.ones(2), dtype="float32")])
    with pytest.raises(ValueError, match="Unknown variable"):
        optimizer.psi(keras.Variable(np.ones(2), dtype="float32"))
