"""At alpha = beta = 1 INNAprop is AdamW without a first moment: code that is not ours.

Fifty steps, no more: without a first moment a gradient near zero flips its sign for the
rounding of a weight, and from there on two exact runs go ways of their own.
"""

import pytest
import torch

from innaprop.torch import INNAprop


def train(make_optimizer, dtype):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1)).to(
        dtype
    )
    x, y = torch.randn(64, 8, dtype=dtype), torch.randn(64, 1, dtype=dtype)
    optimizer = make_optimizer(model.parameters())
    for _ in range(50):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 1e-5)], ids=str
)
def test_trained_weights_are_adamws(dtype, tolerance):
    ours = train(lambda p: INNAprop(p, 3e-3, alpha=1, beta=1, sigma=0.99, weight_decay=0.05), dtype)
    theirs = train(lambda p: torch.optim.AdamW(p, 3e-3, (0.0, 0.99), weight_decay=0.05), dtype)
    start = train(lambda p: torch.optim.SGD(p, 0.0), dtype)
    assert (ours - theirs).norm() < tolerance * (theirs - start).norm()
