from dataclasses import FrozenInstanceError, asdict
from fractions import Fraction

import numpy as np
import pytest

from innaprop_core import (
    BEST_ACCURACY,
    FAST_TRAINING,
    Hyperparameters,
    check_hyperparameters,
)

ALLOWED = {
    "gamma": "a finite number >= 0",
    "alpha": "a finite number >= 0",
    "beta": "a finite number > 0",
    "sigma": "a number in [0, 1)",
    "eps": "a finite number >= 0",
    "weight_decay": "a finite number >= 0",
}
NAMES = list(ALLOWED)
OUT_OF_RANGE = [
    *((name, value) for name in NAMES for value in (-1e-9, -1, float("nan"))),
    *((name, value) for name in NAMES for value in (float("inf"), -float("inf"))),
    *((name, np.float64("nan")) for name in NAMES),
    *((name, np.float32("-inf")) for name in NAMES),
    ("beta", 0),
    ("beta", 0.0),
    ("sigma", 1),
    ("sigma", 1.0),
    ("sigma", 1.5),
]
WRONG_TYPES = [
    "0.1",
    True,
    False,
    np.True_,
    None,
    0.5 + 0j,
    np.array(0.1),
    np.array([0.1]),
    [0.1],
]


@pytest.mark.parametrize(("name", "value"), OUT_OF_RANGE)
def test_a_value_out_of_range_is_named(name, value):
    with pytest.raises(ValueError, match=name) as caught:
        Hyperparameters(**{name: value})
    assert str(caught.value) == f"{name} must be {ALLOWED[name]}, got {value!r}"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", WRONG_TYPES, ids=repr)
def test_a_value_of_the_wrong_type_is_named(name, value):
    with pytest.raises(TypeError, match=name) as caught:
        Hyperparameters(**{name: value})
    message = str(caught.value)
    assert message.startswith(f"{name} must be {ALLOWED[name]}, got {value!r}")
    assert type(value).__name__ in message


@pytest.mark.parametrize("name", NAMES)
def test_an_integer_beyond_every_float_is_a_value_error(name):
    with pytest.raises(ValueError, match=name):
        Hyperparameters(**{name: 10**400})


@pytest.mark.parametrize(("gamma", "beta"), [(0.9, 0.9), (1.0, 0.9), (1e-3, 1e-4), (2, 2)])
def test_gamma_not_below_beta_names_both(gamma, beta):
    with pytest.raises(ValueError, match="gamma must be smaller than beta") as caught:
        Hyperparameters(gamma=gamma, beta=beta)
    assert f"gamma={gamma!r}" in str(caught.value)
    assert f"beta={beta!r}" in str(caught.value)


def test_gamma_just_below_beta_is_allowed():
    check_hyperparameters({"gamma": np.nextafter(0.9, 0), "beta": 0.9})


@pytest.mark.parametrize(
    "values",
    [
        {"gamma": 0.0},
        {"alpha": 0.0},
        {"sigma": 0.0},
        {"eps": 0.0},
        {"weight_decay": 0.0},
        {"sigma": np.nextafter(1.0, 0)},
        {"beta": 5e-324, "gamma": 0},
        {"alpha": 10, "beta": 3},
        {"alpha": Fraction(1, 3)},
    ],
    ids=repr,
)
def test_edges_are_allowed(values):
    Hyperparameters(**values)


@pytest.mark.parametrize("number", [np.float16, np.float32, np.float64, np.longdouble])
def test_numpy_floats_are_numbers(number):
    Hyperparameters(**{name: number(0.25) for name in NAMES} | {"beta": number(0.5)})


@pytest.mark.parametrize("number", [np.int8, np.uint16, np.int64])
def test_numpy_integers_are_numbers(number):
    Hyperparameters(alpha=number(2), beta=number(2))


def test_defaults_are_those_of_the_authors():
    assert asdict(Hyperparameters()) == {
        "gamma": 1e-3,
        "alpha": 0.1,
        "beta": 0.9,
        "sigma": 0.999,
        "eps": 1e-8,
        "weight_decay": 0.01,
        "decay_momentum": True,
    }


@pytest.mark.parametrize("name", NAMES)
def test_frozen(name):
    hyperparameters = Hyperparameters()
    with pytest.raises(FrozenInstanceError):
        setattr(hyperparameters, name, 0.25)
    assert hyperparameters == Hyperparameters()


def test_any_subset_is_checked_alone():
    check_hyperparameters({})
    check_hyperparameters({"gamma": 100.0})
    check_hyperparameters({"beta": 1e-6})
    with pytest.raises(ValueError, match="eps"):
        check_hyperparameters({"eps": -1.0})


RENAMED = {"gamma": "lr", "beta": "newtonian", "weight_decay": "decay"}


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"gamma": -1.0}, ValueError, "lr must be a finite number >= 0, got -1.0"),
        ({"gamma": "x"}, TypeError, "lr must be a finite number >= 0, got 'x' of type str"),
        ({"weight_decay": -2.0}, ValueError, "decay must be a finite number >= 0, got -2.0"),
        # Names that are not mapped stay the same.
        ({"alpha": -2.0}, ValueError, "alpha must be a finite number >= 0, got -2.0"),
        (
            {"gamma": 2.0, "beta": 1.0},
            ValueError,
            "lr must be smaller than newtonian, got lr=2.0 with newtonian=1.0",
        ),
    ],
)
def test_names_are_those_the_user_knows(values, error, message):
    with pytest.raises(error) as caught:
        check_hyperparameters(values, names=RENAMED)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("preset", "alpha", "beta"), [(FAST_TRAINING, 0.1, 0.9), (BEST_ACCURACY, 2.0, 2.0)]
)
def test_presets_unpack(preset, alpha, beta):
    assert Hyperparameters(**preset) == Hyperparameters(alpha=alpha, beta=beta)
    assert dict(preset) == {"alpha": alpha, "beta": beta}


@pytest.mark.parametrize("preset", [FAST_TRAINING, BEST_ACCURACY])
def test_presets_are_read_only(preset):
    with pytest.raises(TypeError):
        preset["alpha"] = 1.0


def test_the_order_of_the_values_does_not_matter():
    with pytest.raises(ValueError, match="alpha must be"):
        check_hyperparameters({"decay_momentum": True, "alpha": -1.0})
