"""A 16-bit variable and its residual are the float32 trajectory."""

from importlib import import_module

import keras
import numpy as np
import pytest
from keras import ops

from innaprop.keras import INNAprop
from innaprop_core import Hyperparameters, trajectory

NAMES = {"tensorflow": "variables", "jax": "functional", "torch": "foreach"}
DTYPES = ["bfloat16", "float16"]
form = import_module(f"innaprop.forms.{NAMES[keras.backend.backend()]}")


def numpy(x):
    return np.array(ops.convert_to_numpy(ops.cast(x, "float32")))


def rounded(values, dtype):
    return numpy(ops.convert_to_tensor(np.asarray(values, np.float32), dtype)).astype(float)


def bfloat16(values):
    return rounded(values, "bfloat16")


def whole(variable, optimizer):
    return numpy(optimizer.master_weights(variable))


def split(values, dtype="bfloat16"):
    dtype = ops.zeros(1, dtype).dtype
    return form.split(ops.convert_to_tensor(values), dtype)


def test_bfloat16_and_residual_hold_every_float32():
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, size=100_000, dtype=np.uint32)
    edges = np.array([0, 0x00800000, 0x3F807FFF, 0x3F808000, 0x3F808001, 0x7F7F0000], np.uint32)
    values = np.concatenate([bits, edges, edges | 0x80000000]).view(np.float32)
    magnitude = np.abs(values)
    # Above is infinity in bfloat16; what is below, XLA may take for zero.
    values = values[(magnitude < 3.39e38) & ((magnitude > 1.2e-38) | (magnitude == 0))]
    parameter, residual = split(values)
    assert keras.backend.standardize_dtype(parameter.dtype) == "bfloat16"
    assert keras.backend.standardize_dtype(residual.dtype) == "int16"
    back = numpy(form.join(parameter, residual))
    np.testing.assert_array_equal(back.view(np.int32), values.view(np.int32))
    nearest = bfloat16(values)
    assert (np.abs(numpy(parameter) - values) <= np.abs(nearest - values)).all()


def test_float16_and_residual_hold_float32_in_its_range():
    rng = np.random.default_rng(0)
    values = np.exp2(rng.uniform(-14, 15.99, 100_000)) * rng.choice([-1, 1], 100_000)
    values = values.astype(np.float32)
    parameter, residual = split(values, "float16")
    np.testing.assert_array_equal(numpy(parameter), values.astype(np.float16).astype(np.float32))
    error = np.abs(numpy(form.join(parameter, residual)) - values)
    assert (error <= 2.0**-24 * np.abs(values)).all()
    assert (error > 0).mean() < 1e-3  # exact halves, whose residual is one unit short


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_stays_so(value, dtype):
    joined = form.join(*split(np.array([value], np.float32), dtype))
    np.testing.assert_array_equal(numpy(joined), [value])


@pytest.fixture
def compiled():
    """A maker of one update as each backend compiles it."""

    def make(optimizer, variable):
        backend = keras.backend.backend()
        if backend == "tensorflow":
            import tensorflow as tf

            return tf.function(lambda g: optimizer.apply([g], [variable]), jit_compile=True)
        if backend == "torch":
            return lambda g: optimizer.apply([g], [variable])
        import jax

        optimizer.build([variable])
        step = jax.jit(optimizer.stateless_apply)

        def apply(g):
            values, state = step([v.value for v in optimizer.variables], [g], [variable.value])
            for v, new in zip([variable, *optimizer.variables], [*values, *state], strict=True):
                v.assign(new)

        return apply

    return make


@pytest.mark.parametrize(
    ("rate", "dtype"),
    [*((rate, "bfloat16") for rate in (1e-3, 1e-4, 1e-5)), (1e-3, "float16"), (1e-5, "float16")],
)
def test_at_the_float32_floor(rate, dtype, compiled):
    rng = np.random.default_rng(0)
    start = rounded(rng.normal(size=200), dtype)
    drift = 0.3 * rng.normal(size=200)
    gradients = [rounded(drift + rng.normal(size=200), dtype) for _ in range(1000)]
    exact, floor = (
        trajectory(Hyperparameters(gamma=rate), start, gradients, digits=None, stored_in=s).theta[
            -1
        ]
        for s in (None, np.float32)
    )
    variable = keras.Variable(start, dtype=dtype)
    optimizer = INNAprop(rate)
    apply = compiled(optimizer, variable)
    for g in gradients:
        apply(ops.convert_to_tensor(g, dtype))
    both = np.linalg.norm(whole(variable, optimizer) - exact)
    assert both < 1.5 * np.linalg.norm(floor - exact)
    alone = np.linalg.norm(numpy(variable) - exact)
    assert alone < 1.02 * np.linalg.norm(rounded(exact, dtype) - exact)


@pytest.mark.parametrize("dtype", DTYPES)
def test_without_the_residual_it_hardly_moves(dtype):
    variable = keras.Variable(np.ones(20), dtype=dtype)
    optimizer = INNAprop(1e-5, residual=False)
    for _ in range(20):
        optimizer.apply([ops.ones(20, dtype)], [variable])
    assert [v for v in optimizer.variables if v.dtype == "int16"] == []
    np.testing.assert_array_equal(numpy(variable), 1.0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_written_value_is_taken_up_within_half_a_last_place(dtype):
    rng = np.random.default_rng(0)
    variable = keras.Variable(rng.normal(size=1000), dtype=dtype)
    optimizer = INNAprop(1e-2)
    for _ in range(3):
        optimizer.apply([ops.convert_to_tensor(rng.normal(size=1000), dtype)], [variable])
    written = rounded([*rng.normal(size=996), 0.0, -0.0, 1.0, -2.0], dtype)
    variable.assign(written)
    optimizer.learning_rate = 0.0
    optimizer.apply([ops.zeros(1000, dtype)], [variable])
    assert (np.abs(whole(variable, optimizer) - written) <= 2.0**-8 * np.abs(written) + 1e-7).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_state_is_float32_and_psi_too(dtype):
    variable = keras.Variable(np.ones(3), dtype=dtype)
    optimizer = INNAprop(gradient_accumulation_steps=2, use_ema=True)
    optimizer.build([variable])
    dtypes = {v.path.rpartition("/")[2]: v.dtype for v in optimizer.variables}
    dtypes.pop("iteration")
    assert sorted(dtypes.values()) == ["float32"] * 5 + ["int16"]
    assert keras.backend.standardize_dtype(optimizer.psi(variable).dtype) == "float32"


@pytest.mark.parametrize("overwrite", [None, 3])
def test_moving_averages_do_not_stand_still(overwrite):
    """In bfloat16 a memory of 0.999 is 1."""
    narrow, wide = (keras.Variable(np.ones(8), dtype=d) for d in ("bfloat16", "float32"))
    for variable in (narrow, wide):
        optimizer = INNAprop(
            1e-1, use_ema=True, ema_momentum=0.999, ema_overwrite_frequency=overwrite
        )
        for _ in range(30):
            optimizer.apply([ops.ones(8, variable.dtype)], [variable])
        optimizer.finalize_variable_values([variable])
    assert (numpy(wide) < 0.96).all()
    np.testing.assert_allclose(numpy(narrow), numpy(wide), rtol=2**-7)


def test_accumulated_gradients_are_added_in_float32():
    """256 + 1 is 256 in bfloat16."""
    variable = keras.Variable(np.zeros(1), dtype="bfloat16")
    optimizer = INNAprop(1e-3, sigma=0.0, epsilon=1e3, gradient_accumulation_steps=3)
    for g in (256.0, 1.0, 1.0):
        optimizer.apply([ops.convert_to_tensor([g], "bfloat16")], [variable])
    expected = -1e-3 * 0.9 * 86 / (86 + 1e3)
    np.testing.assert_allclose(whole(variable, optimizer), [expected], rtol=1e-6)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_model_of_policy_bfloat16_learns_in_fit(jit_compile):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(16, activation="tanh", dtype="bfloat16") for _ in range(2)]
    model = keras.Sequential([keras.Input((8,)), *layers, keras.layers.Dense(1, dtype="bfloat16")])
    x = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
    model.compile(INNAprop(1e-2), "mse", jit_compile=jit_compile)
    loss = model.fit(x, x[:, :1], epochs=10, batch_size=16, verbose=0).history["loss"]
    assert loss[-1] < 0.3 * loss[0]


def test_master_weights_of_other_variables_are_their_values():
    w = keras.Variable(np.ones(3), dtype="float32")
    other = keras.Variable(np.ones(3), dtype="float32")
    optimizer = INNAprop()
    optimizer.apply([ops.ones(3)], [w])
    np.testing.assert_array_equal(numpy(optimizer.master_weights(w)), numpy(w))
    with pytest.raises(ValueError, match="Unknown variable"):
        optimizer.master_weights(other)


def test_the_residual_is_zero_where_a_constraint_changes_the_value():
    v = keras.Variable(np.float32([1.0, -1.0, 0.5]), dtype="bfloat16")
    v.constraint = lambda x: ops.clip(x, -1, 1)
    optimizer = INNAprop(1e-3, weight_decay=0.0)
    for _ in range(10):
        optimizer.apply([ops.convert_to_tensor([-1.0, 1.0, 1.0], "bfloat16")], [v])
    v.assign(ops.convert_to_tensor([2.0, -2.0, 0.5], "bfloat16"))
    optimizer.apply([ops.convert_to_tensor([-1.0, 1.0, 1.0], "bfloat16")], [v])
    np.testing.assert_array_equal(whole(v, optimizer)[:2], [1, -1])
    assert whole(v, optimizer)[2] != numpy(v)[2]
