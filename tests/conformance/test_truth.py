"""The truth is Algorithm 1, here evaluated once more, by other arithmetic and in another form."""

from dataclasses import asdict, replace

import mpmath
import numpy as np
import pytest

from innaprop_conformance.cases import CASES, Case, Schedule, flat
from innaprop_conformance.judge import judge
from innaprop_conformance.truth import find_truth
from innaprop_core import algorithm


def in_mpmath(case: Case, counts: str) -> np.ndarray:
    """Follow a case in momentum form, a number at a time, with 60 digits."""
    with mpmath.workdps(60):
        theta = [[mpmath.mpf(x) for x in p.ravel()] for p in case.parameters()]
        m = [[mpmath.mpf(0)] * len(p) for p in theta]
        v = [[mpmath.mpf(0)] * len(p) for p in theta]
        made = [0] * len(theta)
        iterates = []
        for updates, gradients in enumerate(case.stream()):
            for i, gradient in enumerate(gradients):
                if gradient is None:
                    continue
                group = case.owners[i]
                h = group.hyperparameters
                before = updates if counts == "run" else made[i]
                made[i] += 1
                gamma = mpmath.mpf(group.at("gamma", updates))
                alpha = mpmath.mpf(group.at("alpha", before))
                beta = mpmath.mpf(group.at("beta", before))
                sigma, eps, decay = map(mpmath.mpf, (h.sigma, h.eps, h.weight_decay))
                for j, g in enumerate(map(mpmath.mpf, gradient.ravel())):
                    v[i][j] = sigma * v[i][j] + (1 - sigma) * g**2
                    u = g / (mpmath.sqrt(v[i][j] / (1 - sigma ** (before + 1))) + eps)
                    pushed = m[i][j] + gamma * decay * (1 - alpha * beta) / beta * theta[i][j]
                    theta[i][j] -= gamma * (decay * theta[i][j] + pushed + beta * u)
                    m[i][j] = (1 - alpha * gamma) * pushed + gamma * (1 - alpha * beta) * u
            iterates.append([float(x) for p in theta for x in p])
    return np.array(iterates)


@pytest.mark.parametrize("counts", ["parameter", "run"])
@pytest.mark.parametrize(
    "name",
    [
        "alpha=2,beta=2,decay=0.1,cosine",
        "corner,beta-above-gamma",
        "schedule,alpha+beta",
        "schedule,pause,fast",
        "gaps,fast",
        "groups,all-settings",
    ],
)
def test_another_evaluation_agrees_to_the_last_digit_of_float64(name, counts):
    case = replace(CASES[name], steps=45)
    np.testing.assert_array_equal(find_truth(case, counts).theta, in_mpmath(case, counts))


def test_it_matters_what_is_counted():
    case = CASES["gaps,fast"]
    own, common = find_truth(case), find_truth(case, "run")
    assert not judge(case.name, "float32", common.theta, own).passed


def test_a_parameter_without_gradient_stays():
    case = CASES["gaps,fast"]
    theta = find_truth(case).theta[:, : case.parameters()[0].size]
    np.testing.assert_array_equal(theta[:20], np.tile(flat(case.parameters()[:1]), (20, 1)))
    assert (theta[20] != theta[19]).any()


def test_an_unknown_way_of_counting_is_refused():
    with pytest.raises(ValueError, match="counts must be one of parameter, run, got 'group'"):
        find_truth(CASES["gaps,fast"], "group")


def test_of_a_million_elements_some_are_judged_first_and_last_among_them():
    case = CASES["shapes,million"]
    small = replace(case, steps=1)
    truth = find_truth(small)
    (start,) = case.parameters()
    assert truth.theta.shape == (1, case.judged)
    assert truth.start[0] == start[0]
    assert truth.start[-1] == start[-1]
    assert start.size == 1_000_003


def test_a_schedule_that_is_constant_is_the_number():
    case = CASES["schedule,alpha+beta"]
    h = case.group.hyperparameters
    constant = replace(
        case,
        steps=20,
        groups=(replace(case.group, alpha=Schedule("constant", h.alpha, 20), beta=None),),
    )
    plain = replace(case, steps=20, groups=(replace(case.group, alpha=None, beta=None),))
    np.testing.assert_array_equal(find_truth(constant).theta, find_truth(plain).theta)


def test_algorithm_1_as_printed_in_float32_leaves_the_corridor():
    """So the corridor tells a good implementation from the one everybody would write first."""
    case = CASES["alpha=0.1,beta=0.9,decay=0,constant"]
    values = asdict(case.group.hyperparameters)
    theta = [p.astype(np.float32) for p in case.parameters()]
    psi = [algorithm.initial_psi(p, alpha=0.1, beta=0.9) for p in theta]
    v = [np.zeros_like(p) for p in theta]
    iterates = []
    for k, gradients in enumerate(case.stream(), start=1):
        for i, g in enumerate(gradients):
            theta[i], psi[i], v[i] = algorithm.step(
                theta[i], psi[i], v[i], g.astype(np.float32), k=k, **values
            )
        iterates.append(np.concatenate([p.ravel() for p in theta]).astype(np.float64))
    verdict = judge(case.name, "float32", np.array(iterates), find_truth(case))
    assert not verdict.passed
    assert verdict.floors > 10
