import dataclasses

import numpy as np
import pytest

from innaprop_conformance.cases import CASES
from innaprop_conformance.judge import judge
from innaprop_conformance.truth import find_truth
from innaprop_core import algorithm


@pytest.fixture(scope="module")
def short():
    case = CASES["alpha=0.1,beta=0.9,decay=0.1,cosine"]
    return dataclasses.replace(case, steps=40)


def test_the_floor_is_float32_and_within_a_few_roundings_of_the_truth(short):
    truth = find_truth(short)
    np.testing.assert_array_equal(truth.floor, truth.floor.astype(np.float32))
    ulp = np.spacing(np.abs(truth.theta).max(axis=0).astype(np.float32))
    error = np.abs(truth.floor - truth.theta) / ulp
    assert 0.25 < error[0].max() <= 0.5
    assert error.max() < 40 * 0.5


def test_algorithm_1_as_printed_in_float32_leaves_the_corridor():
    """So the corridor tells a good implementation from the one everybody would write first."""
    case = CASES["alpha=0.1,beta=0.9,decay=0,constant"]
    values = dataclasses.asdict(case.hyperparameters)
    theta = [p.astype(np.float32) for p in case.parameters()]
    psi = [algorithm.initial_psi(p, alpha=0.1, beta=0.9) for p in theta]
    v = [np.zeros_like(p) for p in theta]
    iterates = []
    for k, gradients in enumerate(case.gradients(), start=1):
        for i, g in enumerate(gradients):
            theta[i], psi[i], v[i] = algorithm.step(
                theta[i], psi[i], v[i], g.astype(np.float32), k=k, **values
            )
        iterates.append(np.concatenate([p.ravel() for p in theta]).astype(np.float64))
    verdict = judge(case.name, "float32", np.array(iterates), find_truth(case))
    assert not verdict.passed
    assert verdict.floors > 10
