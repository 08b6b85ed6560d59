import doctest

import array_api_strict
import numpy as np
import pytest
import torch

from innaprop_core import BEST_ACCURACY, FAST_TRAINING, Hyperparameters, INNAprop, algorithm
from innaprop_core import optimizer as optimizer_module
from innaprop_core import trajectory as follow

SHAPES = [(), (3,), (2, 0), (2, 1, 3)]


def _arrays(seed, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.normal(size=shape), dtype) for shape in SHAPES]


def _started(**hyperparameters):
    """An optimizer two updates under way: nothing in it is zero."""
    optimizer = INNAprop(_arrays(0), Hyperparameters(gamma=0.1, **hyperparameters))
    optimizer.step(_arrays(1))
    optimizer.step(_arrays(2))
    return optimizer


def _everything(optimizer):
    arrays = [*optimizer.parameters, *optimizer.m, *optimizer.v, *optimizer.psi]
    return optimizer.k, [np.asarray(x).copy() for x in arrays]


def _assert_unchanged(optimizer, before):
    k, arrays = _everything(optimizer)
    assert k == before[0]
    for x, expected in zip(arrays, before[1], strict=True):
        np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize("preset", [FAST_TRAINING, BEST_ACCURACY])
def test_every_parameter_follows_its_trajectory(preset):
    hyperparameters = Hyperparameters(gamma=0.02, **preset)
    schedule = [0.1, 1e-3, 0.05, 0.0, 0.2, 0.3]
    starts, gradients = _arrays(0), [_arrays(seed) for seed in range(1, 7)]
    optimizer = INNAprop(starts, hyperparameters)
    rows = []
    for gamma, g in zip(schedule, gradients, strict=True):
        optimizer.step(g, gamma=gamma)
        rows.append(list(zip(optimizer.parameters, optimizer.psi, optimizer.v, strict=True)))
    assert optimizer.k == 6
    for i, start in enumerate(starts):
        stream = [g[i] for g in gradients]
        run = follow(hyperparameters, start, stream, schedule=schedule.__getitem__)
        for j, expected in enumerate(run):
            actual = np.array([row[i][j] for row in rows])
            np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-14)


def test_the_default_step_size_is_that_of_the_hyperparameters():
    optimizer = INNAprop(_arrays(0), Hyperparameters(gamma=0.125))
    optimizer.step(_arrays(1))
    optimizer.step(_arrays(2), gamma=0.25)
    optimizer.step(_arrays(3))
    schedule = [0.125, 0.25, 0.125].__getitem__
    stream = [_arrays(seed)[1] for seed in (1, 2, 3)]
    run = follow(Hyperparameters(), _arrays(0)[1], stream, schedule=schedule)
    np.testing.assert_allclose(optimizer.parameters[1], run.theta[-1], rtol=1e-13)


def test_the_default_hyperparameters_are_the_authors():
    optimizer = INNAprop([np.array([2.0])])
    optimizer.step([np.array([-3.0])])
    # gamma 1e-3, beta 0.9, lambda 0.01 and the share of the decay that m takes at once.
    drive = 1e-3 * 0.01 * (1 / 0.9 - 0.1) * 2.0
    expected = 2.0 - 1e-5 * 2.0 - 1e-3 * drive + 1e-3 * 0.9 * 3.0 / (3.0 + 1e-8)
    np.testing.assert_allclose(optimizer.parameters[0], [expected], rtol=1e-15)


def test_psi_is_that_of_algorithm_1():
    h = Hyperparameters(gamma=0.1, alpha=0.4, beta=1.5, sigma=0.9, weight_decay=0.1)
    theta = np.array([1.0, -2.0])
    psi, v = algorithm.initial_psi(theta, alpha=0.4, beta=1.5), np.zeros(2)
    optimizer = INNAprop([theta], h)
    np.testing.assert_array_equal(optimizer.psi[0], psi)
    rng = np.random.default_rng(0)
    for k in range(1, 20):
        g = rng.normal(size=2)
        theta, psi, v = algorithm.step(
            theta, psi, v, g, k=k, gamma=0.1, alpha=0.4, beta=1.5, sigma=0.9, eps=1e-8,
            weight_decay=0.1,
        )  # fmt: skip
        optimizer.step([g])
        np.testing.assert_allclose(optimizer.psi[0], psi, rtol=1e-12, atol=1e-13)


def test_what_was_handed_in_stays_as_it_is():
    parameters, gradients = _arrays(0), _arrays(1)
    for x in parameters + gradients:
        # Writing into a read-only array raises.
        x.flags.writeable = False
    listed = list(parameters)
    optimizer = INNAprop(parameters, Hyperparameters(gamma=0.1))
    optimizer.step(gradients)
    assert all(x is y for x, y in zip(parameters, listed, strict=True))
    for x, expected in zip(parameters + gradients, _arrays(0) + _arrays(1), strict=True):
        np.testing.assert_array_equal(x, expected)


def test_step_returns_the_new_parameters():
    optimizer = _started()
    returned = optimizer.step(_arrays(3))
    for x, y in zip(returned, optimizer.parameters, strict=True):
        np.testing.assert_array_equal(x, y)
    assert not np.array_equal(returned[1], _arrays(0)[1])


def test_state_that_is_read_is_out_of_reach():
    optimizer = _started()
    before = _everything(optimizer)
    for state in optimizer.m, optimizer.v, optimizer.psi:
        state.clear()
    _assert_unchanged(optimizer, before)


BAD_GRADIENTS = {
    "too few": (_arrays(3)[:-1], "gradients must be 4 arrays, one per parameter, got 3"),
    "too many": ([*_arrays(3), np.ones(1)], "gradients must be 4 arrays, .* got 5"),
    "none": ([], "gradients must be 4 arrays, .* got 0"),
    "last shape": ([*_arrays(3)[:-1], np.ones((2, 3))], r"gradients\[3\] .*\(2, 3\)"),
    "shape that broadcasts": ([np.ones(1), *_arrays(3)[1:]], r"gradients\[0\] .*\(1,\)"),
    "last dtype": ([*_arrays(3)[:-1], np.ones((2, 1, 3), "float32")], r"gradients\[3\].*float32"),
    "integers": ([*_arrays(3)[:-1], np.ones((2, 1, 3), int)], r"gradients\[3\] .*int64"),
}


@pytest.mark.parametrize(("gradients", "message"), BAD_GRADIENTS.values(), ids=BAD_GRADIENTS)
def test_bad_gradients_are_refused_before_anything_changes(gradients, message):
    optimizer = _started()
    before = _everything(optimizer)
    with pytest.raises(ValueError, match=message):
        optimizer.step(gradients)
    _assert_unchanged(optimizer, before)


@pytest.mark.parametrize(
    ("gamma", "error", "message"),
    [
        (-0.1, ValueError, "gamma must be a finite number >= 0, got -0.1"),
        (float("nan"), ValueError, "gamma must be a finite number >= 0, got nan"),
        (float("inf"), ValueError, "gamma must be a finite number >= 0, got inf"),
        (0.9, ValueError, "gamma must be smaller than beta, got gamma=0.9 with beta=0.9"),
        (7, ValueError, "gamma must be smaller than beta"),
        ("0.1", TypeError, "gamma must be a finite number >= 0, got '0.1' of type str"),
        (True, TypeError, "gamma must be .* of type bool"),
        (np.array(0.1), TypeError, "gamma must be .* of type ndarray"),
    ],
)
def test_a_bad_step_size_is_refused_before_anything_changes(gamma, error, message):
    optimizer = _started()
    before = _everything(optimizer)
    with pytest.raises(error, match=message):
        optimizer.step(_arrays(3), gamma=gamma)
    _assert_unchanged(optimizer, before)


def test_a_step_of_size_zero_gathers_the_gradient_only():
    optimizer = _started()
    parameters, m, v = optimizer.parameters[:], optimizer.m, optimizer.v
    optimizer.step(_arrays(3), gamma=0.0)
    for i in range(4):
        np.testing.assert_array_equal(optimizer.parameters[i], parameters[i])
        np.testing.assert_array_equal(optimizer.m[i], m[i])
    assert not np.array_equal(optimizer.v[1], v[1])


@pytest.mark.parametrize(
    "parameter",
    [np.ones(2, int), np.ones(2, complex), np.ones(2, bool), torch.ones(2, dtype=torch.int32)],
    ids=["int", "complex", "bool", "torch int"],
)
def test_parameters_must_be_real_and_floating(parameter):
    with pytest.raises(TypeError, match=r"parameters\[1\] must be of a real floating dtype"):
        INNAprop([np.ones(2), parameter])


@pytest.mark.parametrize("parameter", [[1.0, 2.0], "ab", None])
def test_parameters_must_be_arrays(parameter):
    with pytest.raises(TypeError):
        INNAprop([parameter])


def test_momentum_and_second_moment_start_at_zero():
    optimizer = INNAprop(_arrays(0, np.float32))
    assert optimizer.k == 0
    for x, m, v in zip(optimizer.parameters, optimizer.m, optimizer.v, strict=True):
        assert (m.shape, m.dtype) == (v.shape, v.dtype) == (x.shape, np.float32)
        assert not m.any()
        assert not v.any()


@pytest.mark.parametrize("scalar", [np.float64, np.float32])
def test_numpy_scalars_as_hyperparameters_act_as_the_numbers_they_are(scalar):
    values = {"gamma": 0.125, "alpha": 0.3, "beta": 0.9, "sigma": 0.999, "weight_decay": 0.01}
    values = {name: scalar(value) for name, value in values.items()}
    numbers = {name: float(value) for name, value in values.items()}
    for dtype in np.float32, np.float64:
        optimizer = INNAprop([np.ones(3, dtype)], Hyperparameters(**values))
        expected = INNAprop([np.ones(3, dtype)], Hyperparameters(**numbers))
        for g in 1.0, -2.0, 0.3:
            (x,) = optimizer.step([np.full(3, g, dtype)])
            (y,) = expected.step([np.full(3, g, dtype)])
            assert x.dtype == dtype
            np.testing.assert_array_equal(x, y)


def test_a_numpy_scalar_as_step_size_keeps_the_dtype():
    optimizer = INNAprop([np.ones(3, np.float32)])
    (x,) = optimizer.step([np.ones(3, np.float32)], gamma=np.float64(0.1))
    assert x.dtype == np.float32


def test_gradients_of_another_library_change_nothing():
    optimizer = INNAprop([np.ones(3)])
    before = _everything(optimizer)
    with pytest.raises((TypeError, ValueError)):
        optimizer.step([_Foreign()])
    _assert_unchanged(optimizer, before)


class _Foreign:
    """Like a JAX array beside NumPy's: the same shape, a dtype that compares equal."""

    shape, dtype = (3,), np.dtype(np.float64)

    def __array_namespace__(self, api_version=None):
        return array_api_strict


@pytest.mark.parametrize("preset", [FAST_TRAINING, BEST_ACCURACY])
def test_least_squares_are_found(preset):
    rng = np.random.default_rng(4)
    matrix, target = rng.normal(size=(20, 3)), rng.normal(size=20)
    solution = np.linalg.lstsq(matrix, target)[0]
    optimizer = INNAprop([np.zeros(3)], Hyperparameters(weight_decay=0.0, **preset))
    for k in range(4000):
        (w,) = optimizer.parameters
        optimizer.step([matrix.T @ (matrix @ w - target)], gamma=0.05 / (1 + k / 50))
    np.testing.assert_allclose(optimizer.parameters[0], solution, atol=2e-3)


def test_the_example_in_the_docstring():
    results = doctest.testmod(optimizer_module)
    assert results.attempted > 0
    assert results.failed == 0
