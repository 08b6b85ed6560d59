import numpy as np
import pytest

from innaprop_conformance.judge import judge
from innaprop_conformance.tolerance import Tolerance
from innaprop_conformance.truth import Truth

STEPS, ELEMENTS = 10, 4
START = np.zeros(ELEMENTS)
# Each of the four elements moves by 0.25 per step, so the distance after step k is exactly 0.5 k.
THETA = np.arange(1, STEPS + 1)[:, None] * np.full(ELEMENTS, 0.25)
K = np.arange(1, STEPS + 1)
# Two elements at their tolerance exceed the norm's, one does not.
TOLERANCE = Tolerance(
    floor=1e-6 * K, elements=2e-6 * K[:, None] * np.ones(ELEMENTS), norm=2.5e-6 * K
)
TRUTH = Truth(START, THETA, {"float32": TOLERANCE, "bfloat16": TOLERANCE})


def off_by(error, at=None, elements=1):
    theta = THETA.copy()
    theta[slice(None) if at is None else at - 1, :elements] += np.expand_dims(error, -1)
    return theta


def test_the_truth_passes_without_error():
    verdict = judge("case", "float32", THETA, TRUTH)
    assert verdict.passed
    assert (verdict.ulps, verdict.relative, verdict.floors, verdict.tolerance_used) == (0, 0, 0, 0)
    assert verdict.exceeded_at is None


@pytest.mark.parametrize("step", [1, 6])
@pytest.mark.parametrize(("elements", "allowed"), [(1, 2e-6), (4, 1.25e-6)])
def test_the_edge_of_the_tolerance(step, elements, allowed):
    inside = judge("case", "float32", off_by(0.99 * allowed * step, step, elements), TRUTH)
    assert inside.passed
    assert inside.tolerance_used == pytest.approx(0.99, rel=1e-4)
    outside = judge("case", "float32", off_by(1.01 * allowed * step, step, elements), TRUTH)
    assert not outside.passed
    assert outside.exceeded_at == step


def test_the_share_of_the_elements_bounds_is_told_apart():
    verdict = judge("case", "float32", off_by(1e-6, 1, 4), TRUTH)
    assert verdict.bound == pytest.approx(0.5)
    assert verdict.tolerance_used == pytest.approx(0.8)


def test_the_worst_element_and_update_are_told():
    theta = THETA.copy()
    theta[6, 2] += 1e-6
    theta[8, 3] += 1.1e-6
    verdict = judge("case", "float32", theta, TRUTH)
    assert (verdict.worst_element, verdict.worst_update) == (2, 7)


def test_the_first_step_outside_is_told():
    verdict = judge("case", "float32", off_by(np.linspace(0, 1, STEPS)), TRUTH)
    assert verdict.exceeded_at == 2


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_fails(value):
    verdict = judge("case", "float32", off_by(value, 7), TRUTH)
    assert not verdict.passed
    assert verdict.exceeded_at == 7
    assert verdict.ulps == np.inf


@pytest.mark.parametrize(("dtype", "ulp"), [("float32", 2.0**-24), ("bfloat16", 2.0**-8)])
def test_errors_in_ulps_of_the_largest_magnitude_so_far(dtype, ulp):
    truth = Truth(START, THETA, {dtype: TOLERANCE})
    assert judge("case", dtype, off_by(3 * ulp, 2), truth).ulps == pytest.approx(3)
    # The largest magnitude so far determines the ulp, although the value has decreased since.
    there_and_back = Truth(
        START,
        np.concatenate([THETA, THETA[::-1]]),
        {dtype: Tolerance(*(np.concatenate([x, x]) for x in vars(TOLERANCE).values()))},
    )
    theta = there_and_back.theta.copy()
    theta[-1, 0] += 3 * ulp
    assert judge("case", dtype, theta, there_and_back).ulps == pytest.approx(3 / 4)


def test_errors_relative_to_the_whole_distance_and_in_floors():
    verdict = judge("case", "float32", off_by(5e-6, 10), TRUTH)
    assert verdict.relative == pytest.approx(5e-6 / 5)
    assert verdict.floors == pytest.approx(0.5)
    assert verdict.errors[-1] == pytest.approx(5e-6 / 5)
    assert verdict.errors[:-1] == (0,) * 9


def test_of_a_long_run_a_hundred_errors_are_kept_with_the_last():
    steps = 1000
    theta = np.full((steps, 1), 0.5)
    wide = Tolerance(np.ones(steps), np.ones((steps, 1)), np.ones(steps))
    off = theta + np.arange(steps)[:, None] * 1e-6
    verdict = judge("case", "float32", off, Truth(np.zeros(1), theta, {"float32": wide}))
    assert len(verdict.errors) == 100
    assert verdict.errors[0] == 0
    assert verdict.errors[-1] == max(verdict.errors) == pytest.approx(999e-6 / 0.5)


def test_what_is_not_allowed_to_move_must_not_be_moved():
    none = Tolerance(np.zeros(STEPS), np.zeros_like(THETA), np.zeros(STEPS))
    still = Truth(START, np.zeros_like(THETA), {"float32": none})
    assert judge("case", "float32", np.zeros_like(THETA), still).passed
    assert not judge("case", "float32", np.zeros_like(THETA) + 1e-30, still).passed


def test_a_case_without_elements_passes():
    empty = Tolerance(np.zeros(STEPS), np.zeros((STEPS, 0)), np.zeros(STEPS))
    truth = Truth(np.zeros(0), np.zeros((STEPS, 0)), {"float32": empty})
    assert judge("case", "float32", np.zeros((STEPS, 0)), truth).passed


def test_a_trajectory_of_another_length_or_dtype_is_refused():
    with pytest.raises(ValueError, match=r"theta must have shape \(10, 4\).*got \(9, 4\)"):
        judge("case", "float32", THETA[:-1], TRUTH)
    with pytest.raises(ValueError, match="dtype must be one of float32, bfloat16, got 'float16'"):
        judge("case", "float16", THETA, TRUTH)
