"""Loops of one's own: ``apply``, ``apply_gradients``, ``stateless_apply``, sparse gradients."""

import keras
import numpy as np
import pytest
from keras import ops

from innaprop.keras import INNAprop
from innaprop_core import Hyperparameters, trajectory

BACKEND = keras.backend.backend()
only_jax = pytest.mark.skipif(BACKEND != "jax", reason="of JAX alone")
only_torch = pytest.mark.skipif(BACKEND != "torch", reason="of PyTorch alone")


def numpy(x):
    return np.array(ops.convert_to_numpy(x))


def variables(*shapes):
    rng = np.random.default_rng(0)
    return [keras.Variable(rng.normal(size=shape), dtype="float32") for shape in shapes]


def gradients(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [ops.convert_to_tensor(rng.normal(size=s).astype("float32")) for s in shapes]


SHAPES = ((3, 4), (5,), ())


def test_apply_gradients_takes_pairs_and_returns_the_count():
    ours, theirs = variables(*SHAPES), variables(*SHAPES)
    one, other = INNAprop(1e-2), INNAprop(1e-2)
    for seed in range(3):
        count = one.apply_gradients(zip(gradients(seed, *SHAPES), ours, strict=True))
        other.apply(gradients(seed, *SHAPES), theirs)
    assert int(count) == 3
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(numpy(a), numpy(b))


def test_some_of_the_variables_in_another_order():
    ours, theirs = variables(*SHAPES), variables(*SHAPES)
    one, other = INNAprop(1e-2), INNAprop(1e-2)
    one.build(ours)
    other.build(theirs)
    g = gradients(0, *SHAPES)
    one.apply(g, ours)
    other.apply(g[::-1], theirs[::-1])
    other_again = numpy(theirs[1])
    other.apply(g[:1], theirs[:1])
    np.testing.assert_array_equal(numpy(theirs[1]), other_again)
    for a, b in zip(ours[1:], theirs[1:], strict=True):
        np.testing.assert_array_equal(numpy(a), numpy(b))


def test_no_gradient_leaves_a_variable_and_names_it():
    ours = variables((2,), (2,))
    before = numpy(ours[1])
    with pytest.warns(UserWarning, match=f"do not exist for variables .*{ours[1].path}"):
        INNAprop(1e-2).apply([*gradients(0, (2,)), None], ours)
    np.testing.assert_array_equal(numpy(ours[1]), before)


@pytest.mark.skipif(BACKEND == "tensorflow", reason="Keras has no stateless_apply there")
def test_stateless_apply_changes_nothing_and_gives_what_apply_gives():
    ours, theirs = variables(*SHAPES), variables(*SHAPES)
    one, other = INNAprop(1e-2), INNAprop(1e-2)
    one.build(ours)
    g = gradients(0, *SHAPES)
    given = [v.value for v in ours], [v.value for v in one.variables]
    before = [[numpy(v) for v in values] for values in given]
    new, state = one.stateless_apply(given[1], g, given[0])
    for values, same in zip(given, before, strict=True):
        for a, b in zip(values, same, strict=True):
            np.testing.assert_array_equal(numpy(a), b)
    other.apply(g, theirs)
    for a, b in zip([*new, *state], [*theirs, *other.variables], strict=True):
        np.testing.assert_array_equal(numpy(a), numpy(b))


@only_jax
def test_stateless_apply_under_jit_with_donated_buffers():
    import jax

    ours, theirs = variables(*SHAPES), variables(*SHAPES)
    one, other = INNAprop(1e-2), INNAprop(1e-2)
    one.build(ours)
    step = jax.jit(one.stateless_apply, donate_argnums=(0, 2))
    values = [v.value.copy() for v in ours]
    state = [v.value.copy() for v in one.variables]
    for seed in range(3):
        old = values[0]
        values, state = step(state, gradients(seed, *SHAPES), values)
        assert old.is_deleted()
        other.apply(gradients(seed, *SHAPES), theirs)
    for a, b in zip([*values, *state], [*theirs, *other.variables], strict=True):
        np.testing.assert_allclose(numpy(a), numpy(b), rtol=1e-5, atol=1e-7)


@only_jax
def test_xla_updates_in_place_without_copies():
    """What the order of the update is for: three loops, no copy, no array in between."""
    import jax

    ours = variables((256, 256))
    optimizer = INNAprop(1e-2)
    optimizer.build(ours)

    def step(values, state, g):
        # As fit orders them: JAX hands donated buffers to results in this order.
        return optimizer.stateless_apply(state, g, values)

    args = [ours[0].value], [v.value for v in optimizer.variables], gradients(0, (256, 256))
    text = jax.jit(step, donate_argnums=(0, 1)).lower(*args).compile().as_text()
    large = [line for line in text.partition("ENTRY")[2].splitlines() if "= f32[256,256]" in line]
    assert sum("fusion(" in line for line in large) == 3
    assert not any(" copy(" in line for line in large)


def sparse(rows, values, shape):
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.IndexedSlices(tf.constant(values), tf.constant(rows), shape)
    from jax.experimental import sparse as jax_sparse

    return jax_sparse.BCOO((values, np.array(rows)[:, None]), shape=shape)


@pytest.mark.skipif(BACKEND == "torch", reason="Keras has no sparse gradients there")
@pytest.mark.parametrize(
    "options", [{}, {"clipnorm": 1.0}, {"global_clipnorm": 1.0}, {"clipvalue": 0.5}]
)
def test_repeated_rows_of_a_sparse_gradient_add_up(options):
    """Clipped as the dense one is, too."""
    rows = [1, 3, 1]
    values = np.array([[1.0, 2.0], [3.0, -4.0], [0.5, -0.5]], "float32")
    ours, theirs = variables((5, 2)), variables((5, 2))
    # Where epsilon is small, one gradient again and again comes to its sign, whatever its sum.
    one, other = (INNAprop(1e-2, epsilon=1.0, **options) for _ in range(2))
    for updates in range(3):
        scaled = np.float32(2**updates) * values
        full = np.zeros((5, 2), "float32")
        np.add.at(full, rows, scaled)
        one.apply([sparse(rows, scaled, (5, 2))], ours)
        other.apply([ops.convert_to_tensor(full)], theirs)
    np.testing.assert_allclose(numpy(ours[0]), numpy(theirs[0]), rtol=1e-6)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="of TensorFlow alone")
@pytest.mark.parametrize("of", [tuple, list, np.array, ops.convert_to_tensor])
def test_the_shape_of_a_sparse_gradient_may_be_no_tensor(of):
    ours, theirs = variables((5, 2)), variables((5, 2))
    rows, values = [1, 3], np.ones((2, 2), "float32")
    optimizer = INNAprop(1e-2)
    optimizer.apply([sparse(rows, values, of((5, 2)))], ours)
    full = np.zeros((5, 2), "float32")
    full[rows] = 1.0
    INNAprop(1e-2).apply([ops.convert_to_tensor(full)], theirs)
    np.testing.assert_array_equal(numpy(ours[0]), numpy(theirs[0]))
    with pytest.raises(ValueError, match=r"must have shape \(5, 2\), got \(4, 2\)"):
        optimizer.apply([sparse(rows, values, of((4, 2)))], ours)
    np.testing.assert_array_equal(numpy(ours[0]), numpy(theirs[0]))


def test_variables_of_several_dtypes():
    shapes = ((4,), (4,))
    mixed = [
        keras.Variable(np.ones(4), dtype="float32"),
        keras.Variable(np.ones(4), dtype="bfloat16"),
    ]
    optimizer = INNAprop(1e-2)
    for seed in range(20):
        optimizer.apply(gradients(seed, *shapes), mixed)
    for variable, i, tolerance in zip(mixed, (0, 1), (1e-6, 2**-8), strict=True):
        gs = [numpy(gradients(seed, *shapes)[i]).astype(float) for seed in range(20)]
        exact = trajectory(Hyperparameters(gamma=1e-2), np.ones(4), gs, digits=None).theta[-1]
        got = numpy(ops.cast(variable, "float32"))
        np.testing.assert_allclose(got, exact, rtol=tolerance)


@only_torch
def test_torch_updates_all_variables_with_one_call_of_the_kernel(monkeypatch):
    from innaprop.forms import c

    calls = []
    original = c.update
    monkeypatch.setattr(
        c, "update", lambda rows, *rest: calls.append(len(rows.theta)) or original(rows, *rest)
    )
    ours = variables(*[(3, 4)] * 50)
    INNAprop().apply(gradients(0, *[(3, 4)] * 50), ours)
    assert calls == [50]


@only_torch
def test_torch_without_a_kernel_with_one_call_per_operation(monkeypatch):
    import torch

    from innaprop.forms import c

    calls = []
    original = torch._foreach_sqrt
    monkeypatch.setattr(c, "load", lambda: "there is no compiler")
    monkeypatch.setattr(
        torch, "_foreach_sqrt", lambda tensors: calls.append(len(tensors)) or original(tensors)
    )
    ours = variables(*[(3, 4)] * 50)
    INNAprop().apply(gradients(0, *[(3, 4)] * 50), ours)
    assert calls == [50]


@only_torch
def test_torch_long_tensors_in_parts_and_strided_ones_whole():
    long = (1 << 17) + 5
    start = np.random.default_rng(0).normal(size=(long,)).astype("float32")
    g = np.random.default_rng(1).normal(size=(long,)).astype("float32")
    whole = keras.Variable(start, dtype="float32")
    part = keras.Variable(start[-100:], dtype="float32")
    one, other = INNAprop(1e-2), INNAprop(1e-2)
    for _ in range(3):
        one.apply([ops.convert_to_tensor(g)], [whole])
        other.apply([ops.convert_to_tensor(g[-100:])], [part])
    np.testing.assert_array_equal(numpy(whole)[-100:], numpy(part))
    square = keras.Variable(start[:90000].reshape(300, 300), dtype="float32")
    turned = keras.Variable(start[:90000].reshape(300, 300), dtype="float32")
    wide = ops.convert_to_tensor(g[:90000].reshape(300, 300))
    one, other = INNAprop(1e-2), INNAprop(1e-2)
    one.apply([wide], [square])
    other.apply([wide.T.contiguous().T], [turned])
    np.testing.assert_array_equal(numpy(square), numpy(turned))
