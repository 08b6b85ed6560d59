import numpy as np
import pytest

from innaprop_conformance.judge import judge
from innaprop_conformance.truth import Truth

STEPS, ELEMENTS = 10, 4
START = np.zeros(ELEMENTS)
# Every element moves by 0.25 per step, so the distance after step k is 0.5 k, exactly.
THETA = np.arange(1, STEPS + 1)[:, None] * np.full(ELEMENTS, 0.25)
# Storage is off by 2e-6 in one element throughout: the floor.
FLOOR = THETA + np.eye(1, ELEMENTS) * 2e-6
TRUTH = Truth(START, THETA, FLOOR)


def off_by(error, at=None):
    theta = THETA.copy()
    theta[slice(None) if at is None else at - 1, 0] += error
    return theta


def test_the_truth_passes_without_error():
    verdict = judge("case", "float32", THETA, TRUTH)
    assert verdict.passed
    assert (verdict.ulps, verdict.relative, verdict.floors, verdict.corridor) == (0, 0, 0, 0)
    assert verdict.left_at is None


@pytest.mark.parametrize(
    ("dtype", "step", "allowed"),
    [
        ("float32", 1, 1.5 * 2e-6 + 1e-5 * 0.5),
        ("float32", 6, 1.5 * 2e-6 + 1e-5 * 3),
        ("float64", 1, 1e-9 * 0.5),
        ("float64", 6, 1e-9 * 3),
    ],
)
def test_the_edge_of_the_corridor(dtype, step, allowed):
    inside = judge("case", dtype, off_by(0.99 * allowed, step), TRUTH)
    assert inside.passed
    assert inside.corridor == pytest.approx(0.99, rel=1e-4)
    outside = judge("case", dtype, off_by(1.01 * allowed, step), TRUTH)
    assert not outside.passed
    assert outside.left_at == step


def test_the_first_step_outside_is_told():
    verdict = judge("case", "float32", off_by(np.linspace(0, 1, STEPS)), TRUTH)
    assert verdict.left_at == 2


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_fails(value):
    verdict = judge("case", "float64", off_by(value, 7), TRUTH)
    assert not verdict.passed
    assert verdict.left_at == 7
    assert verdict.ulps == np.inf


def test_errors_in_ulps_of_the_largest_magnitude_so_far():
    ulp = np.spacing(np.float32(0.5))
    assert judge("case", "float32", off_by(3 * ulp, 2), TRUTH).ulps == pytest.approx(3)


def test_errors_relative_to_the_whole_distance_and_in_floors():
    verdict = judge("case", "float32", off_by(5e-6, 10), TRUTH)
    assert verdict.relative == pytest.approx(5e-6 / 5)
    assert verdict.floors == pytest.approx(2.5)
    assert verdict.errors[-1] == pytest.approx(5e-6 / 5)
    assert verdict.errors[:-1] == (0,) * 9


def test_the_corridor_does_not_narrow_where_the_run_comes_back():
    """Nor where the floor happens to be small: errors stay, once they are made."""
    back = np.concatenate([THETA, THETA[::-1]])
    floor = back + np.where(np.arange(20) == 3, 2e-6, 0)[:, None] * np.eye(1, ELEMENTS)
    theta = back.copy()
    theta[-1, 0] += 0.99 * (1.5 * 2e-6 + 1e-5 * 5)
    verdict = judge("case", "float32", theta, Truth(START, back, floor))
    assert verdict.passed
    assert verdict.corridor == pytest.approx(0.99, rel=1e-4)
    ulp = np.spacing(np.float32(2.5))
    assert verdict.ulps == pytest.approx((theta[-1, 0] - back[-1, 0]) / ulp, rel=1e-6)


def test_a_run_that_does_not_move_must_not_be_moved():
    still = Truth(START, np.zeros_like(THETA), np.zeros_like(THETA))
    assert judge("case", "float32", np.zeros_like(THETA), still).passed
    assert not judge("case", "float32", np.zeros_like(THETA) + 1e-30, still).passed


def test_a_trajectory_of_another_length_is_refused():
    with pytest.raises(ValueError, match=r"theta must have shape \(10, 4\).*got \(9, 4\)"):
        judge("case", "float32", THETA[:-1], TRUTH)
