import math
from contextlib import nullcontext

import array_api_strict
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from array_api_compat import device

from innaprop_core import BEST_ACCURACY, Hyperparameters, INNAprop, algorithm, momentum

SCALARS = {
    "gamma": 0.05,
    "alpha": 0.3,
    "beta": 0.9,
    "sigma": 0.95,
    "eps": 1e-8,
    "weight_decay": 0.02,
}
SHAPES = [(), (0,), (2, 0, 3), (5,), (2, 1, 3, 2, 1)]
FOREIGN = {
    "strict": (array_api_strict, array_api_strict.asarray),
    "torch": (torch, torch.asarray),
    "jax": (jnp, jnp.asarray),
}
EVERY_SHAPE = pytest.mark.parametrize("shape", SHAPES, ids=str)


def _momentum_form(theta, state, v, g, k):
    return momentum.step(theta, state, v, g, momentum.coefficients(k, **SCALARS))


def _algorithm_1(theta, state, v, g, k):
    return algorithm.step(theta, state, v, g, k=k, **SCALARS)


EVERY_FORM = pytest.mark.parametrize("form", [_momentum_form, _algorithm_1])


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    return request.param


@pytest.fixture(params=FOREIGN.keys())
def namespace(request, dtype):
    """One array library; JAX's 64-bit mode is enabled only for float64."""
    wide = request.param == "jax" and dtype == "float64"
    with jax.enable_x64(True) if wide else nullcontext():
        yield FOREIGN[request.param]


def _inputs(shape, dtype):
    rng = np.random.default_rng(7)
    theta, state, g = (np.asarray(rng.normal(size=shape), dtype) for _ in range(3))
    return theta, np.asarray(0.1 * state, dtype), np.abs(g), g


@EVERY_FORM
@EVERY_SHAPE
def test_values_are_those_of_numpy(form, shape, dtype, namespace):
    xp, from_numpy = namespace
    expected = _inputs(shape, dtype)
    actual = [from_numpy(x.copy()) for x in expected]
    for k in range(1, 6):
        g = expected[3]
        expected = (*form(*expected, k), g)
        actual = [*form(*actual, k), actual[3]]
    # Some libraries use fused multiply-add: one rounding error per operation and step.
    tolerance = 40 * float(np.finfo(dtype).eps)
    for x, reference in zip(actual, expected, strict=True):
        assert x.dtype == getattr(xp, dtype)
        assert tuple(x.shape) == shape
        np.testing.assert_allclose(np.asarray(x), reference, rtol=tolerance, atol=tolerance)


@EVERY_FORM
@EVERY_SHAPE
def test_numpy_keeps_shape_and_dtype(form, shape, dtype):
    for x in form(*_inputs(shape, dtype), 3):
        assert x.dtype == dtype
        assert x.shape == shape


@EVERY_FORM
@EVERY_SHAPE
def test_inputs_are_left_as_they_were(form, shape, dtype, namespace):
    _, from_numpy = namespace
    values = _inputs(shape, dtype)
    inputs = [from_numpy(x.copy()) for x in values]
    outputs = form(*inputs, 1)
    for x, before in zip(inputs, values, strict=True):
        np.testing.assert_array_equal(np.asarray(x), before)
    assert not any(output is x for output in outputs for x in inputs)


@EVERY_FORM
def test_numpy_inputs_are_left_as_they_were(form, dtype):
    inputs = _inputs((4, 3), dtype)
    before = [x.copy() for x in inputs]
    for x in inputs:
        # Writing to a read-only array raises an error.
        x.flags.writeable = False
    form(*inputs, 1)
    for x, copy in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(x, copy)


@EVERY_FORM
def test_results_stay_on_the_device_of_the_inputs(form, dtype):
    elsewhere = array_api_strict.Device("device1")
    inputs = [array_api_strict.asarray(x, device=elsewhere) for x in _inputs((3,), dtype)]
    assert all(device(x) == elsewhere for x in form(*inputs, 1))


@EVERY_FORM
def test_torch_results_need_no_data(form, dtype):
    # A meta tensor has no data, so reading a value or copying to another device would fail.
    inputs = [torch.asarray(x).to("meta") for x in _inputs((3, 2), dtype)]
    outputs = form(*inputs, 1)
    assert [(x.device.type, x.shape) for x in outputs] == [("meta", (3, 2))] * 3


def test_what_has_no_namespace_passes_with_its_own_root():
    # Python floats represent frameworks outside the array API, such as TensorFlow.
    inputs = [float(x) for x in _inputs((), "float64")]
    c = momentum.coefficients(2, **SCALARS)
    actual = momentum.step(*inputs, c, sqrt=math.sqrt)
    expected = momentum.step(*(np.asarray(x) for x in inputs), c)
    np.testing.assert_allclose(actual, expected, rtol=1e-15)


def test_initial_psi_is_like_theta(dtype, namespace):
    xp, from_numpy = namespace
    theta = _inputs((2, 3), dtype)[0]
    psi = algorithm.initial_psi(from_numpy(theta), alpha=0.3, beta=0.9)
    assert psi.dtype == getattr(xp, dtype)
    np.testing.assert_allclose(np.asarray(psi), 0.73 * theta, rtol=1e-6)


def test_conversions_keep_dtype(dtype, namespace):
    xp, from_numpy = namespace
    theta, m, _, _ = (from_numpy(x.copy()) for x in _inputs((2, 3), dtype))
    for convert in momentum.psi_from_momentum, momentum.momentum_from_psi:
        assert convert(theta, m, alpha=0.3, beta=0.9).dtype == getattr(xp, dtype)


def test_step_traces_under_jit_with_a_count_and_a_step_size_on_the_device():
    @jax.jit
    def update(theta, m, v, g, k, gamma):
        scalars = {**SCALARS, "gamma": gamma}
        c = momentum.coefficients(k, **scalars, expm1=jnp.expm1)
        return momentum.step(theta, m, v, g, c)

    inputs = _inputs((6,), "float32")
    traced = update(*inputs, jnp.float32(3), jnp.float32(SCALARS["gamma"]))
    expected = _momentum_form(*(x.astype("float64") for x in inputs), 3)
    for x, reference in zip(traced, expected, strict=True):
        np.testing.assert_allclose(x, reference, rtol=1e-6, atol=1e-7)


def test_step_traces_under_jit_with_a_large_count():
    expm1_of_k = jax.jit(lambda k: momentum.bias_correction(0.999, k, expm1=jnp.expm1))
    np.testing.assert_allclose(expm1_of_k(jnp.float32(1e6)), 1.0)


@pytest.mark.parametrize("name", FOREIGN)
def test_the_reference_optimizer_keeps_to_the_namespace(name):
    xp, from_numpy = FOREIGN[name]
    rng = np.random.default_rng(0)
    starts = [np.asarray(rng.normal(size=shape), "float32") for shape in SHAPES]
    hyperparameters = Hyperparameters(gamma=0.05, **BEST_ACCURACY)
    optimizer = INNAprop([from_numpy(x.copy()) for x in starts], hyperparameters)
    reference = INNAprop(starts, hyperparameters)
    for _ in range(5):
        gradients = [np.asarray(rng.normal(size=shape), "float32") for shape in SHAPES]
        optimizer.step([from_numpy(g.copy()) for g in gradients])
        reference.step(gradients)
    for kind in "parameters", "m", "v", "psi":
        for x, expected in zip(getattr(optimizer, kind), getattr(reference, kind), strict=True):
            assert x.dtype == xp.float32
            np.testing.assert_allclose(np.asarray(x), expected, rtol=1e-4, atol=1e-6)
