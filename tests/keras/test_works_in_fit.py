import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

from innaprop.keras import INNAprop


@pytest.mark.parametrize("run_eagerly", [False, True], ids=["compiled", "eager"])
def test_fit_learns(regression, run_eagerly):
    model, x, y = regression
    model.compile(INNAprop(1e-2), "mse", run_eagerly=run_eagerly)
    history = model.fit(x, y, epochs=10, batch_size=16, verbose=0).history["loss"]
    assert history[-1] < 0.2 * history[0]


def test_compiled_and_eager_agree(regression):
    model, x, y = regression
    start = model.get_weights()
    trained = []
    for run_eagerly in (False, True):
        model.set_weights(start)
        model.compile(INNAprop(1e-2), "mse", run_eagerly=run_eagerly)
        model.fit(x, y, epochs=2, batch_size=16, shuffle=False, verbose=0)
        trained.append(model.get_weights())
    for first, second in zip(*trained, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-5)


def test_callbacks_can_set_the_learning_rate(regression):
    model, x, y = regression
    model.compile(INNAprop(1e-2), "mse")
    schedule = keras.callbacks.LearningRateScheduler(lambda epoch: 1e-3 / (epoch + 1))
    model.fit(x, y, epochs=2, verbose=0, callbacks=[schedule])
    np.testing.assert_allclose(float(model.optimizer.learning_rate), 5e-4, rtol=1e-6)


def test_the_config_makes_the_same_optimizer():
    optimizer = INNAprop(2e-3, 2.0, 2.0, 0.99, 1e-7, 0.05, name="mine", clipnorm=1.0)
    again = INNAprop.from_config(optimizer.get_config())
    assert again.get_config() == optimizer.get_config()
    assert (again.alpha, again.beta, again.sigma, again.epsilon) == (2.0, 2.0, 0.99, 1e-7)
    assert (again.weight_decay, again.name, again.clipnorm) == (0.05, "mine", 1.0)


def test_a_saved_model_goes_on_in_a_new_process_as_if_never_stopped(regression, tmp_path):
    """Without custom_objects: importing innaprop.keras is all it takes."""
    model, x, y = regression
    model.compile(INNAprop(1e-2, alpha=2.0, beta=2.0), "mse")
    fit = {"epochs": 3, "batch_size": 16, "shuffle": False, "verbose": 0}
    model.fit(x, y, **fit)
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "data.npz", x=x, y=y)
    model.fit(x, y, **fit)

    code = (
        "import sys, keras, numpy as np, innaprop.keras\n"
        f"folder = {str(tmp_path)!r}\n"
        "model = keras.models.load_model(folder + '/model.keras')\n"
        "assert type(model.optimizer) is innaprop.keras.INNAprop\n"
        "assert (model.optimizer.alpha, model.optimizer.beta) == (2.0, 2.0)\n"
        "data = np.load(folder + '/data.npz')\n"
        f"model.fit(data['x'], data['y'], **{fit!r})\n"
        "np.savez(folder + '/weights.npz', *model.get_weights())\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with np.load(tmp_path / "weights.npz") as saved:
        for ours, theirs in zip(model.get_weights(), saved.values(), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_equals_adamw_without_first_moment_at_alpha_beta_one(regression):
    """Code that is not ours. Its epsilon stands elsewhere in the formula, so take it tiny.

    Fifty steps, no more: without a first moment a gradient near zero flips its sign for the
    rounding of a weight, and from there on two exact runs go ways of their own.
    """
    model, x, y = regression
    start = model.get_weights()
    trained = []
    for optimizer in (
        INNAprop(3e-3, 1.0, 1.0, 0.99, 1e-15, 0.05),
        keras.optimizers.AdamW(3e-3, 0.05, beta_1=0.0, beta_2=0.99, epsilon=1e-15),
    ):
        model.set_weights(start)
        model.compile(optimizer, "mse")
        model.fit(x, y, epochs=50, batch_size=64, shuffle=False, verbose=0)
        trained.append(np.concatenate([w.ravel() for w in model.get_weights()]))
    moved = np.linalg.norm(trained[1] - np.concatenate([w.ravel() for w in start]))
    assert np.linalg.norm(trained[0] - trained[1]) < 1e-5 * moved


def test_embedding_gradients(regression):
    """Sparse on TensorFlow, dense elsewhere; the same weights come out."""
    keras.utils.set_random_seed(0)
    embedding = keras.layers.Embedding(5, 3)
    model = keras.Sequential([keras.Input((2,), dtype="int32"), embedding, keras.layers.Dense(1)])
    model.compile(INNAprop(1e-2, weight_decay=0.0), "mse")
    before = embedding.get_weights()[0]
    x = np.array([[1, 1], [3, 1]])
    model.train_on_batch(x, np.ones((2, 2, 1)))
    moved = np.abs(embedding.get_weights()[0] - before).sum(axis=1) > 0
    assert moved.tolist() == [False, True, False, True, False]


def test_psi_is_of_the_variables_dtype_and_shape(regression):
    model, x, y = regression
    model.compile(INNAprop(), "mse")
    model.train_on_batch(x, y)
    kernel = model.trainable_variables[0]
    psi = model.optimizer.psi(kernel)
    assert keras.backend.standardize_dtype(psi.dtype) == "float32"
    assert ops.shape(psi) == kernel.shape
