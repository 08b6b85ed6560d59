"""A state of 16 bits a number: the trajectory, the memory, and the ways in and out of it."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import innaprop
from innaprop.forms.functional import unpack
from innaprop.optax import innaprop as make
from innaprop.optax import master_weights, psi
from innaprop_core import Hyperparameters, momentum, packed, trajectory

PRESETS = {"fast": {"alpha": 0.1, "beta": 0.9}, "accurate": {"alpha": 2.0, "beta": 2.0}}


def gradients(steps, n=600):
    """Noise about a drift, of elements whose sizes differ by orders of magnitude."""
    rng = np.random.default_rng(0)
    scale, drift = np.exp(2 * rng.normal(size=n)), 0.3 * rng.normal(size=n)
    return (scale * (drift + rng.normal(size=(steps, n)))).astype(np.float32)


def start(n=600):
    return jnp.asarray(np.random.default_rng(1).normal(size=n), jnp.float32)


def run(optimizer, params, given, state=None):
    """Return parameters and state after an update with each gradient."""
    state = optimizer.init(params) if state is None else state

    def step(carry, g):
        params, state = carry
        g = jax.tree.map(lambda p: g.astype(p.dtype), params)
        updates, state = optimizer.update(g, state, params)
        return (optax.apply_updates(params, updates), state), None

    return jax.jit(lambda c, gs: jax.lax.scan(step, c, gs)[0])((params, state), jnp.asarray(given))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("rate", [1e-2, 1e-3, 1e-4])
@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS.keys())
def test_within_three_thousandths_of_the_distance_moved(preset, rate, dtype):
    given = gradients(1500).astype(dtype).astype(np.float32)
    begin = start().astype(dtype)
    first = np.asarray(begin.astype(jnp.float32), float)
    h = Hyperparameters(gamma=rate, **preset)
    exact = trajectory(h, first, given.astype(float), digits=None).theta[-1]
    params, state = run(make(rate, state_bits=16, **preset), begin, given)
    ours = np.asarray(master_weights(state, params), float)
    assert np.linalg.norm(ours - exact) < 3e-3 * np.linalg.norm(exact - first)


def test_it_rounds_as_the_core_does():
    """But for a few that are rounded at a threshold, which roundoff moves."""
    given, seed = gradients(50), 11
    theta, word = np.asarray(start()), np.zeros(600, np.int32)
    indices = np.arange(600, dtype=np.int32)
    options = {"gamma": 1e-3, **PRESETS["fast"], "sigma": 0.999, "eps": 1e-8, "weight_decay": 0.1}
    for k, g in enumerate(given, start=1):
        c = momentum.coefficients(k, **options, seed=seed)
        theta, m, v = momentum.step(theta, *packed.unpack(word, packed.NUMPY), g, c)
        turned = np.int32(packed.turn(int(c.draw)))
        word = packed.pack(m, v, packed.thresholds(indices, turned), packed.NUMPY)
    params, state = run(make(1e-3, weight_decay=0.1, state_bits=16, seed=seed), start(), given)
    assert (np.asarray(state.momentum) != word).mean() < 5e-3
    np.testing.assert_allclose(params, theta, atol=2e-6)


def test_four_bytes_a_parameter_and_zero_at_first():
    params = {"w": start(), "b": start(5).astype(jnp.bfloat16)}
    state = make(1e-3, state_bits=16).init(params)
    assert state.second_moment is None
    assert jax.tree.map(lambda x: x.dtype, state.momentum) == {"w": jnp.int32, "b": jnp.int32}
    assert not any(x.any() for x in jax.tree.leaves(state.momentum))


def test_a_run_that_is_resumed_has_the_same_bits():
    optimizer, given = make(1e-2, state_bits=16, seed=5), gradients(40)
    whole = run(optimizer, start(), given)
    halves = pickle.loads(pickle.dumps(run(optimizer, start(), given[:20])))
    resumed = run(optimizer, *[halves[0], given[20:]], state=halves[1])
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(resumed), strict=True):
        np.testing.assert_array_equal(one, other)


def test_another_seed_rounds_otherwise():
    words = [
        run(make(1e-2, state_bits=16, seed=seed), start(), gradients(20))[1].momentum
        for seed in (0, 1)
    ]
    assert (words[0] != words[1]).mean() > 0.3


def test_portable_files_take_states_from_one_kind_to_the_other(tmp_path):
    narrow, wide = make(1e-2, state_bits=16), make(1e-2)
    params, state = run(narrow, start(), gradients(20))
    innaprop.save_state(tmp_path / "state", state, params)
    unpacked = innaprop.load_state(tmp_path / "state", wide.init(params), params)
    m, v = unpack(state.momentum)
    np.testing.assert_array_equal(unpacked.momentum, m)
    np.testing.assert_array_equal(unpacked.second_moment, v)
    innaprop.save_state(tmp_path / "wide", unpacked, params)
    back = innaprop.load_state(tmp_path / "wide", narrow.init(params), params)
    np.testing.assert_array_equal(back.momentum, state.momentum)
    assert back.second_moment is None
    assert back.count == state.count


def test_psi_is_that_of_the_wide_state():
    ours, theirs = (
        psi(state, params)
        for bits in (16, 32)
        for params, state in [run(make(1e-3, state_bits=bits), start(), gradients(50))]
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)


def test_outside_of_jit_it_is_the_same():
    optimizer, given = make(1e-2, state_bits=16), gradients(5)
    params, state = start(), optimizer.init(start())
    for g in given:
        updates, state = optimizer.update(jnp.asarray(g), state, params)
        params = optax.apply_updates(params, updates)
    jitted, words = run(optimizer, start(), given)
    np.testing.assert_allclose(params, jitted, atol=1e-6)
    assert (state.momentum != words.momentum).mean() < 1e-2


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"state_bits": 8}, ValueError, "state_bits must be one of 32, 16, got 8"),
        ({"state_bits": 16.0}, TypeError, "state_bits must be an integer, got 16.0"),
        ({"seed": 0.5}, TypeError, "seed must be an integer, got 0.5"),
    ],
)
def test_bad_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        make(1e-3, **options)


def test_with_injected_hyperparameters():
    static = ("state_bits", "seed")
    injected = optax.inject_hyperparams(make, static_args=static)(1e-2, state_bits=16, seed=3)
    plain = make(1e-2, state_bits=16, seed=3)
    (p, _), (q, _) = (run(o, start(), gradients(10)) for o in (injected, plain))
    np.testing.assert_allclose(p, q, atol=2e-5)
    state = optax.inject_hyperparams(make)(1e-2).init(start())
    assert "state_bits" not in state.hyperparams
    with pytest.raises(TypeError, match="static_args='state_bits'"):
        optax.inject_hyperparams(make)(1e-2, state_bits=16).init(start())


def test_states_of_other_bits_are_refused():
    params = start(3)
    for bits, other in ((16, 32), (32, 16)):
        state = make(1e-3, state_bits=other).init(params)
        with pytest.raises(ValueError, match=f"state must be of {bits} bits, got one of {other}"):
            make(1e-3, state_bits=bits).update(params, state, params)


def test_float64_is_refused():
    with jax.enable_x64(True), pytest.raises(TypeError, match=r"got float64 for params\['w'\]"):
        make(1e-3, state_bits=16).init({"w": jnp.zeros(3, jnp.float64)})
