import decimal

import ml_dtypes
import numpy as np
import pytest
import torch

from innaprop_core import BEST_ACCURACY, FAST_TRAINING, Hyperparameters, algorithm, trajectory

from .paper import algorithm_1, distance

EVERY_ARITHMETIC = pytest.mark.parametrize("digits", [None, 17, 40])
DEFAULTS = Hyperparameters()


@EVERY_ARITHMETIC
@pytest.mark.parametrize("steps", [0, 1, 3])
@pytest.mark.parametrize("shape", [(), (1,), (0,), (2, 3), (2, 0, 3), (1, 2, 1, 2, 1)], ids=str)
def test_shapes(digits, steps, shape):
    run = trajectory(DEFAULTS, np.ones(shape), [np.ones(shape)] * steps, digits=digits)
    for rows in run:
        assert rows.shape == (steps, *shape)
        assert rows.dtype == np.float64


@EVERY_ARITHMETIC
def test_elements_keep_their_place(digits):
    rng = np.random.default_rng(0)
    theta, gradients = rng.normal(size=(2, 3)), rng.normal(size=(4, 2, 3))
    run = trajectory(DEFAULTS, theta, gradients, digits=digits)
    alone = trajectory(DEFAULTS, theta[1, 2], gradients[:, 1, 2], digits=digits)
    for rows, expected in zip(run, alone, strict=True):
        np.testing.assert_array_equal(rows[:, 1, 2], expected)


@EVERY_ARITHMETIC
def test_plain_numbers_and_nested_lists(digits):
    scalar = trajectory(DEFAULTS, 1, [2, -1], digits=digits).theta
    row = trajectory(DEFAULTS, [1, 1], [[2, 2], [-1, -1]], digits=digits).theta
    np.testing.assert_array_equal(row, np.stack([scalar, scalar], axis=1))


@EVERY_ARITHMETIC
def test_gradients_are_consumed_one_by_one_after_the_start_is_checked(digits):
    log = []

    def gradients():
        for i in range(3):
            log.append(f"gradient {i}")
            yield np.ones(2)

    def schedule(updates):
        log.append(f"step size {updates}")
        return 1e-3

    trajectory(DEFAULTS, np.ones(2), gradients(), schedule=schedule, digits=digits)
    expected = [f"{what} {i}" for i in range(3) for what in ("gradient", "step size")]
    assert log == expected


@EVERY_ARITHMETIC
def test_a_generator_may_reuse_its_array(digits):
    def gradients():
        g = np.empty(2)
        for value in (1.0, -2.0, 3.0):
            g[:] = value
            yield g

    listed = [np.full(2, value) for value in (1.0, -2.0, 3.0)]
    run = trajectory(DEFAULTS, np.ones(2), gradients(), digits=digits)
    expected = trajectory(DEFAULTS, np.ones(2), listed, digits=digits)
    for rows, reference in zip(run, expected, strict=True):
        np.testing.assert_array_equal(rows, reference)


@EVERY_ARITHMETIC
def test_inputs_are_left_as_they_were(digits):
    theta, g = np.ones(3), np.full(3, 2.0)
    theta.flags.writeable = g.flags.writeable = False
    run = trajectory(DEFAULTS, theta, [g, g], digits=digits)
    assert not any(np.shares_memory(rows, x) for rows in run for x in (theta, g))


@EVERY_ARITHMETIC
def test_without_a_schedule_gamma_holds_throughout(digits):
    rng = np.random.default_rng(1)
    gradients = rng.normal(size=(5, 2))
    run = trajectory(Hyperparameters(gamma=0.3), np.ones(2), gradients, digits=digits)
    constant = trajectory(
        Hyperparameters(gamma=1e-6), np.ones(2), gradients, schedule=lambda _: 0.3, digits=digits
    )
    for rows, expected in zip(run, constant, strict=True):
        np.testing.assert_array_equal(rows, expected)


@pytest.mark.parametrize("value", [1e-3, {"gamma": 1e-3}, None])
def test_hyperparameters_must_be_hyperparameters(value):
    with pytest.raises(
        TypeError, match=r"must be an innaprop_core\.Hyperparameters, got"
    ) as caught:
        trajectory(value, 1.0, [1.0])
    assert repr(value) in str(caught.value)


@EVERY_ARITHMETIC
@pytest.mark.parametrize(
    "dtype", [np.float16, np.float32, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn]
)
def test_theta_is_rounded_to_what_it_is_stored_in(digits, dtype):
    rng = np.random.default_rng(2)
    start, gradients = rng.normal(size=3).astype(dtype).astype(float), rng.normal(size=(4, 3))
    hyperparameters = Hyperparameters(gamma=0.1)
    run = trajectory(hyperparameters, start, gradients, digits=digits, stored_in=dtype)
    np.testing.assert_array_equal(run.theta, run.theta.astype(dtype).astype(float))
    # The first update is exact and rounded once.
    exact = trajectory(hyperparameters, start, gradients[:1]).theta[0]
    np.testing.assert_array_equal(run.theta[0], exact.astype(dtype).astype(float))


def test_rounding_theta_leaves_the_momentum_as_it_is():
    rng = np.random.default_rng(3)
    start, gradients = rng.normal(size=3).astype(np.float16).astype(float), rng.normal(size=(6, 3))
    hyperparameters = Hyperparameters(gamma=0.1, alpha=0.3, beta=0.8)
    # One evaluation keeps psi and corrects it when theta is rounded, the other keeps m.
    exact, floats = (
        trajectory(hyperparameters, start, gradients, digits=digits, stored_in=np.float16)
        for digits in (30, None)
    )
    np.testing.assert_allclose(exact.psi, floats.psi, rtol=1e-13)


@pytest.mark.parametrize("dtype", [int, bool, complex, "U4", "nonsense", ml_dtypes.int4])
def test_theta_is_not_stored_in_what_holds_no_fractions(dtype):
    with pytest.raises(TypeError, match="stored_in must be a real floating dtype or None, got"):
        trajectory(DEFAULTS, 1.0, [1.0], stored_in=dtype)


@EVERY_ARITHMETIC
@pytest.mark.parametrize(
    "values",
    ["abc", [[1.0], [1.0, 2.0]], {}, torch.ones(2, requires_grad=True), torch.ones(2).bfloat16()],
    ids=["text", "ragged", "a dict", "requires a gradient", "of a dtype of PyTorch"],
)
def test_what_numpy_does_not_take_for_numbers(digits, values):
    with pytest.raises(TypeError, match="theta must be an array that NumPy converts to float64"):
        trajectory(DEFAULTS, values, [], digits=digits)
    with pytest.raises(TypeError, match=r"gradients\[0\] must be an array that NumPy converts to"):
        trajectory(DEFAULTS, np.ones(2), [values], digits=digits)


@pytest.mark.parametrize("digits", ["40", 40.0])
def test_digits_must_be_an_integer(digits):
    with pytest.raises(TypeError, match="digits must be an integer, at least 17, or None, got"):
        trajectory(DEFAULTS, 1.0, [1.0], digits=digits)


@pytest.mark.parametrize("digits", [0, -3, 1, 16])
def test_too_few_digits(digits):
    with pytest.raises(ValueError, match=f"digits must be at least 17 .*got {digits}"):
        trajectory(DEFAULTS, 1.0, [1.0], digits=digits)


@EVERY_ARITHMETIC
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_theta_must_be_finite(digits, bad):
    with pytest.raises(ValueError, match="theta must be finite, got"):
        trajectory(DEFAULTS, [1.0, bad], [], digits=digits)


@EVERY_ARITHMETIC
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_gradients_must_be_finite(digits, bad):
    with pytest.raises(ValueError, match=r"gradients\[2\] must be finite, got"):
        trajectory(DEFAULTS, [1.0, 1.0], [np.ones(2), np.ones(2), [1.0, bad]], digits=digits)


@EVERY_ARITHMETIC
@pytest.mark.parametrize("shape", [(), (1,), (2, 1), (3,)], ids=str)
def test_gradients_must_have_the_shape_of_theta(digits, shape):
    with pytest.raises(ValueError, match=r"gradients\[1\] must have theta's shape \(2,\), got"):
        trajectory(DEFAULTS, np.ones(2), [np.ones(2), np.ones(shape)], digits=digits)


@EVERY_ARITHMETIC
@pytest.mark.parametrize(
    ("gamma", "error", "message"),
    [
        (-1e-3, ValueError, "gamma must be a finite number >= 0"),
        (np.nan, ValueError, "gamma must be a finite number >= 0"),
        (0.9, ValueError, "gamma must be smaller than beta"),
        ("1e-3", TypeError, "gamma must be a finite number >= 0"),
        (None, TypeError, "gamma must be a finite number >= 0"),
    ],
)
def test_step_sizes_are_checked_when_they_come(digits, gamma, error, message):
    with pytest.raises(error, match=message):
        trajectory(
            DEFAULTS, 1.0, [1.0, 1.0], schedule=lambda k: gamma if k else 1e-3, digits=digits
        )


@pytest.mark.parametrize("scalar", [np.float64, np.float32, np.longdouble])
def test_decimals_take_numpy_scalars_at_their_exact_binary_value(scalar):
    hyperparameters = Hyperparameters(alpha=scalar(0.1), beta=scalar(0.9))
    numbers = Hyperparameters(alpha=float(scalar(0.1)), beta=float(scalar(0.9)))
    gradients = [1.0, -2.0, 0.5]
    run, expected = (trajectory(h, 1.0, gradients) for h in (hyperparameters, numbers))
    for rows, reference in zip(run, expected, strict=True):
        np.testing.assert_array_equal(rows, reference)


def test_float64_takes_numpy_scalars_at_their_exact_binary_value():
    hyperparameters = Hyperparameters(alpha=np.float32(0.1), beta=np.float32(0.9))
    gradients = [1.0, -2.0, 0.5]
    run = trajectory(hyperparameters, 1.0, gradients, digits=None)
    expected = trajectory(hyperparameters, 1.0, gradients)
    np.testing.assert_allclose(run.theta, expected.theta, rtol=1e-15)


def test_the_decimal_context_of_the_caller_neither_counts_nor_changes():
    expected = trajectory(DEFAULTS, 1.0, [1.0, 0.3])
    with decimal.localcontext(prec=5, traps=[decimal.Inexact]) as context:
        run = trajectory(DEFAULTS, 1.0, [1.0, 0.3])
        assert context.prec == 5
        assert context.traps[decimal.Inexact]
    for rows, reference in zip(run, expected, strict=True):
        np.testing.assert_array_equal(rows, reference)


@EVERY_ARITHMETIC
def test_nothing_over_nothing_is_nan(digits):
    # With eps = 0, u is 0 / 0 for the element whose gradient is zero, and only for it.
    hyperparameters = Hyperparameters(eps=0.0)
    with np.errstate(invalid="ignore"):
        run = trajectory(hyperparameters, np.ones(2), [[0.0, 1.0]] * 2, digits=digits)
    np.testing.assert_array_equal(np.isnan(run.theta), [[True, False]] * 2)
    assert not run.v[:, 0].any()


def _problem(gamma, preset, steps=1000):
    rng = np.random.default_rng(5)
    hyperparameters = Hyperparameters(gamma=gamma, **preset)
    theta = rng.normal(size=4)
    gradients = rng.normal(size=(steps, 4))
    scalars = {"alpha": hyperparameters.alpha, "beta": hyperparameters.beta}
    scalars |= {"sigma": 0.999, "eps": 1e-8, "weight_decay": 0.01}
    reference = algorithm_1(theta, gradients, [gamma] * steps, **scalars).theta[-1]
    return hyperparameters, theta, gradients, reference


def _relative_error(theta, start, reference):
    return np.linalg.norm(distance(theta, reference)) / np.linalg.norm(distance(start, reference))


EVERY_PRESET = pytest.mark.parametrize(
    "preset", [FAST_TRAINING, BEST_ACCURACY], ids=["fast", "accuracy"]
)


@EVERY_PRESET
@pytest.mark.parametrize(("gamma", "stated"), [(1e-3, 1e-14), (1e-6, 1e-11)])
def test_float64_is_as_accurate_as_its_docstring_says(preset, gamma, stated):
    hyperparameters, theta, gradients, reference = _problem(gamma, preset)
    run = trajectory(hyperparameters, theta, gradients, digits=None)
    error = _relative_error(run.theta[-1], theta, reference)
    assert stated / 10 < error < stated * 10


@EVERY_PRESET
def test_algorithm_1_as_printed_loses_digits_in_float64(preset):
    # This is why the ground truth is computed in decimal arithmetic.
    h, start, gradients, reference = _problem(1e-6, preset)
    theta, v = start, np.zeros(4)
    psi = algorithm.initial_psi(theta, alpha=h.alpha, beta=h.beta)
    scalars = {"gamma": h.gamma, "alpha": h.alpha, "beta": h.beta, "sigma": h.sigma}
    for k, g in enumerate(gradients, 1):
        theta, psi, v = algorithm.step(
            theta, psi, v, g, k=k, eps=h.eps, weight_decay=h.weight_decay, **scalars
        )
    run = trajectory(h, start, gradients, digits=None)
    printed = _relative_error(theta, start, reference)
    assert printed > 1e-10
    assert printed > 20 * _relative_error(run.theta[-1], start, reference)
