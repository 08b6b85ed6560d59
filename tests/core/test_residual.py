"""bfloat16 parameters and residuals hold float32 master weights, in every framework's arrays."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
import torch

from innaprop_core import residual

LARGEST = float(ml_dtypes.finfo(ml_dtypes.bfloat16).max)
FRAMEWORKS = {
    "numpy": (np.asarray, np.where),
    "torch": (torch.asarray, torch.where),
    "jax": (jnp.asarray, jnp.where),
    "jax compiled": (jnp.asarray, jnp.where),
    "tensorflow": (tf.convert_to_tensor, tf.where),
}


@pytest.fixture(params=FRAMEWORKS)
def functions(request):
    """``join`` and ``split`` for NumPy arrays of bits, computed by a framework."""
    asarray, where = FRAMEWORKS[request.param]
    wrap = jax.jit if request.param == "jax compiled" else lambda f: f

    def join(parameter, rest):
        f = wrap(lambda p, r: residual.join(p, r, where))
        return np.asarray(f(asarray(parameter), asarray(rest)))

    def split(value):
        f = wrap(lambda v: residual.split(v, where))
        return tuple(np.asarray(x) for x in f(asarray(value)))

    return join, split


def values():
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, size=100_000, dtype=np.uint32)
    edges = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF, 0x10000, 0x3F808000], np.uint32)
    bits = np.concatenate([bits, edges, edges | 0x80000000])
    floats = bits.view(np.float32)
    return floats[np.abs(floats) <= LARGEST]


def test_the_two_hold_every_float32(functions):
    join, split = functions
    bits = values().view(np.int32)
    parameter, rest = split(bits)
    assert parameter.dtype == rest.dtype == np.int32
    assert rest.min() >= -(2**15)
    assert rest.max() < 2**15
    np.testing.assert_array_equal(join(parameter, rest), bits)


def test_the_parameter_is_the_nearest_bfloat16(functions):
    _, split = functions
    parameter, _ = split(values().view(np.int32))
    rounded = parameter.view(np.float32)
    np.testing.assert_array_equal(rounded, rounded.astype(ml_dtypes.bfloat16).astype(np.float32))
    nearest = values().astype(ml_dtypes.bfloat16).astype(np.float32)
    exact = values().astype(np.float64)
    np.testing.assert_array_equal(np.abs(rounded - exact), np.abs(nearest - exact))


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, LARGEST * 1.003])
def test_what_is_not_finite_stays_so(functions, value):
    join, split = functions
    value = np.float32([value])
    parameter, rest = split(value.view(np.int32))
    assert rest == 0
    with np.errstate(over="ignore"):
        expected = value.astype(ml_dtypes.bfloat16).astype(np.float32)
    for bits in (parameter, join(parameter, rest), join(parameter, np.int32([77]))):
        np.testing.assert_array_equal(bits.view(np.float32), expected)


@pytest.mark.parametrize("zero", [0.0, -0.0])
@pytest.mark.parametrize("rest", [-(2**15), -1, 0, 1, 2**15 - 1])
def test_a_parameter_set_to_zero_stays_finite(functions, zero, rest):
    join, _ = functions
    joined = join(np.float32([zero]).view(np.int32), np.int32([rest])).view(np.float32)
    assert abs(joined[0]) < np.finfo(np.float32).tiny
