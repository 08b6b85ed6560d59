import warnings

import keras
import numpy as np
import pytest

from innaprop.diagnostics import DiagnosticsWarning
from innaprop.keras import Diagnostics, INNAprop

from ..diagnostics.failing_runs import FEATURES, RUNS, TRAINING, assert_named, data, options
from ..diagnostics.numpy_sums import VALUES, Alongside, assert_measured

NAMES = {"gamma": "learning_rate", "eps": "epsilon"}


def linear(start, dtype="float32"):
    model = keras.Sequential(
        [keras.Input((len(start),)), keras.layers.Dense(1, use_bias=False, dtype=dtype)]
    )
    model.layers[0].set_weights([np.reshape(start, (-1, 1))])
    return model


def batches(steps, rows=8, features=5, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(steps * rows, features)).astype("float32")
    return x, (x.sum(1, keepdims=True) + 0.1).astype("float32")


def expected_records(model, values, x, y, rows, factor=1.0, accumulated=1):
    """What each batch's update must be, by the core, for a linear model under a squared error."""
    alongside = Alongside([model.get_weights()[0]], **values)
    found, held = [], []
    for start in range(0, len(x), rows):
        at = slice(start, start + rows)
        error = x[at] @ alongside.thetas[0] - y[at]
        held.append(factor * 2 / len(x[at]) * x[at].T @ error)
        if len(held) == accumulated:
            found.append(alongside.step([sum(held) / accumulated]))
            held = []
    return found


def named(values):
    return {NAMES.get(k, k): v for k, v in values.items()}


@pytest.mark.parametrize("values", VALUES[:2])
@pytest.mark.parametrize("eagerly", [False, True])
def test_records_say_what_the_core_does(values, eagerly):
    x, y = batches(7)
    model = linear(np.arange(1.0, 6.0))
    expected = expected_records(model, values, x, y, 8)
    model.compile(INNAprop(**named(values)), "mse", run_eagerly=eagerly)
    diagnostics = Diagnostics(every=3, groups=lambda v: v.path.split("/")[0])
    history = model.fit(x, y, 8, shuffle=False, verbose=0, callbacks=[diagnostics])
    assert history.history.keys() == {"loss"}
    assert [record.step for record in diagnostics.records] == [1, 4, 7]
    for record in diagnostics.records:
        assert_measured(record.all, expected[record.step - 1], rtol=1e-3)
        assert record.all.scalars["gamma"] == pytest.approx(values["gamma"])
        assert record.training_loss is not None


def test_fit_is_untouched_and_goes_on():
    x, y = batches(6)
    ends = []
    for callbacks in ([], [Diagnostics(every=2)]):
        model = linear(np.ones(5))
        model.compile(INNAprop(1e-2), "mse")
        for _ in range(2):
            model.fit(x, y, 8, shuffle=False, verbose=0, callbacks=callbacks)
        ends.append(model.get_weights()[0])
        variables = [variable.path for variable in model.optimizer.variables]
    np.testing.assert_allclose(ends[0], ends[1], rtol=1e-6)
    assert [record.step for record in callbacks[0].records] == [1, 3, 5, 7, 9, 11]
    assert len(variables) == 4
    assert "train_step" not in vars(model)


def test_clipped_and_accumulated_gradients_are_measured_as_the_update_takes_them():
    x, y = batches(6)
    model = linear(np.ones(5))
    expected = expected_records(model, {"gamma": 1e-2}, x, y, 8, accumulated=2)
    model.compile(INNAprop(1e-2, gradient_accumulation_steps=2, clipnorm=1e-3), "mse")
    diagnostics = Diagnostics(every=1)
    model.fit(x, y, 8, shuffle=False, verbose=0, callbacks=[diagnostics])
    assert [record.step for record in diagnostics.records] == [2, 4, 6]
    first = diagnostics.records[0].all
    assert first.gradient_norm == pytest.approx(1e-3, rel=1e-4)
    assert first.parameter_norm == pytest.approx(expected[0]["parameter_norm"], rel=1e-5)


def test_scaled_losses_are_unscaled():
    x, y = batches(3)
    model = linear(np.ones(5))
    expected = expected_records(model, {"gamma": 1e-2}, x, y, 8)
    optimizer = keras.optimizers.LossScaleOptimizer(INNAprop(1e-2), initial_scale=8.0)
    model.compile(optimizer, "mse")
    diagnostics = Diagnostics(every=2)
    model.fit(x, y, 8, shuffle=False, verbose=0, callbacks=[diagnostics])
    for record in diagnostics.records:
        assert_measured(record.all, expected[record.step - 1], rtol=1e-3)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="Keras has none on PyTorch")
def test_of_steps_that_are_executed_together_the_last_is_recorded():
    x, y = batches(8)
    model = linear(np.ones(5))
    expected = expected_records(model, {"gamma": 1e-2}, x, y, 8)
    model.compile(INNAprop(1e-2), "mse", steps_per_execution=2)
    diagnostics = Diagnostics(every=4)
    model.fit(x, y, 8, shuffle=False, verbose=0, callbacks=[diagnostics])
    assert [record.step for record in diagnostics.records] == [2, 6]
    for record in diagnostics.records:
        assert_measured(record.all, expected[record.step - 1], rtol=1e-3)


@pytest.mark.parametrize(("residual", "stalled"), [(True, 0.0), (False, 1.0)])
def test_sixteen_bits_are_measured_on_the_master_weights(residual, stalled):
    x, y = batches(1)
    model = linear(np.ones(5), "bfloat16")
    model.compile(INNAprop(1e-5, residual=residual), "mse")
    diagnostics = Diagnostics()
    model.fit(x, y, 8, verbose=0, callbacks=[diagnostics])
    # The first update has the length of the rate, far below bfloat16's spacing at 1.
    assert diagnostics.records[0].all.stalled == stalled


def test_a_packed_state_is_decoded():
    x, y = batches(5)
    model = linear(np.arange(1.0, 6.0))
    expected = expected_records(model, VALUES[0], x, y, 8)
    model.compile(INNAprop(**named(VALUES[0]), state_bits=16), "mse")
    diagnostics = Diagnostics(every=1)
    model.fit(x, y, 8, shuffle=False, verbose=0, callbacks=[diagnostics])
    assert len(diagnostics.records) == 5
    for record in diagnostics.records:
        for name in ("update_norm", "momentum_share", "scaled_gradient"):
            value = expected[record.step - 1][name]
            assert getattr(record.all, name) == pytest.approx(value, rel=2e-2)


def test_another_optimizer_is_refused():
    x, y = batches(1)
    model = linear(np.ones(5))
    model.compile("sgd", "mse")
    with pytest.raises(TypeError, match=r"must be an innaprop\.keras\.INNAprop"):
        model.fit(x, y, verbose=0, callbacks=[Diagnostics()])


def train(failing):
    x, y, start = data()
    model = linear(start)
    model.compile(INNAprop(**options(failing, **NAMES)), "mse")
    # An epoch is the same batch over and over; the first one may be far away from it.
    rows = np.tile(np.arange(TRAINING), failing.every)
    inputs, targets = x[rows], y[rows][:, None]
    diagnostics = Diagnostics(every=failing.every)
    if failing.first_factor != 1.0:
        far = np.sqrt(failing.first_factor)
        model.train_on_batch(far * x[:TRAINING], far * y[:TRAINING, None])
    epochs = -(-failing.steps // failing.every)
    held_out = (x[TRAINING:], y[TRAINING:, None])
    model.fit(
        inputs,
        targets,
        TRAINING,
        epochs,
        shuffle=False,
        verbose=0,
        validation_data=held_out,
        validation_batch_size=len(held_out[0]),
        callbacks=[diagnostics],
    )
    assert inputs.shape[1] == FEATURES
    return diagnostics


@pytest.mark.parametrize("run", RUNS)
def test_failures_are_named(run):
    failing = RUNS[run]
    # pytest.warns would raise again what pyproject.toml ignores of Keras.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        diagnostics = train(failing)
    (warned,) = (w for w in caught if issubclass(w.category, DiagnosticsWarning))
    assert failing.name in str(warned.message)
    assert_named(failing, diagnostics.findings)
