"""Packed words of momentum and second moment: their values and rounding, in every framework."""

from fractions import Fraction
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf
import torch

from innaprop_core import momentum, packed

TORCH = SimpleNamespace(
    where=torch.where,
    bits=lambda x: x.view(torch.int32),
    real=lambda bits: bits.view(torch.float32),
    integer=torch.Tensor.int,
    floating=torch.Tensor.float,
    shift=torch.bitwise_right_shift,
)
JAX = SimpleNamespace(
    where=jnp.where,
    bits=lambda x: jax.lax.bitcast_convert_type(x, jnp.int32),
    real=lambda bits: jax.lax.bitcast_convert_type(bits, jnp.float32),
    integer=lambda x: x.astype(jnp.int32),
    floating=lambda bits: bits.astype(jnp.float32),
    shift=jnp.right_shift,
)
TENSORFLOW = SimpleNamespace(
    where=tf.where,
    bits=lambda x: tf.bitcast(x, tf.int32),
    real=lambda bits: tf.bitcast(bits, tf.float32),
    integer=lambda x: tf.cast(x, tf.int32),
    floating=lambda bits: tf.cast(bits, tf.float32),
    shift=tf.bitwise.right_shift,
)
FRAMEWORKS = {
    "numpy": (np.asarray, packed.NUMPY, lambda f: f),
    "torch": (torch.asarray, TORCH, lambda f: f),
    "jax": (jnp.asarray, JAX, lambda f: f),
    "jax compiled": (jnp.asarray, JAX, jax.jit),
    "tensorflow": (tf.convert_to_tensor, TENSORFLOW, lambda f: f),
    "tensorflow xla": (
        tf.convert_to_tensor,
        TENSORFLOW,
        lambda f: tf.function(f, jit_compile=True),
    ),
}
CODES_OF_M, CODES_OF_V = 2 * 7 * 2**12, 69 * 2**10 + 106 * 2**5 + 1
"""The second moment's last code is infinity."""


def momentum_of(code: int) -> Fraction:
    """The number that a code of the momentum represents, by the definition of the format."""
    octave, place = divmod(code, 2**12)
    return Fraction(2) ** (octave - 3) * (1 + Fraction(place, 2**12)) - Fraction(1, 8)


def second_moment_of(code: int) -> Fraction:
    """The number that a code of the second moment represents."""
    if code < 69 * 2**10:
        octave, place = divmod(code, 2**10)
        return Fraction(2) ** (octave - 47) * (1 + Fraction(place, 2**10)) - Fraction(1, 2**47)
    octave, place = divmod(code - 69 * 2**10, 2**5)
    return Fraction(2) ** (octave + 22) * (1 + Fraction(place, 2**5))


def words(n=200_000):
    rng = np.random.default_rng(0)
    of_m, of_v = rng.integers(0, CODES_OF_M, n), rng.integers(0, CODES_OF_V, n)
    of_m[:4], of_v[:4] = [0, CODES_OF_M - 1, 0, 5], [0, 0, CODES_OF_V - 1, CODES_OF_V - 2]
    whole = (of_v * CODES_OF_M + of_m).astype(np.uint32).view(np.int32)
    return whole, of_m, of_v


@pytest.fixture(params=FRAMEWORKS)
def functions(request):
    """``pack``, ``unpack`` and ``turn_of`` for NumPy arrays, computed by a framework."""
    asarray, to, wrap = FRAMEWORKS[request.param]

    def pack(*arrays):
        def whole(m, v, index, turned):
            return packed.pack(m, v, packed.thresholds(index, turned), to)

        return np.asarray(wrap(whole)(*map(asarray, arrays)))

    def unpack(word):
        return tuple(np.asarray(x) for x in wrap(lambda w: packed.unpack(w, to))(asarray(word)))

    def turn_of(number):
        return np.asarray(wrap(lambda x: packed.turn_of(x, to))(asarray(number)))

    return pack, unpack, turn_of


def test_words_are_the_numbers_of_their_formats(functions):
    _, unpack, _ = functions
    whole, of_m, of_v = words(2000)
    m, v = unpack(whole)
    assert m.dtype == v.dtype == np.float32
    for code, value in zip(of_m.tolist(), m.tolist(), strict=True):
        sign = -1 if code >= CODES_OF_M // 2 else 1
        assert Fraction(value) == sign * momentum_of(code % (CODES_OF_M // 2))
    for code, value in zip(of_v.tolist(), v.tolist(), strict=True):
        expected = np.inf if code == CODES_OF_V - 1 else float(second_moment_of(code))
        assert value == np.float32(expected)


def test_what_a_word_holds_is_packed_into_the_same_word_whatever_the_threshold(functions):
    pack, unpack, _ = functions
    whole, *_ = words()
    indices = np.arange(len(whole), dtype=np.int32)
    for draw in (0, 1, 77):
        turn = np.int32(packed.turn(draw))
        np.testing.assert_array_equal(pack(*unpack(whole), indices, turn), whole)


def test_every_framework_rounds_to_the_same_words(functions):
    pack, _, turn_of = functions
    rng = np.random.default_rng(1)
    m = (rng.normal(size=100_000) * 10.0 ** rng.uniform(-8, 1, 100_000)).astype(np.float32)
    v = (10.0 ** rng.uniform(-30, 30, 100_000)).astype(np.float32)
    draws = np.arange(100_000, dtype=np.int32)
    turns = turn_of(draws)
    assert [packed.turn(int(d)) for d in draws[:2000]] == turns[:2000].tolist()
    indices = rng.integers(0, 2**31, 100_000).astype(np.int32)
    np.testing.assert_array_equal(
        pack(m, v, indices, turns),
        packed.pack(m, v, packed.thresholds(indices, turns), packed.NUMPY),
    )


def test_zero_is_the_word_zero_and_what_is_not_finite_stays_so(functions):
    pack, unpack, _ = functions
    m = np.float32([0, np.nan, np.inf, -1e30, 20])
    v = np.float32([0, np.nan, np.inf, 3e38, 0])
    word = pack(m, v, np.arange(5, dtype=np.int32), np.int32(-1))
    assert word[0] == 0
    back_m, back_v = unpack(word)
    np.testing.assert_array_equal(back_m, np.float32([0, 1, 1, -1, 1]) * packed.LARGEST)
    np.testing.assert_array_equal(back_v[:3], v[:3])
    assert np.isfinite(back_v[3:]).all()


@pytest.mark.parametrize("size", [1e-7, 1e-3, 0.2, 1.0, 9.0])
def test_rounding_has_no_bias_whatever_the_number(size):
    """The mean over all thresholds is the number itself, up to rounding: no bias."""
    n = 1 << 17
    for sign in (1, -1):
        m = np.full(n, sign * size, np.float32)
        v = np.full(n, 1.7 * size**2, np.float32)
        turn = np.int32(packed.turn(3))
        word = packed.pack(
            m, v, packed.thresholds(np.arange(n, dtype=np.int32), turn), packed.NUMPY
        )
        back_m, back_v = (x.astype(float) for x in packed.unpack(word, packed.NUMPY))
        assert len(np.unique(back_m)) <= 2
        assert len(np.unique(back_v)) <= 2
        spacing = (size + 0.125) * 2.0**-12
        assert abs(back_m.mean() - float(m[0])) < 2e-3 * spacing + 2.0**-27
        spacing = (float(v[0]) + 2.0**-47) * 2.0**-10
        assert abs(back_v.mean() - float(v[0])) < 2e-3 * spacing


def test_draws_are_independent_of_each_other_and_spread_evenly():
    turns = np.array([packed.turn(d) for d in range(20_000)], np.int64) % 2**32
    for bits in (turns >> 21, turns & 0x1FFF):
        values = bits / bits.max()
        assert abs(values.mean() - 0.5) < 4 * np.sqrt(1 / 12 / len(values))
        for lag in (1, 2, 3, 5, 8, 100):
            assert abs(np.corrcoef(values[lag:], values[:-lag])[0, 1]) < 4 / np.sqrt(len(values))
    assert abs(np.corrcoef(turns >> 21, turns & 0x1FFF)[0, 1]) < 4 / np.sqrt(len(turns))


def test_draws_come_again_after_2_to_the_24_and_begin_elsewhere_with_another_seed():
    assert packed.draw(1) == packed.draw(packed.DRAWS + 1)
    assert packed.draw(2, seed=-5) == packed.draw(1, seed=-5) + 1
    begins = [packed.draw(1, seed) for seed in range(1000)]
    assert len(set(begins)) == len(begins)
    assert all(0 <= b < packed.DRAWS and np.float32(b) == b for b in begins)


def errors(alpha, beta, gamma, seeds, steps=1000, n=600):
    """Errors of a float64 parameter with packed state, one row per seed; and the distance moved."""
    rng = np.random.default_rng(0)
    rng.normal(size=n)
    scale, drift = (
        np.exp(2 * rng.normal(size=n)),
        0.15 * rng.normal(size=n) * np.exp(rng.normal(size=n)),
    )
    exact = [np.zeros(n) for _ in range(3)]
    theta = np.zeros((len(seeds), n))
    word = np.zeros((len(seeds), n), np.int32)
    index = np.arange(n, dtype=np.int32)[None]
    options = {"gamma": gamma, "alpha": alpha, "beta": beta, "sigma": 0.999, "eps": 1e-8}
    for k in range(1, steps + 1):
        g = (scale * (drift + rng.normal(size=n))).astype(np.float32)
        c = momentum.coefficients(k, **options, weight_decay=0.0)
        exact = momentum.step(*exact, g.astype(float), c)
        m, v = packed.unpack(word, packed.NUMPY)
        descent, m, v = momentum.move(theta, m.astype(float), v.astype(float), g.astype(float), c)
        theta = theta - descent
        turns = [packed.turn(int(packed.draw(k, seed))) for seed in seeds]
        turn = np.array(turns, np.int32)[:, None]
        thresholds = packed.thresholds(index, turn)
        word = packed.pack(m.astype(np.float32), v.astype(np.float32), thresholds, packed.NUMPY)
    return theta - exact[0], exact[0]


@pytest.mark.parametrize("gamma", [1e-2, 1e-3, 1e-5])
@pytest.mark.parametrize(("alpha", "beta"), [(0.1, 0.9), (2.0, 2.0)])
def test_the_trajectory_is_right_in_the_mean_over_seeds(alpha, beta, gamma):
    error, moved = errors(alpha, beta, gamma, range(40))
    along = error @ moved / (moved @ moved)
    assert np.abs(along).max() < 3e-3
    assert abs(along.mean()) < 3.5 * along.std(ddof=1) / np.sqrt(len(along))
    assert (np.linalg.norm(error, axis=1) < 3.5e-3 * np.linalg.norm(moved)).all()
