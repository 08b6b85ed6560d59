"""Whether the decay reaches the momentum is part of the state, where an optimizer knows it."""

import numpy as np
import pytest

import innaprop
import innaprop.keras
import innaprop.optax
import innaprop.tensorflow

keras = pytest.importorskip("keras")
jnp = pytest.importorskip("jax.numpy")
tf = pytest.importorskip("tensorflow")


def keras_optimizer(**options):
    optimizer = innaprop.keras.INNAprop(**options)
    optimizer.build([keras.Variable(np.ones(2, np.float32), name="w")])
    return optimizer


def tensorflow_optimizer(**options):
    optimizer = innaprop.tensorflow.INNAprop(**options)
    optimizer.w = tf.Variable(tf.ones(2), name="w")
    optimizer.build([optimizer.w])
    return optimizer


MAKERS = pytest.mark.parametrize("make", [keras_optimizer, tensorflow_optimizer])


def of_file(path):
    return innaprop.read_state(path).parameters["w"].hyperparameters["decay_momentum"]


@MAKERS
@pytest.mark.parametrize("reaches", [True, False])
def test_it_is_saved_and_set(make, reaches, path):
    innaprop.save_state(path, make(decay_momentum=reaches))
    assert of_file(path) is reaches
    other = innaprop.load_state(path, make(decay_momentum=not reaches))
    assert other.decay_momentum is reaches


@MAKERS
def test_it_stays_where_hyperparameters_do(make, path):
    innaprop.save_state(path, make(decay_momentum=False))
    assert innaprop.load_state(path, make(), hyperparameters=False).decay_momentum is True


@MAKERS
def test_optax_says_it_when_told_and_others_keep_theirs_when_not(make, path):
    params = {"w": jnp.ones(2)}
    state = innaprop.optax.innaprop(1e-3, decay_momentum=False).init(params)
    innaprop.save_state(path, state, params)
    assert of_file(path) is None
    assert innaprop.load_state(path, make(decay_momentum=False)).decay_momentum is False
    innaprop.save_state(path, state, params, hyperparameters={"decay_momentum": False})
    assert of_file(path) is False
    assert innaprop.load_state(path, make()).decay_momentum is False


def test_optax_refuses_what_is_no_bool(path):
    params = {"w": jnp.ones(2)}
    state = innaprop.optax.innaprop(1e-3).init(params)
    with pytest.raises(TypeError, match="decay_momentum must be True or False, got 1"):
        innaprop.save_state(path, state, params, hyperparameters={"decay_momentum": 1})
    assert not path.exists()


def test_tensorflow_refuses_dampings_that_a_compiled_function_does_not_allow(path):
    innaprop.save_state(path, tensorflow_optimizer(alpha=0.1, beta=1.5))
    optimizer = tensorflow_optimizer(alpha=2.0, beta=0.5, weight_decay=0.9)
    tf.function(lambda: optimizer.apply([tf.ones(2)], [optimizer.w]), jit_compile=True)()
    with pytest.raises(ValueError, match=r"alpha and beta must keep .* alpha=0.1 and beta=1.5"):
        innaprop.load_state(path, optimizer)
    assert int(optimizer.iterations) == 1
    assert float(optimizer.beta) == 0.5
