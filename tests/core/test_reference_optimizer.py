import doctest

import array_api_strict
import ml_dtypes
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
    """An optimizer after two updates: no part of its state is zero."""
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
    # gamma 1e-3, alpha 0.1, beta 0.9, lambda 0.01; m also gets its part of the weight decay.
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
        # Writing to a read-only array raises an error.
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


@pytest.mark.parametrize("parameter", [[1.0, 2.0], "ab", None, 1.0])
def test_parameters_must_be_arrays(parameter):
    with pytest.raises(TypeError, match=r"parameters\[1\] must be an array, got a "):
        INNAprop([np.ones(2), parameter])


def test_parameters_may_come_one_by_one():
    optimizer = INNAprop(x for x in _arrays(0))
    listed = INNAprop(_arrays(0))
    for one in (optimizer, listed):
        one.step(_arrays(1))
    assert len(optimizer.parameters) == 4
    for x, expected in zip(optimizer.parameters, listed.parameters, strict=True):
        np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize("none", [[], (), iter([])])
def test_there_must_be_parameters(none):
    with pytest.raises(ValueError, match="parameters must hold at least one array, got none"):
        INNAprop(none)


@pytest.mark.parametrize(
    ("one", "kind"), [(np.ones((2, 3)), "ndarray"), ({"w": np.ones(2)}, "dict"), (np.ones(2), "")]
)
def test_an_array_or_a_mapping_is_no_list_of_arrays(one, kind):
    with pytest.raises(TypeError, match=f"parameters must be a list of arrays, got one {kind}"):
        INNAprop(one)


@pytest.mark.parametrize(
    "parameter",
    [
        np.ones(2, np.float16),
        np.ones(2, ml_dtypes.bfloat16),
        torch.ones(2, dtype=torch.float16),
        torch.ones(2, dtype=torch.bfloat16),
    ],
    ids=["NumPy float16", "NumPy bfloat16", "torch float16", "torch bfloat16"],
)
def test_sixteen_bits_do_not_hold_the_state(parameter):
    with pytest.raises(TypeError, match=r"parameters\[1\] must be .* at least 32 bits, .*float16"):
        INNAprop([np.ones(2), parameter])


def test_more_digits_than_float64_are_followed():
    optimizer = INNAprop([np.ones(2, np.longdouble)])
    (x,) = optimizer.step([np.ones(2, np.longdouble)])
    assert x.dtype == np.longdouble


def test_nothing_is_recorded_for_autograd():
    watched = torch.ones(2, dtype=torch.float64, requires_grad=True)
    with pytest.raises(ValueError, match=r"parameters\[1\] must not require a gradient"):
        INNAprop([torch.ones(2), watched])
    optimizer = INNAprop([watched.detach()])
    optimizer.step([torch.ones(2, dtype=torch.float64)])
    before = _everything(optimizer)
    with pytest.raises(ValueError, match=r"gradients\[0\] must not require a gradient"):
        optimizer.step([watched])
    for m, v, name in ([watched], [watched.detach()], "m"), ([watched.detach()], [watched], "v"):
        with pytest.raises(ValueError, match=rf"{name}\[0\] must not require a gradient"):
            optimizer.set_state(k=1, m=m, v=v)
    _assert_unchanged(optimizer, before)


@pytest.mark.parametrize("value", [1e-3, {"gamma": 1e-3}, None, Hyperparameters])
def test_hyperparameters_must_be_hyperparameters(value):
    with pytest.raises(
        TypeError, match=r"must be an innaprop_core\.Hyperparameters, got"
    ) as caught:
        INNAprop([np.ones(2)], value)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("k", [np.int64(7), np.uint8(7), 7])
def test_a_state_may_have_numpys_integers(k):
    optimizer = INNAprop([np.ones(2)])
    optimizer.set_state(k=k, m=[np.full(2, 0.5)], v=iter([np.full(2, 0.25)]))
    assert optimizer.k == 7
    assert type(optimizer.k) is int
    np.testing.assert_array_equal(optimizer.m[0], [0.5, 0.5])
    np.testing.assert_array_equal(optimizer.v[0], [0.25, 0.25])


def test_a_state_of_no_updates_may_be_set():
    optimizer = INNAprop([np.ones(2)])
    optimizer.set_state(k=0, m=[np.zeros(2)], v=[np.zeros(2)])
    assert optimizer.k == 0


_GOOD = [np.asarray(np.full(shape, 0.5)) for shape in SHAPES]
BAD_STATES = {
    "k half": ({"k": 1.5}, TypeError, "k must be an integer >= 0, got 1.5"),
    "k a bool": ({"k": True}, TypeError, "k must be an integer >= 0, got True"),
    "k NumPy's bool": ({"k": np.True_}, TypeError, "k must be an integer >= 0, got"),
    "k negative": ({"k": np.int64(-1)}, ValueError, "k must be an integer >= 0, got -1"),
    "m numbers": ({"m": [1.0, *_GOOD[1:]]}, TypeError, r"m\[0\] must be an array, got a float"),
    "v short": ({"v": _GOOD[:-1]}, ValueError, "v must be arrays of the shapes"),
    "v negative": (
        {"v": [*_GOOD[:-1], np.full((2, 1, 3), -0.25)]},
        ValueError,
        r"v\[3\] must not be negative, got -0.25",
    ),
    "v NaN": (
        {"v": [_GOOD[0], np.array([0, np.nan, 0]), *_GOOD[2:]]},
        ValueError,
        r"v\[1\] must be finite in float64, got \[ 0. nan  0.\]",
    ),
    "m infinite": (
        {"m": [np.asarray(np.inf), *_GOOD[1:]]},
        ValueError,
        r"m\[0\] must be finite in float64, got inf",
    ),
}


@pytest.mark.parametrize(("change", "error", "message"), BAD_STATES.values(), ids=BAD_STATES)
def test_a_bad_state_is_refused_before_anything_changes(change, error, message):
    optimizer = _started()
    before = _everything(optimizer)
    with pytest.raises(error, match=message):
        optimizer.set_state(**{"k": 1, "m": _GOOD, "v": _GOOD, **change})
    _assert_unchanged(optimizer, before)


def test_a_state_that_the_dtype_does_not_hold_is_refused():
    optimizer = INNAprop([np.ones(1, np.float32)])
    with pytest.raises(ValueError, match=r"v\[0\] must be finite in float32, got \[1.e\+39\]"):
        optimizer.set_state(k=1, m=[np.ones(1)], v=[np.full(1, 1e39)])


def test_a_state_of_other_namespaces_is_checked_alike():
    optimizer = INNAprop([array_api_strict.ones(2)])
    with pytest.raises(ValueError, match=r"v\[0\] must not be negative, got -1.0"):
        optimizer.set_state(k=1, m=[array_api_strict.ones(2)], v=[-array_api_strict.ones(2)])


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
    """An array of another library, with the shape and dtype of a NumPy array, as JAX has."""

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
