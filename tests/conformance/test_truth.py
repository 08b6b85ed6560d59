"""The ground truth is Algorithm 1, checked against another form in another arithmetic."""

import subprocess
import sys
from dataclasses import asdict, replace

import mpmath
import numpy as np
import pytest

from innaprop_conformance.cases import CASES, Case, Schedule, flat
from innaprop_conformance.judge import judge
from innaprop_conformance.steps import steps_of
from innaprop_conformance.truth import find_truth
from innaprop_core import algorithm, momentum


def in_mpmath(case: Case, counts: str) -> np.ndarray:
    """Run a case in momentum form, element by element, in 60 digits."""
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


def test_what_repeats_is_computed_once():
    case = replace(CASES["large,several"], steps=2)
    truth = find_truth(case)
    assert truth.theta.shape == (2, 2 * 251 * 4 + 3)
    np.testing.assert_array_equal(truth.theta[:, :251], truth.theta[:, 251:502])


def test_a_replaced_parameter_keeps_its_momentum():
    """The reference is the momentum form, whose state does not depend on the parameters."""
    case = CASES["event,replace"]
    truth = find_truth(case)
    theta = case.parameters()[1].ravel()
    m = v = np.zeros_like(theta)
    for updates, gradients in enumerate(case.stream()):
        if updates == 4:
            theta = case.replacement(case.events[0]).ravel()
        values = asdict(case.group.hyperparameters)
        c = momentum.coefficients(updates + 1, **values)
        theta, m, v = momentum.step(theta, m, v, gradients[1].ravel(), c)
        np.testing.assert_allclose(truth.theta[updates, 12:24], theta, rtol=1e-12)


def test_options_that_change_keep_the_momentum():
    case = CASES["event,change,beta"]
    truth = find_truth(case)
    (theta,) = (case.parameters()[2],)
    m = v = np.zeros_like(theta)
    for updates, gradients in enumerate(case.stream()):
        values = {**asdict(case.group.hyperparameters), "beta": 0.8 if updates < 5 else 2.5}
        c = momentum.coefficients(updates + 1, **values)
        theta, m, v = momentum.step(theta, m, v, gradients[2], c)
        np.testing.assert_allclose(truth.theta[updates, 24:29], theta, rtol=1e-12)


def test_a_run_that_begins_late_counts_on():
    case = replace(CASES["count,32762"], steps=3)
    theta = find_truth(case).theta
    other = find_truth(replace(case, counted=0)).theta
    # The bias correction 1 - sigma^k differs, since k starts at a large count.
    assert np.abs(theta - other).max() > 1e-3


def test_clipped_gradients_are_what_numpy_makes_of_them():
    for name in ("value", "norm", "global-norm"):
        case = CASES[f"way,clip-by-{name}"]
        for gradients, step in zip(case.stream(), steps_of(case), strict=True):
            (update,) = step
            if name == "value":
                wanted = [np.clip(g, -0.25, 0.25) for g in gradients]
                assert any((np.abs(g) > 0.25).any() for g in gradients)
            elif name == "norm":
                norms = [np.linalg.norm(g) for g in gradients]
                wanted = [g * min(1, 0.5 / n) for g, n in zip(gradients, norms, strict=True)]
                assert max(norms) > 1
            else:
                norm = np.linalg.norm(flat(gradients))
                assert norm > 2
                wanted = [g / norm for g in gradients]
            np.testing.assert_allclose(update.gradient, flat(wanted), rtol=1e-14)


def test_psi_and_the_average_are_those_of_the_parameters():
    case = CASES["way,psi"]
    theta = find_truth(replace(case, way="")).theta
    average = find_truth(replace(case, way="moving average", amount=0.9)).theta
    np.testing.assert_array_equal(average[0], theta[0])
    np.testing.assert_allclose(average[5], 0.9 * average[4] + 0.1 * theta[5], rtol=1e-13)
    # The reference is psi in Algorithm 1 as printed, in float64.
    h = asdict(case.group.hyperparameters)
    parameters = flat(case.parameters())
    psi = algorithm.initial_psi(parameters, alpha=h["alpha"], beta=h["beta"])
    v = np.zeros_like(parameters)
    for updates, gradients in enumerate(case.stream()):
        parameters, psi, v = algorithm.step(parameters, psi, v, flat(gradients), k=updates + 1, **h)
        np.testing.assert_allclose(find_truth(case).theta[updates], psi, rtol=1e-9)


def test_what_is_no_number_stays_where_it_is():
    case = CASES["special,broken,fast"]
    truth = find_truth(case)
    finite = np.isfinite(truth.theta)
    assert finite[:2].all()
    assert 0 < (~finite[-1]).sum() == 2 * sum(p.size > 2 for p in case.parameters())
    for tolerance in truth.tolerances.values():
        assert np.isfinite(tolerance.norm).all()
        assert (tolerance.elements[finite] > 0).all()


def test_the_truth_shares_nothing_with_the_core():
    """The truth is the same in a process in which every function of the core raises."""
    code = (
        "import innaprop_core.algorithm, innaprop_core.momentum\n"
        "from innaprop_core import Hyperparameters\n"
        "def wrong(*args, **values): raise AssertionError\n"
        "for module in (innaprop_core.algorithm, innaprop_core.momentum):\n"
        "    for name in [n for n, x in vars(module).items() if callable(x)]:\n"
        "        setattr(module, name, wrong)\n"
        "Hyperparameters.__init__ = wrong\n"
        "from innaprop_conformance.cases import CASES\n"
        "from innaprop_conformance.truth import find_truth\n"
        "print(find_truth(CASES['event,replace']).theta.sum().hex())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == find_truth(CASES["event,replace"]).theta.sum().hex()


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


def test_algorithm_1_as_printed_in_float32_exceeds_the_tolerance():
    """The tolerance excludes the straightforward implementation."""
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


def test_a_constraint_moves_theta_and_keeps_the_momentum():
    case, limit = CASES["way,constraint"], CASES["way,constraint"].amount
    theta = find_truth(case).theta
    free = find_truth(replace(case, way="")).theta
    assert np.abs(theta).max() == limit
    assert (np.abs(free) > limit).any()
    # What is never at the limit moves as without it.
    untouched = (np.abs(free) < limit).all(axis=0)
    assert untouched.any()
    np.testing.assert_array_equal(theta[:, untouched], free[:, untouched])
