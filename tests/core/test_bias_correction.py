import numpy as np
import pytest
import torch
from mpmath import mp, mpf

from innaprop_core.momentum import bias_correction, coefficients

from .paper import EPS64

SIGMAS = [5e-324, 1e-300, 1e-20, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999, 1 - 1e-9, 1 - 2**-53]
COUNTS = [1, 2, 3, 10, 99, 1000, 12345, 10**6]


def _exactly(sigma, k):
    with mp.workdps(60):
        return 1 - mpf(sigma) ** k


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("k", COUNTS)
def test_float64_keeps_all_but_the_last_two_bits(sigma, k):
    # Logarithm, product and expm1 round once each, and none amplifies an error.
    assert abs(bias_correction(sigma, k) / _exactly(sigma, k) - 1) <= 2 * EPS64


@pytest.mark.parametrize("k", COUNTS)
def test_without_memory_nothing_is_corrected(k):
    # sigma = 0 has no logarithm.
    assert bias_correction(0.0, k) == 1
    assert bias_correction(0, k) == 1


@pytest.mark.parametrize("sigma", [0.9, 0.999, 0.9999])
@pytest.mark.parametrize("k", [1, 2, 10, 1000, 10**6])
def test_a_float32_count_on_the_device_loses_nothing_more(sigma, k):
    count = torch.tensor(k, dtype=torch.float32)
    value = bias_correction(sigma, count, torch.expm1)
    assert value.dtype == torch.float32
    tolerance = 2 * float(np.finfo(np.float32).eps)
    assert abs(float(value) / _exactly(sigma, k) - 1) <= tolerance


def test_the_plain_difference_in_float32_is_worse_by_far():
    plain = np.float32(1) - np.float32(0.999) ** np.float32(1)
    assert abs(float(plain) / _exactly(0.999, 1) - 1) > 1e-5


def test_coefficients_hand_the_exponential_on():
    seen = []

    def expm1(x):
        seen.append(x)
        return np.expm1(x)

    c = coefficients(
        7, gamma=0.1, alpha=0.5, beta=0.9, sigma=0.9, eps=0.0, weight_decay=0.0, expm1=expm1
    )
    assert len(seen) == 1
    assert abs(c.bias_correction / _exactly(0.9, 7) - 1) <= 2 * EPS64
