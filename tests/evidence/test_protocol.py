"""Every contender has the same chances, and what reports has not tuned."""

import math

import pytest

from evidence.contenders import FOUR, LADDER, RIVALS, Contender
from evidence.protocol import (
    REPORT_SEEDS,
    TUNING_SEEDS,
    Study,
    half_rungs,
    missing_runs,
    reported,
    search,
    shortened,
)
from evidence.store import Results, Run

BASE = {"experiment": "none", "schedule": "cosine", "steps": 100}


def finish(study, loss):
    """Make all runs of a study, whose losses a function gives."""
    done = Results(None)
    while missing := missing_runs(study, done):
        for config in missing:
            value = loss(config)
            result = {
                "marks": [10, 30, 100],
                "training": [value] * 3,
                "validation": {"loss": [value + 2, value + 1, value]},
                "time": 1.0,
                "test": {"loss": value},
            }
            diverged = {"diverged": 1}
            done.add(Run(config, result if math.isfinite(value) else diverged, 0.0, "none"))
    return done


def bowl(best, **wanted):
    def loss(config):
        missed = sum(config.get(name) != value for name, value in wanted.items())
        return math.log(config["lr"] / best) ** 2 + missed

    return loss


def study(*contenders, **options):
    return Study("a study", BASE, contenders or FOUR, **options)


@pytest.mark.parametrize("best", [1e-3, 3e-3])
def test_the_best_rate_is_found(best):
    done = finish(study(), bowl(best))
    for contender in FOUR:
        assert search(study(), contender, done).best["lr"] == best


@pytest.mark.parametrize("best", [3e-5, 1e-1])
def test_an_optimum_at_the_edge_moves_the_grid(best):
    done = finish(study(), bowl(best))
    for contender in FOUR:
        state = search(study(), contender, done)
        assert state.best["lr"] == best
        rates = {config["lr"] for config, _ in state.trials}
        assert min(rates) < best < max(rates)


def test_rates_that_diverge_lead_to_smaller_ones():
    done = finish(study(), lambda c: math.inf if c["lr"] > 2e-5 else 1.0)
    assert search(study(), FOUR[0], done).best["lr"] <= 2e-5


def test_a_rate_stays_below_beta():
    done = finish(study(), lambda config: 1 / config["lr"])
    assert search(study(), FOUR[1], done).best["lr"] < 0.9


def test_an_alternative_that_helps_is_taken():
    done = finish(study(), bowl(1e-3, warmup=0.25))
    for contender in FOUR:
        assert search(study(), contender, done).best["warmup"] == 0.25


def test_between_the_rungs_is_looked_too():
    between = half_rungs(1e-3)[1]
    done = finish(study(), bowl(between))
    assert search(study(), FOUR[0], done).best["lr"] == between


def test_all_have_as_many_trials():
    assert len({len(contender.alternatives) for contender in (*FOUR, *RIVALS)}) == 1
    done = finish(study(), bowl(1.2e-3))
    assert len({len(search(study(), contender, done).trials) for contender in FOUR}) == 1


def test_what_reports_has_not_tuned():
    assert not set(REPORT_SEEDS) & set(TUNING_SEEDS)
    assert len(REPORT_SEEDS) == 8
    assert len(TUNING_SEEDS) == 2


def test_only_runs_that_report_see_the_test_set():
    done = finish(study(), bowl(1e-3))
    for run in done:
        assert run.config.get("test", False) == (run.config["seed"] in REPORT_SEEDS)


def test_the_report_is_of_the_chosen_configuration():
    done = finish(study(), bowl(3e-3, warmup=0.25))
    found = reported(study(), FOUR[0], done)
    assert found is not None
    assert found.finals("loss") == pytest.approx([0.0] * 8)
    assert found.at(0.1, "loss") == pytest.approx([2.0] * 8)
    assert found.reaches(1.0, "loss") == 30
    assert [rate for rate, _ in found.rates] == [3e-4, 1e-3, 3e-3, 1e-2]


def test_an_unfinished_search_reports_nothing():
    assert reported(study(), FOUR[0], Results(None)) is None


def test_the_short_budget_is_tuned_for_by_itself():
    short = shortened(study(), 0.1)
    assert short.base["steps"] == 10
    done = finish(study(), bowl(1e-3))
    assert missing_runs(short, done)


def test_a_shifted_contender_starts_higher():
    contender = Contender("high", {"optimizer": "adamw"}, (), shift=2)
    rates = {config["lr"] for config in missing_runs(study(contender), Results(None))}
    assert rates == set(LADDER[5:9])
