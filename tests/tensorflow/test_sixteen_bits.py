"""A 16-bit variable and its residual are the float32 trajectory."""

import copy

import numpy as np
import pytest
import tensorflow as tf

from innaprop.forms.variables import join, split
from innaprop.tensorflow import INNAprop
from innaprop_core import Hyperparameters, trajectory

MODES = ["eager", "function", "xla"]
DTYPES = [tf.bfloat16, tf.float16]


def stepper(optimizer, w, mode):
    def apply(g):
        optimizer.apply([g], [w])

    return apply if mode == "eager" else tf.function(apply, jit_compile=mode == "xla")


def whole(optimizer, w):
    return optimizer.master_weights(w).numpy().astype(np.float64)


def test_both_hold_every_float32():
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, size=200_000, dtype=np.uint32)
    edges = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF, 0x10000, 0x7F7FFFFF], np.uint32)
    bits = np.concatenate([bits, edges, edges | 0x80000000])
    values = bits.view(np.float32)
    # Above this, bfloat16 has infinity only.
    values = values[np.abs(values) < 3.3961775292304957e38]
    parameter, residual = split(tf.constant(values), tf.bfloat16)
    assert (parameter.dtype, residual.dtype) == (tf.bfloat16, tf.int16)
    joined = join(parameter, residual).numpy()
    np.testing.assert_array_equal(joined.view(np.int32), values.view(np.int32))


@pytest.mark.parametrize("mode", MODES)
def test_every_float16_survives_being_split_and_joined(mode):
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)

    def both(values):
        parameter, residual = split(values, tf.float16)
        return join(parameter, residual), parameter, residual

    both = both if mode == "eager" else tf.function(both, jit_compile=mode == "xla")
    joined, parameter, residual = both(tf.constant(every.astype(np.float32)))
    np.testing.assert_array_equal(joined, every.astype(np.float32))
    np.testing.assert_array_equal(parameter, every)
    assert not residual.numpy().any()


@pytest.mark.parametrize("mode", MODES)
def test_float16_and_residual_hold_float32_in_its_range(mode):
    rng = np.random.default_rng(0)
    normal = np.exp2(rng.uniform(-14, 15.99, 200_000)) * rng.choice([-1, 1], 200_000)
    tiny = rng.uniform(-(2.0**-14), 2.0**-14, 200_000)

    def rejoined(values):
        return join(*split(values, tf.float16))

    rejoined = rejoined if mode == "eager" else tf.function(rejoined, jit_compile=mode == "xla")
    values = normal.astype(np.float32)
    error = np.abs(rejoined(tf.constant(values)) - values)
    assert (error <= 2.0**-24 * np.abs(values)).all()
    assert (error > 0).mean() < 1e-3  # exact halves, whose residual is one unit short
    assert np.abs(rejoined(tf.constant(tiny, tf.float32)) - tiny.astype(np.float32)).max() < 1e-12


def errors(lr, mode, dtype=tf.bfloat16, residual=True, steps=3000, n=200):
    """Return error over distance: variable and residual, float32's floor; variable, best."""
    rng = np.random.default_rng(0)
    start = tf.constant(rng.normal(size=n), dtype)
    drift = 0.3 * rng.normal(size=n)
    gradients = [tf.constant(drift + rng.normal(size=n), dtype) for _ in range(steps)]
    first = tf.cast(start, tf.float64).numpy()
    arrays = [tf.cast(g, tf.float64).numpy() for g in gradients]
    exact, floor = (
        trajectory(Hyperparameters(gamma=lr), first, arrays, digits=None, stored_in=kept).theta[-1]
        for kept in (None, np.float32)
    )
    w = tf.Variable(start)
    optimizer = INNAprop(lr, residual=residual)
    step = stepper(optimizer, w, mode)
    for g in gradients:
        step(g)
    alone = tf.cast(w, tf.float64).numpy()
    best = tf.cast(tf.cast(exact, dtype), tf.float64).numpy()
    joined = whole(optimizer, w) if residual else alone
    moved = np.linalg.norm(exact - first)
    return [np.linalg.norm(x - exact) / moved for x in (joined, floor, alone, best)]


@pytest.mark.parametrize("mode", ["function", "xla"])
@pytest.mark.parametrize(
    ("lr", "dtype"),
    [*((lr, tf.bfloat16) for lr in (1e-3, 1e-4, 1e-5)), (1e-3, tf.float16), (1e-5, tf.float16)],
)
def test_at_the_float32_floor(lr, dtype, mode):
    both, floor, alone, best = errors(lr, mode, dtype)
    assert both < 1.5 * floor
    assert alone < 1.02 * best


@pytest.mark.parametrize("dtype", DTYPES)
def test_without_the_residual_it_hardly_moves(dtype):
    both, *_ = errors(1e-5, "function", dtype, residual=False, steps=500)
    assert both > 0.5


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_written_value_is_taken_up_within_half_a_last_place(dtype, mode):
    rng = np.random.default_rng(0)
    w = tf.Variable(tf.constant(rng.normal(size=1000), dtype))
    optimizer = INNAprop(1e-2)
    step = stepper(optimizer, w, mode)
    for _ in range(3):
        step(tf.constant(rng.normal(size=1000), dtype))
    written = tf.constant([*rng.normal(size=996), 0.0, -0.0, 1.0, -2.0], dtype)
    w.assign(written)
    optimizer.learning_rate = 0.0
    step(tf.zeros(1000, dtype))
    value, expected = (tf.cast(x, tf.float64).numpy() for x in (w, written))
    assert (np.abs(value - expected) <= 2.0**-7 * np.abs(expected) + 1e-7).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_state_is_float32_and_survives_checkpoint_and_copy(tmp_path, dtype):
    rng = np.random.default_rng(0)
    w, x = tf.Variable(tf.ones(50, dtype)), tf.Variable(tf.ones(50))
    optimizer = INNAprop(1e-2)

    def step(optimizer, w, x):
        g = tf.constant(rng.normal(size=50), dtype)
        optimizer.apply([g, tf.cast(g, tf.float32)], [w, x])

    step(optimizer, w, x)
    assert [m.dtype for m in optimizer.momentums] == [tf.float32] * 2
    assert [v.dtype for v in optimizer.second_moments] == [tf.float32] * 2
    assert optimizer.residuals[0].dtype == tf.int16
    assert optimizer.residuals[1] is None
    assert optimizer.psi(w).dtype == tf.float32
    np.testing.assert_array_equal(optimizer.psi(w).numpy(), optimizer.psi(x).numpy())

    w2, x2, optimizer2 = copy.deepcopy((w, x, optimizer))
    path = tf.train.Checkpoint(w=w, x=x, optimizer=optimizer).write(str(tmp_path / "checkpoint"))
    w3, x3, optimizer3 = (
        tf.Variable(tf.zeros(50, dtype)),
        tf.Variable(tf.ones(50)),
        INNAprop(),
    )
    status = tf.train.Checkpoint(w=w3, x=x3, optimizer=optimizer3).read(path)
    state = rng.bit_generator.state
    for trio in ((optimizer, w, x), (optimizer2, w2, x2), (optimizer3, w3, x3)):
        rng.bit_generator.state = state
        for _ in range(10):
            step(*trio)
    status.assert_consumed()
    for other, variable in ((optimizer2, w2), (optimizer3, w3)):
        np.testing.assert_array_equal(whole(other, variable), whole(optimizer, w))
    np.testing.assert_array_equal(whole(optimizer, w), x.numpy())


def test_repeated_indices_are_summed_in_float32():
    w, same = (tf.Variable(tf.ones((3, 2), tf.bfloat16)) for _ in range(2))
    values = tf.ones((300, 2), tf.bfloat16) + tf.cast(tf.eye(300, 2), tf.bfloat16)
    slices = tf.IndexedSlices(values, tf.zeros(300, tf.int32))
    first, second = INNAprop(), INNAprop()
    first.apply([slices], [w])
    second.apply([tf.constant([[301.0, 301], [0, 0], [0, 0]], tf.bfloat16)], [same])
    rounded = float(tf.cast(tf.constant(301.0), tf.bfloat16))
    ratio = first.second_moments[0].numpy()[0] / second.second_moments[0].numpy()[0]
    np.testing.assert_allclose(ratio, (301 / rounded) ** 2, rtol=1e-6)


def test_master_weights_of_other_variables_are_their_values():
    optimizer = INNAprop()
    for dtype in (tf.float32, tf.float64):
        w = tf.Variable(tf.ones(3, dtype))
        before = optimizer.master_weights(w)
        optimizer.apply([tf.ones(3, dtype)], [w])
        weights = optimizer.master_weights(w)
        assert weights.dtype == dtype
        np.testing.assert_array_equal(before.numpy(), np.ones(3))
        np.testing.assert_array_equal(weights.numpy(), w.numpy())
    with pytest.raises(TypeError, match=r"variables must be tf\.Variable, got"):
        optimizer.master_weights(tf.ones(3))
