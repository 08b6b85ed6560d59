"""A state of 16 bits a number: the core's words, the trajectory, and the ways in and out of it."""

import copy
import pickle
import warnings
from dataclasses import asdict

import numpy as np
import pytest
import tensorflow as tf

import innaprop
from innaprop.tensorflow import INNAprop
from innaprop_core import Hyperparameters, momentum, packed, trajectory

N = 600
RATE = 0.25 + 2.0**-20
"""Exact in float32, and between two numbers that a momentum is rounded to."""
PRESETS = {"fast": {"alpha": 0.1, "beta": 0.9}, "accurate": {"alpha": 2.0, "beta": 2.0}}
HOW = {
    "eager": lambda f: f,
    "function": tf.function,
    "xla": lambda f: tf.function(f, jit_compile=True),
}


def gradients(steps, n=N, seed=0):
    """Noise about a drift, of elements whose sizes differ by orders of magnitude."""
    rng = np.random.default_rng(seed)
    scale, drift = np.exp(2 * rng.normal(size=n)), 0.3 * rng.normal(size=n)
    return (scale * (drift + rng.normal(size=(steps, n)))).astype(np.float32)


def start(n=N):
    return np.random.default_rng(1).normal(size=n).astype(np.float32)


def make(dtype=tf.float32, values=None, **options):
    """Return a variable and an optimizer that has its state."""
    variable = tf.Variable(tf.cast(start() if values is None else values, dtype), name="w")
    optimizer = INNAprop(**{"learning_rate": 1e-2, "state_bits": 16, **options})
    optimizer.build([variable])
    return variable, optimizer


def advance(variable, optimizer, given, how="eager"):
    step = HOW[how](lambda g: optimizer.apply_gradients([(g, variable)]))
    for g in given:
        step(tf.cast(g, variable.dtype))


def words(optimizer, i=0):
    return optimizer.momentums[i].numpy().view(np.int32)


def by_the_core(theta, given, seed, h, first=1, word=None):
    """Return parameters and words after updates in NumPy, by the core's functions."""
    word = np.zeros(theta.size, np.int32) if word is None else word
    indices = np.arange(theta.size, dtype=np.int32)
    for k, g in enumerate(given, start=first):
        c = momentum.coefficients(k, **asdict(h), seed=seed)
        theta, m, v = momentum.step(theta, *packed.unpack(word, packed.NUMPY), g, c)
        turned = np.int32(packed.turn(int(c.draw)))
        word = packed.pack(m, v, packed.thresholds(indices, turned), packed.NUMPY)
    return theta, word


@pytest.mark.parametrize("how", HOW)
def test_it_rounds_as_the_core_does(how):
    """But for a few that are rounded at a threshold, which roundoff moves."""
    given, h = gradients(50), Hyperparameters(gamma=1e-3, weight_decay=0.1)
    variable, optimizer = make(learning_rate=1e-3, weight_decay=0.1, seed=11)
    advance(variable, optimizer, given, how)
    theta, word = by_the_core(start(), given, 11, h)
    assert (words(optimizer) != word).mean() < 5e-3
    np.testing.assert_allclose(variable, theta, atol=2e-6)


@pytest.mark.parametrize("how", HOW)
def test_the_first_words_are_the_core_s_bit_by_bit(how):
    """Squares of 22 bits are exact, and so are their roots: all that is rounded are the words."""
    given = np.random.default_rng(0).integers(1 << 10, 1 << 11, (1, N)).astype(np.float32)
    options = {"alpha": 0.5, "beta": 1.0, "sigma": 0.5, "weight_decay": 0.0}
    variable, optimizer = make(learning_rate=RATE, epsilon=0.0, seed=3, **options)
    advance(variable, optimizer, given, how)
    h = Hyperparameters(gamma=RATE, eps=0.0, **options)
    _, word = by_the_core(start(), given, 3, h)
    np.testing.assert_array_equal(words(optimizer), word)
    _, other = by_the_core(start(), given, 4, h)
    assert (word != other).mean() > 0.3


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16, tf.float16], ids=lambda d: d.name)
@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS.keys())
def test_within_three_thousandths_of_the_distance_moved(preset, dtype):
    given = gradients(1000)
    given = tf.cast(tf.cast(given, dtype), tf.float64).numpy()
    variable, optimizer = make(dtype, learning_rate=1e-3, **preset)
    first = tf.cast(variable, tf.float64).numpy()
    exact = trajectory(Hyperparameters(gamma=1e-3, **preset), first, given, digits=None).theta[-1]
    advance(variable, optimizer, given, "function")
    ours = optimizer.master_weights(variable).numpy().astype(float)
    assert np.linalg.norm(ours - exact) < 3e-3 * np.linalg.norm(exact - first)


def test_it_is_right_in_the_mean_over_seeds():
    given, errors = gradients(60), []
    wide, of_32 = make(state_bits=32)
    advance(wide, of_32, given)
    moved = wide.numpy().astype(float) - start()
    for seed in range(16):
        variable, optimizer = make(seed=seed)
        advance(variable, optimizer, given)
        errors.append(variable.numpy().astype(float) - wide.numpy())
    along = np.array(errors) @ moved / (moved @ moved)
    assert along.std(ddof=1) > 0
    assert abs(along.mean()) < 3.5 * along.std(ddof=1) / np.sqrt(len(along))
    assert np.abs(along).max() < 3e-3


def test_four_bytes_a_parameter_and_zero_at_first():
    _, optimizer = make()
    (word,) = optimizer.momentums
    assert (word.dtype, word.shape) == (tf.uint32, (N,))
    assert optimizer.second_moments == [None]
    assert not word.numpy().any()
    assert sum(np.prod(v.shape) * v.dtype.size for v in optimizer.variables) < 4 * N + 100


def test_variables_that_get_gradients_late_have_their_own_count():
    """So each rounds as it would alone."""
    one, optimizer = make(values=np.ones(N))
    other = tf.Variable(start(), name="other")
    optimizer.build([other])
    given = gradients(6)
    for i, g in enumerate(given):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            optimizer.apply([g, g if i >= 2 else None], [one, other])
    alone, own = make()
    advance(alone, own, given[2:])
    np.testing.assert_array_equal(words(optimizer, 1), words(own))
    np.testing.assert_array_equal(other, alone)


def test_sparse_gradients_are_dense_ones():
    values, rows = gradients(3).reshape(3, 60, 10), [3, 7, 3]
    one, sparse = make(values=start().reshape(60, 10))
    other, dense = make(values=start().reshape(60, 10))
    for g in values:
        slices = tf.IndexedSlices(tf.constant(g[:3]), tf.constant(rows), (60, 10))
        sparse.apply([slices], [one])
        whole = np.zeros((60, 10), np.float32)
        np.add.at(whole, rows, g[:3])
        dense.apply([whole], [other])
    np.testing.assert_array_equal(words(sparse), words(dense))


def test_a_schedule_is_followed():
    given = gradients(30)
    scheduled, a = make(learning_rate=lambda k: 1e-2 / (1.0 + tf.cast(k, tf.float64)))
    advance(scheduled, a, given)
    by_hand, b = make()
    for k, g in enumerate(given):
        b.learning_rate = 1e-2 / (1 + k)
        b.apply([g], [by_hand])
    np.testing.assert_allclose(scheduled, by_hand, atol=1e-6)


@pytest.mark.parametrize("how", ["checkpoint", "deepcopy", "pickle", "portable file"])
@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16], ids=lambda d: d.name)
def test_a_run_that_is_resumed_has_the_same_bits(how, dtype, tmp_path):
    given = gradients(40)
    whole, optimizer = make(dtype, seed=5)
    advance(whole, optimizer, given)
    half, first = make(dtype, seed=5)
    advance(half, first, given[:20])
    if how in ("deepcopy", "pickle"):
        make_other = copy.deepcopy if how == "deepcopy" else lambda o: pickle.loads(pickle.dumps(o))
        variable, second = make_other((half, first))
    else:
        variable, second = make(dtype, seed=5)
    if how == "checkpoint":
        path = tf.train.Checkpoint(w=half, optimizer=first).write(str(tmp_path / "state"))
        tf.train.Checkpoint(w=variable, optimizer=second).read(path).assert_consumed()
    elif how == "portable file":
        innaprop.save_state(tmp_path / "state", first)
        innaprop.load_state(tmp_path / "state", second)
        variable.assign(half)
    advance(variable, second, given[20:])
    np.testing.assert_array_equal(words(second), words(optimizer))
    np.testing.assert_array_equal(optimizer.master_weights(whole), second.master_weights(variable))


def test_a_checkpoint_of_other_bits_is_refused(tmp_path):
    """Loudly: words must not be taken for a momentum, nor a momentum for words."""
    for mine, theirs in ((16, 32), (32, 16)):
        saved = tf.train.Checkpoint(optimizer=make(state_bits=theirs)[1])
        path = saved.write(str(tmp_path / f"{theirs}"))
        with pytest.raises((tf.errors.OpError, ValueError, TypeError)):
            tf.train.Checkpoint(optimizer=make(state_bits=mine)[1]).read(path).assert_consumed()


def test_portable_files_take_states_from_one_kind_to_the_other(tmp_path):
    variable, narrow = make()
    advance(variable, narrow, gradients(20))
    innaprop.save_state(tmp_path / "state", narrow)
    _, wide = make(state_bits=32)
    innaprop.load_state(tmp_path / "state", wide)
    m, v = packed.unpack(words(narrow), packed.NUMPY)
    np.testing.assert_array_equal(wide.momentums[0], m)
    np.testing.assert_array_equal(wide.second_moments[0], v)
    innaprop.save_state(tmp_path / "wide", wide)
    _, back = make()
    innaprop.load_state(tmp_path / "wide", back)
    np.testing.assert_array_equal(words(back), words(narrow))
    assert back.updates[0].numpy() == back.iterations.numpy() == 20


def test_psi_is_that_of_the_wide_state():
    both = [make(state_bits=bits) for bits in (16, 32)]
    for variable, optimizer in both:
        advance(variable, optimizer, gradients(50))
    ours, theirs = (optimizer.psi(variable) for variable, optimizer in both)
    np.testing.assert_allclose(ours, theirs, rtol=5e-3, atol=5e-3)


def test_without_xla_the_words_are_the_same(monkeypatch):
    """But for a few that are rounded at a threshold, which roundoff moves."""
    found = []
    for has in (True, False):
        monkeypatch.setattr("innaprop.forms.variables._has_xla", lambda has=has: has)
        variable, optimizer = make(tf.bfloat16)
        advance(variable, optimizer, gradients(10))
        found.append((optimizer.master_weights(variable).numpy(), words(optimizer)))
    np.testing.assert_allclose(found[0][0], found[1][0], atol=1e-6)
    assert (found[0][1] != found[1][1]).mean() < 5e-3


def test_two_replicas_hold_the_same_words(program, tmp_path):
    """And those of one device: the program asserts it."""
    program(tmp_path, "mirrored_words")


def test_many_shapes_are_no_reason_to_warn(caplog):
    variables = [tf.Variable(tf.ones(n)) for n in range(1, 12)]
    optimizer = INNAprop(1e-3, state_bits=16)
    for _ in range(2):
        optimizer.apply([tf.ones_like(v) for v in variables], variables)
    assert not [r for r in caplog.records if "retracing" in r.getMessage()]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"state_bits": 8}, ValueError, "state_bits must be one of 32, 16, got 8"),
        ({"state_bits": 16.0}, TypeError, "state_bits must be an integer, got 16.0"),
        ({"state_bits": True}, TypeError, "state_bits must be an integer, got True"),
        ({"seed": 0.5}, TypeError, "seed must be an integer, got 0.5"),
    ],
)
def test_bad_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        INNAprop(**options)


def test_float64_is_refused_and_nothing_has_changed():
    optimizer = INNAprop(state_bits=16)
    pair = [tf.Variable(tf.ones(2)), tf.Variable(tf.ones(2, tf.float64), name="d")]
    message = "needs variables of float32, bfloat16 or float16, got float64 for d"
    with pytest.raises(TypeError, match=message):
        optimizer.build(pair)
    with pytest.raises(TypeError, match=message):
        optimizer.apply([tf.ones_like(v) for v in pair], pair)
    assert optimizer.momentums == []
    assert optimizer.iterations.numpy() == 0
