import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from innaprop.diagnostics import Diagnostics, DiagnosticsWarning
from innaprop.optax import innaprop, measure

from .failing_runs import RUNS, TRAINING, assert_named, data, options
from .numpy_sums import SHAPES, VALUES, Alongside, assert_measured, some_gradients


def starts(dtype=jnp.float32):
    rng = np.random.default_rng(5)
    return [jnp.asarray(rng.normal(size=shape)).astype(dtype) for shape in SHAPES]


def named(values):
    return {{"gamma": "learning_rate"}.get(k, k): v for k, v in values.items()}


def follow(params, values, steps, **storage):
    """Yield what is measured in the compiled step, and the gradients as the update takes them."""
    optimizer = innaprop(**named(values), **storage)
    how = {k: v for k, v in storage.items() if k == "residual"}

    @jax.jit
    def step(params, state, gradients):
        measured = measure(gradients, state, params, **named(values), **how)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, measured

    state = optimizer.init(params)
    for k, gradients in enumerate(some_gradients(SHAPES, steps)):
        gradients = [jnp.asarray(g).astype(p.dtype) for g, p in zip(gradients, params, strict=True)]
        params, state, measured = step(params, state, gradients)
        record = Diagnostics(warn=False).record(k + 1, measured)
        yield record, [np.asarray(g, np.float64) for g in gradients]


@pytest.mark.parametrize("values", VALUES)
def test_records_say_what_the_core_does(values):
    alongside = Alongside(starts(), **values)
    for record, gradients in follow(starts(), values, 4):
        assert_measured(record.all, alongside.step(gradients))
        assert record.all.scalars["gamma"] == pytest.approx(values["gamma"])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_sixteen_bits_are_measured_on_the_master_weights(dtype):
    alongside = Alongside([np.asarray(p, np.float64) for p in starts(dtype)], **VALUES[0])
    for record, gradients in follow(starts(dtype), VALUES[0], 3):
        assert_measured(record.all, alongside.step(gradients))
        assert record.all.stalled == 0


def test_a_packed_state_is_decoded():
    alongside = Alongside(starts(), **VALUES[0])
    for record, gradients in follow(starts(), VALUES[0], 4, state_bits=16):
        expected = alongside.step(gradients)
        del expected["stale"]  # The element whose gradient has fallen to 1e-6 is rounded in v.
        assert_measured(record.all, expected, rtol=0.02)


@pytest.mark.parametrize(("residual", "share"), [(False, 0.75), (True, 0.0)])
def test_what_rounding_puts_back_is_stalled(residual, share):
    w = jnp.asarray([1.0, 2.0, -4.0, 1e-6], jnp.bfloat16)
    state = innaprop(1e-5, weight_decay=0.0, residual=residual).init(w)
    measured = jax.jit(lambda g: measure(g, state, w, 1e-5, weight_decay=0.0, residual=residual))(
        jnp.ones_like(w)
    )
    assert float(measured["all"]["stalled"]) / 4 == share


def test_groups_masks_schedules_and_chains():
    params = {"a": jnp.full(3, 2.0), "b": jnp.full(5, 2.0)}
    gradients = {"a": jnp.ones(3), "b": jnp.full(5, 3.0)}
    schedule = optax.linear_schedule(0.1, 0.0, 10)
    mask = {"a": True, "b": False}
    optimizer = optax.chain(optax.scale(1.0), innaprop(schedule, mask=mask))
    state = optimizer.init(params)
    updates, state = optimizer.update(gradients, state, params)
    params = optax.apply_updates(params, updates)
    measured = measure(gradients, state, params, schedule, groups=lambda name: name[8], mask=mask)
    record = Diagnostics().record(1, measured)
    assert record.groups["a"].gradient_norm == pytest.approx(3**0.5)
    assert record.all.gradient_norm == pytest.approx(48**0.5)
    assert record.groups["b"].scalars["gamma"] == pytest.approx(0.09)
    alongside = Alongside([np.full(5, 2.0)], gamma=0.1, weight_decay=0.0)
    alongside.step([np.full(5, 3.0)])
    alongside.h = alongside.h.__class__(gamma=0.09, weight_decay=0.0)
    expected = alongside.step([np.full(5, 3.0)])
    assert_measured(record.groups["b"], expected)


def test_misuse_is_refused():
    w = jnp.ones(2)
    state = innaprop(1e-3).init(w)
    with pytest.raises(TypeError, match="unknown argument: beta1"):
        measure(w, state, w, 1e-3, beta1=0.9)
    with pytest.raises(TypeError, match="state must be an INNApropState"):
        measure(w, optax.adam(1e-3).init(w), w, 1e-3)
    with pytest.raises(ValueError, match="learning_rate must be smaller than beta"):
        measure(w, state, w, 1.0)


def train(failing):
    x, y, w = map(jnp.asarray, data())
    given = options(failing, gamma="learning_rate")
    optimizer = innaprop(**given)

    def loss_of(w):
        losses = (x @ w - y) ** 2
        return losses[:TRAINING].mean(), losses[TRAINING:].mean()

    @jax.jit
    def step(w, state, factor):
        (loss, validation), g = jax.value_and_grad(loss_of, has_aux=True)(w)
        measured = measure(factor * g, state, w, **given)
        updates, state = optimizer.update(factor * g, state, w)
        return optax.apply_updates(w, updates), state, (loss, validation, measured)

    state, diagnostics = optimizer.init(w), Diagnostics(every=failing.every)
    for k in range(failing.steps):
        factor = failing.first_factor if k == 0 else 1.0
        w, state, (loss, validation, measured) = step(w, state, factor)
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
