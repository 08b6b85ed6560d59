"""alpha and beta may depend on the number of updates made before."""

import keras
import numpy as np
import pytest
from keras import ops

from innaprop.keras import INNAprop
from innaprop_core import momentum

STEPS = 40


@keras.saving.register_keras_serializable(package="tests")
def rising(updates):
    return 0.9 + 0.01 * updates


@keras.saving.register_keras_serializable(package="tests")
class Line(keras.optimizers.schedules.LearningRateSchedule):
    def __init__(self, start, slope):
        self.start, self.slope = start, slope

    def __call__(self, step):
        return self.start + self.slope * ops.cast(step, keras.config.floatx())

    def get_config(self):
        return {"start": self.start, "slope": self.slope}


FORMS = {
    "functions": {"alpha": lambda k: 2.0 - 0.01 * k, "beta": rising},
    "schedules": {"alpha": Line(2.0, -0.01), "beta": Line(0.9, 0.01)},
    "numbers for numbers": {
        "alpha": lambda k: 2.0 - 0.01 * float(k),
        "beta": lambda k: 0.9 + 0.01 * float(k),
    },
}


def core(theta, gradients):
    """Return theta and psi after the core's own updates, in float64."""
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    for k, g in enumerate(gradients):
        alpha, beta = 2.0 - 0.01 * k, 0.9 + 0.01 * k
        c = momentum.coefficients(
            k + 1, gamma=1e-2, alpha=alpha, beta=beta, sigma=0.999, eps=1e-8, weight_decay=0.1
        )
        theta, m, v = momentum.step(theta, m, v, g, c)
    return theta, momentum.psi_from_momentum(theta, m, alpha=alpha, beta=beta)


@pytest.fixture(scope="module")
def gradients():
    rng = np.random.default_rng(0)
    return [rng.normal(size=(4, 3)) + 0.5 for _ in range(STEPS)]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("accumulated", [None, 2])
def test_every_form_gives_the_cores_iterates(form, accumulated, gradients):
    w = keras.Variable(np.ones((4, 3)), dtype="float64")
    optimizer = INNAprop(
        1e-2, **FORMS[form], weight_decay=0.1, gradient_accumulation_steps=accumulated
    )
    for g in gradients:
        for _ in range(accumulated or 1):
            optimizer.apply([ops.convert_to_tensor(g)], [w])
    theta, psi = core(np.ones((4, 3)), gradients)
    np.testing.assert_allclose(ops.convert_to_numpy(w), theta, rtol=1e-12)
    np.testing.assert_allclose(ops.convert_to_numpy(optimizer.psi(w)), psi, rtol=1e-12)


@pytest.mark.parametrize("form", ["functions", "schedules"])
def test_compiled_functions_see_every_step(form, regression):
    model, x, y = regression
    start = model.get_weights()
    ends = []
    for run_eagerly in (False, True):
        model.set_weights(start)
        model.compile(INNAprop(1e-2, **FORMS[form]), "mse", run_eagerly=run_eagerly)
        model.fit(x, y, epochs=2, batch_size=16, shuffle=False, verbose=0)
        ends.append(model.get_weights())
    for first, second in zip(*ends, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-5)


def test_registered_functions_and_schedules_are_kept_by_the_config():
    optimizer = INNAprop(1e-2, alpha=Line(2.0, -0.01), beta=rising)
    config = optimizer.get_config()
    again = INNAprop.from_config(config)
    assert again.beta is rising
    assert again.alpha.get_config() == {"start": 2.0, "slope": -0.01}
    assert again.get_config() == config
    assert config["alpha"]["class_name"] == "Line"


def test_a_model_with_schedules_is_loaded_with_them(regression, tmp_path):
    model, x, y = regression
    model.compile(INNAprop(1e-2, alpha=Line(2.0, -0.01), beta=rising), "mse")
    model.fit(x, y, epochs=1, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.optimizer.beta is rising
    assert loaded.optimizer.alpha.slope == -0.01


@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
def test_a_lambda_is_loaded_only_by_who_trusts_the_file(regression, tmp_path):
    model, x, y = regression
    model.compile(INNAprop(1e-2, alpha=lambda k: 0.25 + 0 * k), "mse")
    model.fit(x, y, epochs=1, verbose=0)
    model.save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="safe_mode=False"):
        keras.models.load_model(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=False)
    assert float(loaded.optimizer.alpha(3.0)) == 0.25
