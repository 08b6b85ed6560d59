"""A 16-bit parameter and its residual are the float32 trajectory."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from innaprop.forms.functional import join, split, to_float32
from innaprop.optax import innaprop, master_weights, psi
from innaprop_core import Hyperparameters, trajectory

DTYPES = [jnp.bfloat16, jnp.float16]


def bits(values):
    return np.asarray(values).view(np.uint32)


def every_kind_of_float32(n):
    random = np.random.default_rng(0).integers(0, 2**32, size=n, dtype=np.uint32)
    edges = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF, 0x10000, 0x7F7EFFFF], np.uint32)
    values = np.concatenate([random, edges, edges | 0x80000000]).view(np.float32)
    # Above this, bfloat16 has infinity only.
    return values[np.abs(values) < 3.3961775292304957e38]


def stored(value, dtype=jnp.bfloat16):
    """Return what a parameter that has been moved to a float32 is, and its residual."""
    return split(jnp.asarray(value), dtype)


def test_both_hold_every_float32():
    values = every_kind_of_float32(200_000)
    np.testing.assert_array_equal(bits(join(*stored(values))), bits(values))


def rejoined(values, dtype):
    """Return float32 values split and joined in one compiled function, and the halves."""

    @jax.jit
    def both(values):
        parameter, residual = split(values, dtype)
        return join(parameter, residual), parameter, residual

    joined, parameter, residual = both(jnp.asarray(values))
    return np.asarray(joined), np.asarray(parameter), np.asarray(residual)


def test_both_hold_every_float32_in_one_compiled_function():
    """In which XLA might drop the casts there and back."""
    values = every_kind_of_float32(1_000_000)
    joined, _, _ = rejoined(values, jnp.bfloat16)
    np.testing.assert_array_equal(bits(joined), bits(values))


def test_every_float16_survives_one_compiled_function():
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    joined, parameter, residual = rejoined(every.astype(np.float32), jnp.float16)
    np.testing.assert_array_equal(joined, every.astype(np.float32))
    np.testing.assert_array_equal(parameter, every)
    assert not residual.any()


def test_a_float16_and_its_residual_hold_float32_in_one_compiled_function():
    rng = np.random.default_rng(0)
    normal = np.exp2(rng.uniform(-14, 15.99, 1_000_000)) * rng.choice([-1, 1], 1_000_000)
    values = normal.astype(np.float32)
    joined, parameter, residual = rejoined(values, jnp.float16)
    np.testing.assert_array_equal(joined, values)
    np.testing.assert_array_equal(parameter, values.astype(np.float16))
    assert len(np.unique(residual)) > 8_000
    subnormal = rng.uniform(-(2.0**-14), 2.0**-14, 1_000_000).astype(np.float32)
    joined, _, _ = rejoined(subnormal, jnp.float16)
    assert np.abs(joined - subnormal).max() < 1e-12


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_stays_so(value, dtype):
    np.testing.assert_array_equal(join(*stored(np.float32([value]), dtype)), [value])


def updated(parameter, value):
    """Return the parameter after the update that leads to a float32, and the one meant."""
    meant = to_float32(stored(value, parameter.dtype)[0])
    return optax.apply_updates(parameter, meant - to_float32(parameter)), meant


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
def test_apply_updates_lands_exactly(compiled):
    """From every bfloat16 to values of 2^-15 to 2^7 times its size, of both signs."""
    every = (np.arange(2**16, dtype=np.uint32) << 16).view(np.float32)
    # XLA's arithmetic on the CPU has no subnormal numbers.
    every = every[(np.abs(every) > 1e-32) & (np.abs(every) < 1e36)]
    rng = np.random.default_rng(0)
    go = jax.jit(updated) if compiled else updated
    for exponent in range(-15, 7):
        factor = 2.0**exponent * rng.uniform(1, 2, every.size) * rng.choice([-1, 1], every.size)
        values = (every * factor).astype(np.float32)
        landed, meant = go(jnp.asarray(every, jnp.bfloat16), jnp.asarray(values))
        assert landed.dtype == jnp.bfloat16
        np.testing.assert_array_equal(np.asarray(landed, np.float32), meant)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
def test_apply_updates_lands_exactly_in_float16(compiled):
    """From every number of it, subnormal ones too, to some of 2^-12 to 2^12 times its size."""
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    every = every[np.isfinite(every)].astype(np.float32)
    rng = np.random.default_rng(0)
    go = jax.jit(updated) if compiled else updated
    for exponent in range(-12, 13):
        factor = 2.0**exponent * rng.uniform(1, 2, every.size) * rng.choice([-1, 1], every.size)
        values = np.clip(every * factor, -65000, 65000).astype(np.float32)
        landed, meant = go(jnp.asarray(every, jnp.float16), jnp.asarray(values))
        assert landed.dtype == jnp.float16
        np.testing.assert_array_equal(np.asarray(landed, np.float32), meant)


def test_a_landing_much_nearer_to_zero_is_off_by_less_than_float32_is():
    """Where the new value is below 2^-16 of the old one, no float32 difference can say both."""
    old = jnp.full(1000, 1.0, jnp.bfloat16)
    values = np.random.default_rng(0).uniform(-(2.0**-16), 2.0**-16, 1000).astype(np.float32)
    landed, meant = updated(old, values)
    assert (np.abs(np.asarray(landed, np.float32) - meant) <= 2.0**-24).all()


def follow(params, gradients, optimizer):
    state = optimizer.init(params)

    @jax.jit
    def update(params, state, g):
        updates, state = optimizer.update(g, state, params)
        return optax.apply_updates(params, updates), state

    for g in gradients:
        params, state = update(params, state, g)
        yield params, state


@pytest.mark.parametrize("learning_rate", [1e-1, 1e-3])
def test_bit_for_bit_that_of_a_float32_parameter(learning_rate):
    """At the large rate most parameters cross zero many times."""
    rng = np.random.default_rng(0)
    start = jnp.asarray(rng.normal(size=500), jnp.bfloat16)
    gradients = [jnp.asarray(rng.normal(size=500), jnp.bfloat16) for _ in range(300)]
    optimizer = innaprop(learning_rate, weight_decay=0.1)
    narrow = follow(start, gradients, optimizer)
    wide = follow(start.astype(jnp.float32), gradients, optimizer)
    for (p, state), (whole, _) in zip(narrow, wide, strict=True):
        assert p.dtype == jnp.bfloat16
        np.testing.assert_array_equal(master_weights(state, p), whole)


@pytest.mark.parametrize(
    ("learning_rate", "dtype"),
    [
        *((rate, jnp.bfloat16) for rate in (1e-3, 1e-4, 1e-5)),
        (1e-3, jnp.float16),
        (1e-5, jnp.float16),
    ],
)
def test_at_the_float32_floor(learning_rate, dtype):
    rng = np.random.default_rng(0)
    start = jnp.asarray(rng.normal(size=200), dtype)
    drift = 0.3 * rng.normal(size=200)
    gradients = [jnp.asarray(drift + rng.normal(size=200), dtype) for _ in range(3000)]
    beginning = np.asarray(start, np.float64)
    exact, floor = (
        trajectory(
            Hyperparameters(gamma=learning_rate),
            beginning,
            [np.asarray(g, np.float64) for g in gradients],
            digits=None,
            stored_in=kept,
        ).theta[-1]
        for kept in (None, np.float32)
    )
    *_, (p, state) = follow(start, gradients, innaprop(learning_rate))

    def error(theta):
        return np.linalg.norm(np.asarray(theta, np.float64) - exact)

    best = exact.astype(dtype)
    assert error(master_weights(state, p)) < 1.5 * error(floor)
    assert error(p) < 1.02 * error(best)


@pytest.mark.parametrize("dtype", DTYPES)
def test_without_the_residual_it_hardly_moves(dtype):
    start = jnp.ones(100, dtype)
    gradients = [jnp.ones(100, dtype)] * 300
    *_, (p, state) = follow(start, gradients, innaprop(1e-5, residual=False))
    assert state.residual is None
    assert (p == 1).all()
    *_, (p, _) = follow(start, gradients, innaprop(1e-5))
    assert (p < 1).all()


def test_steps_compiled_into_one_are_the_same():
    rng = np.random.default_rng(0)
    start = jnp.asarray(rng.normal(size=500), jnp.bfloat16)
    gradients = jnp.asarray(rng.normal(size=(8, 500)), jnp.bfloat16)
    optimizer = innaprop(1e-2)

    @jax.jit
    def unrolled(params, state):
        for g in gradients:
            updates, state = optimizer.update(g, state, params)
            params = optax.apply_updates(params, updates)
        return params, state

    *_, (p, state) = follow(start, gradients, optimizer)
    same, same_state = unrolled(start, optimizer.init(start))
    np.testing.assert_allclose(
        master_weights(same_state, same), master_weights(state, p), rtol=1e-6, atol=1e-8
    )


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_bits_come_from_the_parameter_and_not_from_a_cast(dtype):
    """XLA may drop a pair of casts, and hand on a float32 that was never rounded."""
    jaxpr = jax.make_jaxpr(to_float32)(jnp.ones(3, dtype))
    casts = [e for e in jaxpr.eqns if e.primitive.name == "convert_element_type"]
    assert casts
    assert all(jnp.issubdtype(e.invars[0].aval.dtype, jnp.integer) for e in casts)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_written_value_is_taken_up_within_half_a_last_place(dtype):
    rng = np.random.default_rng(0)
    p = jnp.asarray(rng.normal(size=1000), dtype)
    optimizer = optax.inject_hyperparams(innaprop, hyperparam_dtype=jnp.float32)(1e-2)
    gradients = [jnp.asarray(rng.normal(size=1000), dtype) for _ in range(3)]
    *_, (_, state) = follow(p, gradients, optimizer)
    written = jnp.asarray([*rng.normal(size=996), 0.0, -0.0, 1.0, -2.0], dtype)
    state.hyperparams["learning_rate"] = jnp.float32(0)
    updates, _ = optimizer.update(jnp.zeros_like(written), state, written)
    p = optax.apply_updates(written, updates)
    old = np.asarray(written, np.float32)
    assert (np.abs(np.asarray(p, np.float32) - old) <= 2.0**-8 * np.abs(old) + 1e-7).all()


def test_a_tree_of_several_dtypes():
    params = {"w": jnp.ones(3, jnp.bfloat16), "scale": jnp.ones(2), "none": None}
    optimizer = innaprop(1e-3)
    state = optimizer.init(params)
    assert state.residual["w"].dtype == jnp.int16
    assert state.residual["scale"] == optax.MaskedNode()
    updates, state = jax.jit(optimizer.update)(jax.tree.map(jnp.ones_like, params), state, params)
    assert {k: u.dtype for k, u in updates.items() if u is not None} == {
        "w": jnp.float32,
        "scale": jnp.float32,
    }
    assert state.momentum["w"].dtype == state.second_moment["w"].dtype == jnp.float32
    psis = psi(state, params)
    assert psis["w"].dtype == jnp.float32
    assert "residual" not in str(innaprop(1e-3).init({"scale": params["scale"]}).residual)


def test_inside_multi_steps_and_apply_if_finite():
    """``apply_if_finite`` asks for updates of the gradients' dtype: float32 gradients."""
    rng = np.random.default_rng(0)
    start = jnp.asarray(rng.normal(size=50), jnp.bfloat16)
    gradients = [jnp.asarray(rng.normal(size=50), jnp.bfloat16) for _ in range(20)]
    *_, (p, _) = follow(start, gradients, innaprop(1e-2))
    twice = [part * g for g in gradients for part in (1.5, 0.5)]
    *_, (accumulated, _) = follow(start, twice, optax.MultiSteps(innaprop(1e-2), 2))
    np.testing.assert_array_equal(accumulated, p)
    wide = [g.astype(jnp.float32) for g in gradients]
    *_, (guarded, _) = follow(start, wide, optax.apply_if_finite(innaprop(1e-2), 3))
    np.testing.assert_array_equal(guarded, p)


def test_updates_that_are_scaled_afterwards():
    """They are differences of rounded values: doubled they are such too, zeroed as well."""
    start = jnp.full(10, 8.0, jnp.bfloat16)
    gradients = [jnp.ones(10, jnp.bfloat16)] * 200
    options = {"alpha": 1.0, "beta": 1.0, "weight_decay": 0.0}
    for factor in (0.0, 1.0, 2.0):
        optimizer = optax.chain(innaprop(1e-2, **options), optax.scale(factor))
        *_, (p, _) = follow(start, gradients, optimizer)
        assert 8 - float(p[0]) == pytest.approx(2 * factor, abs=0.05)


def test_master_weights_are_a_tree_of_float32_for_bfloat16_and_the_rest_as_it_is():
    params = {"w": jnp.ones(3, jnp.bfloat16), "scale": jnp.ones(2), "none": None}
    optimizer = innaprop(1e-3)
    state = optimizer.init(params)
    updates, state = optimizer.update(jax.tree.map(jnp.ones_like, params), state, params)
    params = optax.apply_updates(params, updates)
    weights = jax.jit(master_weights)(state, params)
    assert weights["w"].dtype == jnp.float32
    np.testing.assert_allclose(weights["w"], 1 - 0.00091, rtol=1e-5)
    np.testing.assert_array_equal(weights["scale"], params["scale"])
    assert weights["none"] is None
    with pytest.raises(TypeError, match="state must be an INNApropState, got tuple"):
        master_weights((), params)
