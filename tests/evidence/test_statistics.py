"""Intervals are the bootstrap's, and a verdict is given only where they leave out zero."""

import numpy as np
import pytest
from scipy.stats import bootstrap

from evidence.statistics import mean_and_spread, paired


def test_the_interval_is_scipys():
    rng = np.random.default_rng(1)
    ours, theirs = rng.normal(size=8), rng.normal(size=8) + 1
    found = paired(ours, theirs)
    theirs_interval = bootstrap(
        (ours - theirs,), np.mean, n_resamples=100_000, method="percentile", rng=rng
    ).confidence_interval
    assert found.mean == pytest.approx((ours - theirs).mean())
    assert found.low == pytest.approx(theirs_interval.low, abs=0.03)
    assert found.high == pytest.approx(theirs_interval.high, abs=0.03)


@pytest.mark.parametrize(
    ("shift", "verdict"), [(-1.0, "ahead"), (1.0, "behind"), (0.0, "undecided")]
)
def test_less_is_ahead(shift, verdict):
    theirs = np.array([3.0, 4, 5, 6, 7, 8, 9, 10])
    noise = np.array([0.1, -0.1, 0.2, -0.2, 0.1, -0.1, 0.1, -0.1])
    assert paired(theirs + noise + shift, theirs).verdict == verdict


def test_pairs_take_out_what_seeds_share():
    seeds = np.array([0.0, 10, 20, 30, 40, 50, 60, 70])
    assert paired(seeds + 1, seeds).verdict == "behind"
    assert paired(seeds[::-1] + 1, seeds).verdict == "undecided"


def test_few_seeds_decide_nothing():
    assert paired([1.0, 1, 1], [2.0, 2, 2]).verdict == "few seeds"


def test_one_seed_has_no_spread():
    assert mean_and_spread([2.0]) == (2.0, 0.0)
    assert mean_and_spread([1.0, 3.0]) == (2.0, pytest.approx(2**0.5))
