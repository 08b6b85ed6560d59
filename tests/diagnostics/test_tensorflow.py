import numpy as np
import pytest
import tensorflow as tf

from innaprop.diagnostics import Diagnostics, DiagnosticsWarning
from innaprop.tensorflow import INNAprop, TensorBoard, measure

from .failing_runs import RUNS, TRAINING, assert_named, data, options
from .numpy_sums import SHAPES, VALUES, Alongside, assert_measured, some_gradients

NAMES = {"gamma": "learning_rate", "eps": "epsilon"}


def variables(dtype="float32"):
    rng = np.random.default_rng(5)
    return [tf.Variable(tf.cast(rng.normal(size=shape), dtype)) for shape in SHAPES]


def as_float64(tensor):
    return tf.cast(tensor, "float64").numpy()


def named(values):
    return {NAMES.get(k, k): v for k, v in values.items()}


@pytest.mark.parametrize(
    ("mode", "values", "dtype"),
    [
        *(("function", values, "float32") for values in VALUES),
        ("eager", VALUES[0], "float32"),
        ("xla", VALUES[0], "float32"),
        ("xla", VALUES[0], "bfloat16"),
        ("function", VALUES[0], "float16"),
    ],
)
def test_records_say_what_the_core_does(mode, values, dtype):
    thetas, optimizer = variables(dtype), INNAprop(**named(values))
    alongside = Alongside([as_float64(v) for v in thetas], **values)

    def step(gradients):
        measured = measure(optimizer, gradients, thetas)
        optimizer.apply(gradients, thetas)
        return measured

    if mode != "eager":
        optimizer.build(thetas)
        step = tf.function(step, jit_compile=mode == "xla")
    for k, gradients in enumerate(some_gradients(SHAPES, 3)):
        gradients = [tf.cast(g, dtype) for g in gradients]
        record = Diagnostics(warn=False).record(k + 1, step(gradients))
        assert_measured(record.all, alongside.step(map(as_float64, gradients)))
        assert record.all.scalars["gamma"] == pytest.approx(values["gamma"])
        assert dtype == "float32" or record.all.stalled == 0


@pytest.mark.parametrize("mode", ["eager", "function", "xla"])
def test_a_packed_state_is_decoded(mode):
    thetas, optimizer = variables(), INNAprop(**named(VALUES[0]), state_bits=16)
    alongside = Alongside([as_float64(v) for v in thetas], **VALUES[0])
    optimizer.build(thetas)

    def step(gradients):
        measured = measure(optimizer, gradients, thetas)
        optimizer.apply(gradients, thetas)
        return measured

    if mode != "eager":
        step = tf.function(step, jit_compile=mode == "xla")
    for k, gradients in enumerate(some_gradients(SHAPES, 4)):
        record = Diagnostics(warn=False).record(
            k + 1, step([tf.cast(g, "float32") for g in gradients])
        )
        expected = alongside.step(gradients)
        for name in ("update_norm", "momentum_share", "scaled_gradient"):
            assert getattr(record.all, name) == pytest.approx(expected[name], rel=2e-2)


@pytest.mark.parametrize(("residual", "share"), [(False, 0.75), (True, 0.0)])
def test_what_rounding_puts_back_is_stalled(residual, share):
    w = tf.Variable(tf.cast([1.0, 2.0, -4.0, 1e-6], "bfloat16"))
    optimizer = INNAprop(1e-5, weight_decay=0.0, residual=residual)
    measured = tf.function(lambda: measure(optimizer, [tf.ones_like(w)], [w]))()
    assert float(measured["all"]["stalled"]) / 4 == share


def test_groups_missing_and_sparse_gradients():
    a, b, c = (tf.Variable(tf.ones((3, 2)), name=name) for name in "abc")
    sparse = tf.IndexedSlices(tf.ones((2, 2)), tf.constant([1, 1]), dense_shape=(3, 2))
    measured = measure(
        INNAprop(), [sparse, None, tf.ones((3, 2))], [a, b, c], groups=lambda v: v.name[0]
    )
    assert list(measured) == ["a", "c"]
    assert float(measured["a"]["gradient"]) == 8.0


def test_misuse_is_refused():
    with pytest.raises(TypeError, match=r"optimizer must be an innaprop\.tensorflow\.INNAprop"):
        measure(object(), [], [])
    with pytest.raises(ValueError, match="got 1 gradients and 0 variables"):
        measure(INNAprop(), [tf.ones(1)], [])
    with pytest.raises(TypeError, match="writer must be what"):
        TensorBoard(3)


def test_records_go_to_tensorboard(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(tf.summary, "scalar", lambda *of, step: written.append((*of, step)))
    writer = tf.summary.create_file_writer(str(tmp_path))
    w = tf.Variable([3.0, 4.0])
    Diagnostics(write=TensorBoard(writer)).record(1, measure(INNAprop(), [w], [w]))
    assert ("innaprop/parameter_norm", 5.0, 1) in written


def train(failing):
    x, y, start = data()
    w = tf.Variable(start)
    optimizer = INNAprop(**options(failing, **NAMES))
    optimizer.build([w])

    @tf.function
    def step(factor):
        with tf.GradientTape() as tape:
            losses = (tf.linalg.matvec(x, w) - y) ** 2
            loss = tf.reduce_mean(losses[:TRAINING])
        gradients = [factor * tape.gradient(loss, w)]
        measured = measure(optimizer, gradients, [w])
        optimizer.apply(gradients, [w])
        return loss, tf.reduce_mean(losses[TRAINING:]), measured

    diagnostics = Diagnostics(every=failing.every)
    for k in range(failing.steps):
        loss, validation, measured = step(tf.constant(failing.first_factor if k == 0 else 1.0))
        diagnostics.loss(loss, validation)
        if diagnostics.due(k + 1):
            diagnostics.record(k + 1, measured)
    return diagnostics


@pytest.mark.parametrize("run", RUNS)
def test_failures_are_named(run):
    failing = RUNS[run]
    with pytest.warns(DiagnosticsWarning, match=failing.name) as warned:
        diagnostics = train(failing)
    assert len(warned) == 1
    assert_named(failing, diagnostics.findings)
