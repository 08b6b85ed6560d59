"""The tolerance for a 16-bit state dtype: stochastic rounding passes, biased rounding fails."""

import numpy as np
import pytest

from innaprop_conformance.cases import CASES
from innaprop_conformance.judge import judge
from innaprop_conformance.state_bits import spacing_of_momentum, spacing_of_second_moment
from innaprop_conformance.steps import segments, steps_of
from innaprop_conformance.truth import find_truth
from innaprop_core import momentum, packed

NAMES = ("precision,fast", "precision,accurate")


def in_16_bits(m, v, k):
    """Round stochastically, as specified."""
    indices = np.arange(m.size, dtype=np.int32)
    turn = np.int32(packed.turn(packed.draw(k)))
    return packed.unpack(
        packed.pack(m, v, packed.thresholds(indices, turn), packed.NUMPY), packed.NUMPY
    )


def rounded_down(m, v, k):
    """Round down, without thresholds."""
    return packed.unpack(packed.pack(m, v, np.zeros(m.size, np.int32), packed.NUMPY), packed.NUMPY)


def with_one_threshold(m, v, k):
    """Round with the same thresholds at every update."""
    return in_16_bits(m, v, 1)


def in_bfloat16(m, v, k):
    """Round without bias to fewer bits."""
    drawn = np.random.default_rng(k).integers(0, 1 << 16, (2, m.size), np.uint32)
    return ((np.stack([m, v]).view(np.uint32) + drawn) & np.uint32(0xFFFF0000)).view(np.float32)


def verdict(name, store):
    case = CASES[name]
    (segment,) = segments(case)
    theta = segment.start.astype(np.float32)
    m = v = np.zeros_like(theta)
    iterates = []
    for (update,) in steps_of(case):
        c = momentum.coefficients(update.k, **update.values)
        theta, m, v = momentum.step(theta, m, v, update.gradient.astype(np.float32), c)
        m, v = store(m, v, update.k)
        iterates.append(theta.astype(float))
    return judge(name, "float32+state16", np.array(iterates), find_truth(case))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_stored_as_it_should_be_stays_within(name):
    found = verdict(name, in_16_bits)
    assert found.passed
    assert found.tolerance_used > 0.2


@pytest.mark.parametrize("store", [rounded_down, with_one_threshold, in_bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_stored_otherwise_leaves_it(name, store):
    assert not verdict(name, store).passed


def test_spacings_are_those_of_the_words():
    rng = np.random.default_rng(0)
    m = (rng.normal(size=10_000) * 10.0 ** rng.uniform(-6, 0, 10_000)).astype(np.float32)
    v = (10.0 ** rng.uniform(-18, 12, 10_000)).astype(np.float32)
    low, high = (
        packed.unpack(packed.pack(m, v, np.full(m.size, t, np.int32), packed.NUMPY), packed.NUMPY)
        for t in (0, -1)
    )
    for below, above, x, spacing in (
        (low[0], high[0], m, spacing_of_momentum),
        (low[1], high[1], v, spacing_of_second_moment),
    ):
        apart = np.abs(above.astype(float) - below)
        assert (apart > 0).mean() > 0.99
        moved = apart > 0
        np.testing.assert_allclose(apart[moved], spacing(x.astype(float))[moved], rtol=1e-3)
