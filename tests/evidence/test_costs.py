"""The estimate counts every run that will be made."""

import json
import math

import pytest

from evidence import costs
from evidence.experiment import Scale
from evidence.experiments import EXPERIMENTS

SMOKE = Scale("smoke")


@pytest.fixture
def timed(tmp_path, monkeypatch):
    path = tmp_path / "costs.json"
    monkeypatch.setattr(costs, "COSTS", path)
    monkeypatch.setattr(costs.read, "__defaults__", (path,))
    return path


def test_searches_are_counted_to_their_end():
    runs = costs.all_runs(EXPERIMENTS["finetuning"], SMOKE)
    # Ten trials on two seeds and two reports for each of four, at two budgets.
    assert len(runs) == 4 * (10 * 2 + 2) * 2


def test_a_kind_is_multiplied(timed):
    experiment = EXPERIMENTS["second-moment"]
    runs = costs.all_runs(experiment, SMOKE)
    timed.write_text(json.dumps({costs.kind(run): 0.5 for run in runs}))
    assert costs.estimate(experiment, SMOKE) == (120, pytest.approx(60.0))


def test_what_is_not_timed_is_not_guessed(timed):
    runs, seconds = costs.estimate(EXPERIMENTS["second-moment"], SMOKE)
    assert runs == 120
    assert math.isnan(seconds)
