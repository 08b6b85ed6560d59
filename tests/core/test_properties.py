import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from innaprop_core import Hyperparameters, algorithm, momentum, trajectory

from .paper import EPS64, algorithm_1, distance

MODEST = settings(
    max_examples=120, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
TINY = np.finfo(np.float64).smallest_subnormal
SHAPES = hnp.array_shapes(min_dims=0, max_dims=6, min_side=1, max_side=2) | st.sampled_from(
    [(0,), (2, 0), (1, 0, 2, 1, 1, 2)]
)


EPS = st.floats(1e-12, 1.0)


@st.composite
def scalars(draw, *, eps=EPS):
    return {
        "alpha": draw(st.just(0.0) | st.floats(1e-3, 5.0)),
        "beta": draw(st.floats(0.05, 5.0)),
        "sigma": draw(st.floats(0.05, 0.9999)),
        "eps": draw(eps),
        "weight_decay": draw(st.just(0.0) | st.floats(1e-4, 1.0)),
    }


@st.composite
def runs(draw, gradients, *, eps=EPS):
    values = draw(scalars(eps=eps))
    shape, steps = draw(SHAPES), draw(st.integers(1, 4))
    # With alpha gamma < 1, m does not oscillate, and rounding errors do not grow.
    highest = min(0.5, 0.99 * values["beta"], 1 / (1 + values["alpha"]))
    step_sizes = draw(st.lists(st.floats(1e-6, highest), min_size=steps, max_size=steps))
    theta = draw(hnp.arrays(np.float64, shape, elements=st.floats(-1e6, 1e6)))
    stream = draw(hnp.arrays(np.float64, (steps, *shape), elements=gradients))
    return values, theta, stream, step_sizes


def _momentum_form(run):
    """Every theta, m and v of a run."""
    values, theta, gradients, step_sizes = run
    m, v, rows = np.zeros_like(theta), np.zeros_like(theta), []
    for k, (g, gamma) in enumerate(zip(gradients, step_sizes, strict=True), 1):
        c = momentum.coefficients(k, gamma=gamma, **values)
        theta, m, v = momentum.step(theta, m, v, g, c)
        rows.append((theta, m, v))
    return [np.array(column) for column in zip(*rows, strict=True)]


@MODEST
@given(runs(st.floats(-1e150, 1e150)))
def test_momentum_form_is_as_close_as_roundings_allow(run):
    values, theta, gradients, step_sizes = run
    reference = algorithm_1(theta, gradients, step_sizes, **values)
    actual, _, _ = _momentum_form(run)
    steps = len(step_sizes)
    # Relative to v, of which the factor sigma may be left, rounding errors grow by 1 / sigma.
    parts = 8 * steps / values["sigma"] * reference.travel.astype(float)
    sizes = np.abs(np.concatenate([theta[None], reference.theta])).astype(float)
    size = steps * np.maximum.accumulate(sizes)[1:]
    assert (distance(actual, reference.theta) <= EPS64 * (parts + size) + 9 * TINY).all()
    assert actual.shape == (steps, *theta.shape)


@MODEST
@given(runs(st.floats(-1e6, 1e6)))
def test_trajectory_is_algorithm_1_rounded_once(run):
    values, theta, gradients, step_sizes = run
    hyperparameters = Hyperparameters(gamma=step_sizes[0], **values)
    actual = trajectory(hyperparameters, theta, gradients, schedule=step_sizes.__getitem__)
    reference = algorithm_1(theta, gradients, step_sizes, **values)
    for rows, expected in zip(actual, reference, strict=False):
        assert rows.shape == gradients.shape
        # Differences of numbers as large as theta: 1e-30 remains of the 40 digits.
        allowed = (0.5 + 1e-9) * np.spacing(np.abs(rows)) + 1e-30 * np.abs(theta)
        assert (distance(rows, expected) <= allowed).all()


SIZABLE = st.floats(1e-30, 1e30) | st.floats(-1e30, -1e-30)


@MODEST
@given(runs(SIZABLE, eps=st.just(0.0)), st.integers(-200, 200))
def test_without_eps_the_scale_of_the_gradients_is_forgotten(run, exponent):
    values, theta, gradients, step_sizes = run
    scaled = _momentum_form((values, theta, np.ldexp(gradients, exponent), step_sizes))
    expected = _momentum_form(run)
    # Bitwise equal, since multiplying by a power of two does not change the rounding.
    np.testing.assert_array_equal(scaled[0], expected[0])
    np.testing.assert_array_equal(scaled[1], expected[1])
    np.testing.assert_array_equal(scaled[2], np.ldexp(expected[2], 2 * exponent))


@MODEST
@given(runs(st.floats(-1e150, 1e150)), st.randoms(use_true_random=False))
def test_elements_do_not_see_each_other(run, random):
    values, theta, gradients, step_sizes = run
    order = list(range(theta.size))
    random.shuffle(order)
    flat = gradients.reshape(len(step_sizes), theta.size)
    permuted = _momentum_form((values, theta.ravel()[order], flat[:, order], step_sizes))
    for rows, expected in zip(permuted, _momentum_form(run), strict=True):
        np.testing.assert_array_equal(rows, expected.reshape(flat.shape)[:, order])


@MODEST
@given(runs(st.floats(-1e150, 1e150)))
def test_negating_parameter_and_gradients_negates_the_run(run):
    values, theta, gradients, step_sizes = run
    theta_, m, v = _momentum_form((values, -theta, -gradients, step_sizes))
    expected = _momentum_form(run)
    np.testing.assert_array_equal(theta_, -expected[0])
    np.testing.assert_array_equal(m, -expected[1])
    np.testing.assert_array_equal(v, expected[2])


@MODEST
@given(runs(st.floats(-1e150, 1e150)))
def test_everything_stays_finite_and_v_is_not_negative(run):
    theta, m, v = _momentum_form(run)
    assert np.isfinite(theta).all()
    assert np.isfinite(m).all()
    assert (v >= 0).all()


@MODEST
@given(scalars(), hnp.arrays(np.float64, SHAPES, elements=st.floats(-1e150, 1e150)))
def test_momentum_starts_at_zero_exactly(values, theta):
    pair = {"alpha": values["alpha"], "beta": values["beta"]}
    psi = algorithm.initial_psi(theta, **pair)
    assert not np.any(momentum.momentum_from_psi(theta, psi, **pair))
    np.testing.assert_array_equal(
        momentum.psi_from_momentum(theta, np.zeros_like(theta), **pair), psi
    )
