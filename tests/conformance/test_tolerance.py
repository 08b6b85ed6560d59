"""Correct trajectories stay within the tolerance, and relative faults of 1e-5 exceed it."""

from dataclasses import replace

import numpy as np
import pytest

from innaprop_conformance.backends.numpy import NumPyBackend
from innaprop_conformance.bounds import half_ulp
from innaprop_conformance.cases import (
    CASES,
    Case,
    Gradients,
    Hyperparameters,
    flat,
    select,
)
from innaprop_conformance.cases.dtypes import has_narrow_state
from innaprop_conformance.judge import Verdict, judge
from innaprop_conformance.steps import segments, steps_of
from innaprop_conformance.truth import find_truth
from innaprop_core import momentum


def verdict(case: Case, dtype: str, backend: NumPyBackend | None = None) -> Verdict:
    theta = (backend or NumPyBackend()).follow(case, dtype)
    return judge(case.name, dtype, theta, find_truth(case))


def follows(case: Case) -> bool:
    return not NumPyBackend.lacks(case, "float64") or not NumPyBackend.lacks(case, "float32")


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if follows(case)])
def test_the_core_stays_within(name):
    # With another seed than in other tests.
    case = select(seed=1)[name]
    if case.steps > 100:
        case = replace(case, steps=400 if case.steps > 1000 else 100)
    truth = find_truth(case)
    for dtype in NumPyBackend.dtypes:
        if not NumPyBackend.lacks(case, dtype):
            theta = NumPyBackend().follow(case, dtype)
            assert judge(name, dtype, theta, truth).passed, dtype


@pytest.mark.parametrize("name", ["alpha=0.1,beta=0.9,decay=0.1,cosine", "corner,no-damping"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_single_elements_come_near_their_bound(name, dtype):
    assert 0.5 < verdict(CASES[name], dtype).bound <= 1


class Off(NumPyBackend):
    """A hyperparameter has a relative error."""

    def __init__(self, name: str, share: float) -> None:
        self._name, self._share = name, share

    def begin(self, case: Case, dtype: str) -> None:
        h = case.group.hyperparameters
        wrong = {self._name: getattr(h, self._name) * (1 + self._share)}
        group = replace(case.group, hyperparameters=replace(h, **wrong))
        super().begin(replace(case, groups=(group,)), dtype)

    def step(self, gradients, gammas):
        (gamma,) = gammas
        super().step(gradients, [gamma * (1 + self._share) if self._name == "gamma" else gamma])


@pytest.mark.parametrize("name", ["gamma", "beta"])
@pytest.mark.parametrize("sign", [1, -1])
def test_one_part_in_a_hundred_thousand_leaves_it_in_float32(name, sign):
    case = CASES["alpha=0.5,beta=3,decay=0.1,cosine"]
    found = verdict(case, "float32", Off(name, sign * 1e-5))
    assert not found.passed
    assert found.floors > 2


@pytest.mark.parametrize("name", ["gamma", "alpha", "beta", "sigma", "weight_decay"])
def test_one_part_in_a_million_million_leaves_it_in_float64(name):
    case = CASES["corner,heavy-damping" if name == "sigma" else "alpha=2,beta=2,decay=0.1,cosine"]
    assert not verdict(case, "float64", Off(name, 1e-12 if name != "sigma" else -1e-12)).passed


class OffByRoundoffs(NumPyBackend):
    """Exact, except for a relative error of u and for storing theta."""

    def __init__(self, roundoffs: int) -> None:
        self._factor = 1 + roundoffs * 2**-24

    def follow(self, case: Case, dtype: str) -> np.ndarray:
        (segment,) = segments(case)
        theta, m, v = segment.start, *np.zeros((2, segment.start.size))
        thetas = []
        for (update,) in steps_of(case):
            c = momentum.coefficients(update.k, **update.values)
            wrong = {name: getattr(c, name) * self._factor for name in ("impulse", "drive")}
            theta, m, v = momentum.step(theta, m, v, update.gradient, c._replace(**wrong))
            thetas.append(theta.astype(dtype).astype(float))
        return np.array(thetas)


def test_what_the_derivation_grants_may_be_committed():
    # The bounds allow 10 roundoffs for u and 8 for the move of theta. Here only these matter: the
    # steps are as large as the parameters, and a large eps suppresses the error of v.
    h = Hyperparameters(0.5, 2.0, 2.0, eps=1e3)
    group = replace(CASES["corner,large-step"].group, hyperparameters=h)
    case = replace(
        CASES["corner,large-step"], groups=(group,), gradients=Gradients("nonzero", 3, 4)
    )
    assert verdict(case, "float32", OffByRoundoffs(17)).passed
    assert not verdict(case, "float32", OffByRoundoffs(25)).passed


class Late(NumPyBackend):
    """Reads its schedule one update late."""

    _before = None

    def step(self, gradients, gammas):
        super().step(gradients, self._before or gammas)
        self._before = gammas


@pytest.mark.parametrize(
    "name", ["schedule,linear,fast", "schedule,restarts,accurate", "schedule,pause,fast"]
)
def test_a_schedule_that_is_read_late_leaves_it(name):
    assert not verdict(CASES[name], "float32", Late()).passed


class OneElement(NumPyBackend):
    """One of 127 elements has an error of 40 ulps, which the norm would not show."""

    def parameters(self):
        first, *rest = super().parameters()
        first = first.copy()
        first[3, 3] += 40 * np.spacing(np.float32(1e-2))
        return [first, *rest]


def test_one_element_among_many_leaves_its_bound():
    found = verdict(CASES["alpha=0.1,beta=0.9,decay=0.1,cosine"], "float32", OneElement())
    assert not found.passed
    assert found.exceeded_at == 1


def test_storage_alone_makes_the_floor():
    case = replace(CASES["precision,fast"], steps=40)
    truth = find_truth(case)
    largest = np.abs(truth.theta).max(axis=0)
    for dtype, tolerance in truth.tolerances.items():
        if has_narrow_state(dtype):  # tests/conformance/test_state_bits.py
            continue
        half = np.linalg.norm(half_ulp(largest, dtype))
        assert 0.3 * half < tolerance.floor[0] <= half
        assert tolerance.floor[-1] < 40 * half
        assert (tolerance.floor <= tolerance.norm).all()
    dtypes = ("float64", "float32", "float16", "bfloat16")
    floors = [truth.tolerances[d].floor[-1] for d in dtypes]
    assert floors == sorted(floors)


def test_bounds_of_a_run_that_turns_do_not_explode():
    """Weights without gradients oscillate; a recurrence in absolute values would only grow."""
    case = CASES["corner,beta-above-gamma"]
    truth = find_truth(case)
    distance = np.linalg.norm(truth.theta - truth.start, axis=1).max()
    assert truth.tolerances["float32"].norm[-1] < 1e-4 * distance


def test_presets_keep_their_narrow_tolerance_in_float32():
    case = CASES["alpha=2,beta=2,decay=0,cosine"]
    truth = find_truth(case)
    tolerance = truth.tolerances["float32"]
    distance = np.maximum.accumulate(np.linalg.norm(truth.theta - truth.start, axis=1))
    assert (tolerance.norm <= 1.5 * tolerance.floor + 1e-5 * distance).all()


@pytest.mark.parametrize(
    ("dtype", "value", "half"),
    [
        ("float32", 1.0, 2.0**-24),
        ("float32", 0.999, 2.0**-25),
        ("float32", 0.0, 2.0**-150),
        ("float64", 1.0, 2.0**-53),
        ("bfloat16", 1.0, 2.0**-8),
        ("float16", 1.0, 2.0**-11),
        ("float16", 1e-6, 2.0**-25),
    ],
)
def test_half_an_ulp(dtype, value, half):
    assert half_ulp(np.array([value]), dtype) == [half]


def test_hyperparameters_of_a_gradient_of_zero_and_no_eps_are_in_no_case():
    """u is 0 / 0 there, so that the ground truth is not defined."""
    for case in CASES.values():
        if any(g.hyperparameters.eps == 0 for g in case.groups):
            assert isinstance(case.group.hyperparameters, Hyperparameters)
            assert all((flat(gradients) != 0).all() for gradients in case.stream())
