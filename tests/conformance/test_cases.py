import subprocess
import sys

import numpy as np
import pytest

from innaprop_conformance.cases import CASES, Schedule, flat


def test_both_presets_decay_and_all_schedules_are_there():
    cases = CASES.values()
    dampings = {(c.hyperparameters.alpha, c.hyperparameters.beta) for c in cases}
    assert {(0.1, 0.9), (2.0, 2.0)} < dampings
    assert len(dampings) >= 5
    assert {c.hyperparameters.weight_decay > 0 for c in cases} == {False, True}
    assert {c.schedule.kind for c in cases} == {"constant", "cosine", "steps"}


@pytest.mark.parametrize("case", CASES.values(), ids=lambda c: c.name)
def test_values_are_bfloat16_and_gradients_span_twelve_decades(case):
    gradients = np.array([flat(g) for g in case.gradients()])
    for values in (flat(case.parameters()), gradients):
        bits = values.astype(np.float32).view(np.uint32)
        np.testing.assert_array_equal(values, values.astype(np.float32))
        assert not (bits & 0xFFFF).any()
    assert 0.05 < (gradients == 0).mean() < 0.15
    magnitudes = np.abs(gradients).mean(axis=0)
    assert magnitudes.min() < 1e-6
    assert magnitudes.max() > 1e2
    assert gradients.shape == (case.steps, sum(p.size for p in case.parameters()))


def test_another_process_makes_the_same_values():
    case = next(iter(CASES.values()))
    code = (
        "from innaprop_conformance.cases import CASES, flat\n"
        f"case = CASES[{case.name!r}]\n"
        "print(flat(case.parameters()).sum().hex(), flat(next(case.gradients())).sum().hex())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    ours = flat(case.parameters()).sum().hex(), flat(next(case.gradients())).sum().hex()
    assert tuple(done.stdout.split()) == ours


def test_cosine_warms_up_to_its_peak_and_comes_down_near_zero():
    schedule = Schedule("cosine", 1e-2, 300)
    rates = [schedule(updates) for updates in range(300)]
    assert rates[0] == pytest.approx(1e-2 / 30)
    assert max(rates) == rates[30] == rates[29] == 1e-2
    assert 0 < rates[-1] < 1e-6


def test_steps_divides_by_ten_after_each_third():
    schedule = Schedule("steps", 3e-3, 300)
    assert [schedule(updates) for updates in (0, 99, 100, 199, 200, 299)] == pytest.approx(
        [3e-3, 3e-3, 3e-4, 3e-4, 3e-5, 3e-5]
    )
