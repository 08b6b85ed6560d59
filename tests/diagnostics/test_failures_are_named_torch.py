import pytest
import torch

from innaprop.diagnostics import DiagnosticsWarning
from innaprop.torch import Diagnostics, INNAprop

from .failing_runs import RUNS, TRAINING, assert_named, data, options


def train(failing):
    x, y, start = map(torch.from_numpy, data())
    w = torch.nn.Parameter(start)
    optimizer = INNAprop([w], **options(failing, gamma="lr"))
    diagnostics = Diagnostics(optimizer, every=failing.every)
    for k in range(failing.steps):
        losses = (x @ w - y) ** 2
        loss = losses[:TRAINING].mean()
        (w.grad,) = torch.autograd.grad(loss * (failing.first_factor if k == 0 else 1.0), w)
        diagnostics.loss(loss, losses[TRAINING:].mean())
        optimizer.step()
    return diagnostics


@pytest.mark.parametrize("run", RUNS)
def test_it_is_named(run):
    failing = RUNS[run]
    with pytest.warns(DiagnosticsWarning, match=failing.name) as warned:
        diagnostics = train(failing)
    assert len(warned) == 1
    assert_named(failing, diagnostics.findings)
