"""Every misuse has an error that names what was given."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from innaprop.optax import innaprop, psi


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"learning_rate": -1.0}, ValueError, "learning_rate must be a finite number >= 0, got -1"),
        ({"learning_rate": "fast"}, TypeError, "learning_rate must be a finite number >= 0, got"),
        ({"learning_rate": None}, TypeError, "learning_rate must be a finite number >= 0, got Non"),
        ({"learning_rate": True}, TypeError, "learning_rate must be a finite number >= 0, got Tru"),
        ({"learning_rate": np.nan}, ValueError, "learning_rate must be a finite number >= 0, got"),
        (
            {"learning_rate": 0.9},
            ValueError,
            "learning_rate must be smaller than beta, got learning_rate=0.9 with beta=0.9",
        ),
        ({"alpha": -0.1}, ValueError, "alpha must be a finite number >= 0, got -0.1"),
        ({"alpha": 1j}, TypeError, "alpha must be a finite number >= 0, got 1j"),
        ({"beta": 0}, ValueError, "beta must be a finite number > 0, got 0"),
        ({"beta": np.inf}, ValueError, "beta must be a finite number > 0, got inf"),
        ({"sigma": 1}, ValueError, "sigma must be a number in [0, 1), got 1"),
        ({"sigma": lambda k: 0.9}, TypeError, "sigma must be a number in [0, 1), got <function"),
        ({"eps": -1e-8}, ValueError, "eps must be a finite number >= 0, got -1e-08"),
        ({"weight_decay": None}, TypeError, "weight_decay must be a finite number >= 0, got None"),
        ({"weight_decay": -0.1}, ValueError, "weight_decay must be a finite number >= 0, got -0.1"),
        ({"residual": None}, TypeError, "residual must be True or False, got None"),
        # Arrays.
        ({"learning_rate": np.float32(-1)}, ValueError, "learning_rate must be a finite number"),
        ({"beta": jnp.float32(-1)}, ValueError, "beta must be a finite number > 0, got -1.0"),
        (
            {"learning_rate": jnp.ones(3)},
            ValueError,
            "learning_rate must be a scalar, got an array of shape (3,); for one value per model "
            "use jax.vmap",
        ),
        (
            {"sigma": jnp.bfloat16(0.999)},
            TypeError,
            "sigma must be float32 or float64, got bfloat16; optax.inject_hyperparams takes "
            "hyperparam_dtype=jax.numpy.float32",
        ),
    ],
    ids=lambda value: str(value).partition(" at 0x")[0],
)
def test_arguments(arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        innaprop(**{"learning_rate": 1e-3, **arguments})


def test_a_missing_learning_rate_and_an_unknown_argument():
    with pytest.raises(TypeError, match="learning_rate"):
        innaprop()
    with pytest.raises(TypeError, match="b1"):
        innaprop(1e-3, b1=0.9)


@pytest.mark.parametrize(
    ("schedules", "error", "message"),
    [
        ({"learning_rate": lambda k: -1.0}, ValueError, "learning_rate must be a finite number"),
        ({"learning_rate": lambda k: 2.0}, ValueError, "learning_rate must be smaller than beta"),
        ({"beta": lambda k: 1e-4}, ValueError, "learning_rate must be smaller than beta"),
        ({"alpha": lambda k: None}, TypeError, "alpha must be a finite number >= 0, got None"),
        ({"alpha": lambda k: jnp.ones(2)}, ValueError, "alpha must be a scalar, got an array of"),
        (
            {"learning_rate": lambda k: jnp.bfloat16(1e-3)},
            TypeError,
            "learning_rate must be float32 or float64, got bfloat16",
        ),
    ],
    ids=["negative", "too large", "beta too small", "None", "not scalar", "bfloat16"],
)
def test_what_a_schedule_gives(schedules, error, message):
    optimizer = innaprop(**{"learning_rate": 1e-3, **schedules})
    w = jnp.ones(2)
    state = optimizer.init(w)
    for update in (optimizer.update, jax.jit(optimizer.update)):
        with pytest.raises(error, match=re.escape(message)):
            update(w, state, w)


def test_injected_into_bfloat16_alone():
    """Left to itself optax would make 0.999 a bfloat16, which is 1."""
    w = jnp.ones(2, jnp.bfloat16)
    with pytest.raises(TypeError, match=r"takes hyperparam_dtype=jax\.numpy\.float32"):
        optax.inject_hyperparams(innaprop)(1e-3).init(w)
    optax.inject_hyperparams(innaprop, hyperparam_dtype=jnp.float32)(1e-3).init(w)


def test_injected_out_of_range_between_updates():
    optimizer, w = optax.inject_hyperparams(innaprop)(1e-3), jnp.ones(2)
    state = optimizer.init(w)
    state.hyperparams["learning_rate"] = jnp.float32(5.0)
    with pytest.raises(ValueError, match="learning_rate must be smaller than beta"):
        optimizer.update(w, state, w)


@pytest.mark.parametrize(
    ("leaf", "message"),
    [
        (jnp.ones(2, jnp.int32), "got int32 for params['layer']['w']; leave out what is not"),
        (jnp.ones(2, jnp.complex64), "got complex64 for params['layer']['w']"),
        (jnp.ones(2, bool), "got bool for params['layer']['w']"),
        (jax.random.key(0), "got key<fry> for params['layer']['w']"),
        ("w", "params['layer']['w'] must be an array, got 'w'"),
        (3, "got int32 for params['layer']['w']; leave out what is not trained"),
        (True, "params['layer']['w'] must be an array, got True"),
    ],
    ids=["int32", "complex64", "bool", "key", "string", "integer", "True"],
)
def test_parameters(leaf, message):
    optimizer = innaprop(1e-3)
    params = {"layer": {"w": leaf, "b": jnp.ones(2)}}
    with pytest.raises(TypeError, match=re.escape(message)):
        optimizer.init(params)
    state = optimizer.init({"layer": {"w": jnp.ones(2), "b": jnp.ones(2)}})
    with pytest.raises(TypeError, match=re.escape(message)):
        optimizer.update(params, state, params)


PARAMS = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}


def test_no_params():
    optimizer = innaprop(1e-3)
    message = "params must be given, got None: call update(gradients, state, params)"
    with pytest.raises(ValueError, match=re.escape(message)):
        optimizer.update(PARAMS, optimizer.init(PARAMS))


@pytest.mark.parametrize(
    ("gradients", "error", "message"),
    [
        ({"w": PARAMS["w"]}, ValueError, "gradients must have the structure of params: "),
        ([PARAMS["w"], PARAMS["b"]], ValueError, "gradients must have the structure of params: "),
        (None, ValueError, "gradients must have the structure of params: "),
        (
            {**PARAMS, "b": None},
            ValueError,
            "the gradient of params['b'] is None: give zeros, or leave the parameter out",
        ),
        (
            {**PARAMS, "b": jnp.ones((3, 1))},
            ValueError,
            "the gradient of params['b'] must have shape (3,), got (3, 1)",
        ),
        (
            {**PARAMS, "b": jnp.ones(())},
            ValueError,
            "the gradient of params['b'] must have shape (3,), got ()",
        ),
        (
            {**PARAMS, "w": jnp.ones((2, 3), jnp.int32)},
            TypeError,
            "the gradient of params['w'] must be real and floating, got int32",
        ),
        (
            {**PARAMS, "w": jnp.ones((2, 3), jnp.complex64)},
            TypeError,
            "the gradient of params['w'] must be real and floating, got complex64",
        ),
        (
            {**PARAMS, "w": {"kernel": PARAMS["w"]}},
            TypeError,
            "the gradient of params['w'] must be an array, got {'kernel'",
        ),
    ],
    ids=["missing", "list", "None", "None leaf", "shape", "scalar", "int", "complex", "deeper"],
)
def test_gradients(gradients, error, message):
    optimizer = innaprop(1e-3)
    state = optimizer.init(PARAMS)
    for update in (optimizer.update, jax.jit(optimizer.update)):
        with pytest.raises(error, match=re.escape(message)):
            update(gradients, state, PARAMS)


def narrow(tree):
    return jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), tree)


@pytest.mark.parametrize(
    ("state", "params", "error", "message"),
    [
        (
            innaprop(1e-3).init({"w": PARAMS["w"]}),
            PARAMS,
            ValueError,
            "the state's momentum must have the structure of params: ",
        ),
        (
            innaprop(1e-3).init({**PARAMS, "b": jnp.ones(4)}),
            PARAMS,
            ValueError,
            "the state's momentum of params['b'] must have shape (3,), got (4,)",
        ),
        (
            innaprop(1e-3).init(PARAMS)._replace(momentum={**PARAMS, "b": None}),
            PARAMS,
            ValueError,
            "the state's momentum of params['b'] must have shape (3,), got None",
        ),
        (
            innaprop(1e-3).init(narrow(PARAMS)),
            PARAMS,
            ValueError,
            "the state has a residual for params['b'], which is float32, not a 16-bit dtype: call",
        ),
        (
            innaprop(1e-3).init(PARAMS)._replace(momentum=narrow(PARAMS)),
            PARAMS,
            ValueError,
            "the state's momentum of params['b'] must be float32 for float32 parameters, got "
            "bfloat16: call init again",
        ),
        (
            optax.chain(innaprop(1e-3)).init(PARAMS),
            PARAMS,
            TypeError,
            "state must be an INNApropState, got tuple; optax.tree.get",
        ),
        (optax.adamw(1e-3).init(PARAMS)[0], PARAMS, TypeError, "got ScaleByAdamState"),
        ({"momentum": PARAMS}, PARAMS, TypeError, "state must be an INNApropState, got dict"),
    ],
    ids=["structure", "shape", "None", "narrow", "narrow state", "chain", "AdamW", "dict"],
)
def test_states(state, params, error, message):
    with pytest.raises(error, match=re.escape(message)):
        innaprop(1e-3).update(params, state, params)
    with pytest.raises(error, match=re.escape(message)):
        psi(state, params)


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        ({"w": True}, ValueError, "mask must have the structure of params or a prefix of it: "),
        ([True, False], ValueError, "mask must have the structure of params or a prefix of it: "),
        ({"w": 1, "b": 2}, TypeError, "mask must hold True or False, got"),
        ({"w": True, "b": np.array([True, False, True])}, TypeError, "got array([ True, False,"),
        ("no bias", TypeError, "mask must hold True or False, got 'no bias'"),
        (lambda params: {"w": None, "b": True}, ValueError, "mask must have the structure of"),
        (lambda params: 0.5, TypeError, "mask must hold True or False, got 0.5"),
    ],
    ids=["structure", "list", "numbers", "array", "string", "None", "float"],
)
def test_masks(mask, error, message):
    optimizer = innaprop(1e-3, mask=mask)
    for call in (optimizer.init, lambda p: optimizer.update(p, innaprop(1e-3).init(p), p)):
        with pytest.raises(error, match=re.escape(message)):
            call(PARAMS)


def test_a_mask_that_is_traced():
    optimizer = innaprop(1e-3, mask=lambda params: jax.tree.map(lambda p: (p > 0).any(), params))
    with pytest.raises(TypeError, match="mask must be known when a function is traced, got"):
        jax.jit(optimizer.init)(PARAMS)


@pytest.mark.parametrize("count", [True, None, "3", np.array([3, 3]), 3j], ids=str)
def test_a_count_that_is_none(count):
    state = innaprop(1e-3).init(PARAMS)._replace(count=count)
    message = f"the state's count must be a whole number, got {count!r}"
    with pytest.raises(TypeError, match=re.escape(message)):
        innaprop(1e-3).update(PARAMS, state, PARAMS)


def test_shapes_have_no_values_to_update():
    shapes = jax.eval_shape(lambda: PARAMS)
    optimizer = innaprop(1e-3)
    with pytest.raises(TypeError, match=r"params\['b'\] must be an array, got ShapeDtypeStruct"):
        optimizer.update(PARAMS, optimizer.init(shapes), shapes)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"alpha": -1.0}, ValueError, "alpha must be a finite number >= 0, got -1.0"),
        ({"beta": "0.9"}, TypeError, "beta must be a finite number > 0, got '0.9'"),
    ],
)
def test_values_of_psi(values, error, message):
    with pytest.raises(error, match=re.escape(message)):
        psi(innaprop(1e-3).init(PARAMS), PARAMS, **values)
