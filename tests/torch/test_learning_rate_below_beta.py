"""lr >= beta is refused where an update would be made with it, and nowhere before."""

import copy

import pytest
import torch

from innaprop.torch import INNAprop

MESSAGE = "lr must be smaller than beta, got lr="


def parameters():
    return [torch.nn.Parameter(torch.ones(3)) for _ in range(2)]


@pytest.mark.parametrize("kind", [float, torch.tensor])
def test_a_schedule_of_factors(implementation, kind):
    """The learning rate is 1 until the scheduler is there: Noam's, as it is mostly written."""
    p, q = parameters()
    optimizer = INNAprop([p], lr=kind(1.0), **implementation)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1e-3)
    other = INNAprop([q], lr=1e-3, **implementation)
    for one, x in ((optimizer, p), (other, q)):
        x.grad = torch.ones(3)
        one.step()
    torch.testing.assert_close(p, q)


def refused(optimizer):
    """Assert that a step is refused, with nothing changed."""
    (groups, state) = optimizer.param_groups, copy.deepcopy(optimizer.state_dict()["state"])
    params = [p for group in groups for p in group["params"]]
    before = [p.detach().clone() for p in params]
    for p in params:
        p.grad = torch.ones_like(p)
    with pytest.raises(ValueError, match=MESSAGE):
        optimizer.step()
    assert all(map(torch.equal, params, before))
    torch.testing.assert_close(optimizer.state_dict()["state"], state, rtol=0, atol=0)


@pytest.mark.parametrize(
    "options",
    [
        {"lr": 0.9},
        {"lr": torch.tensor(2.0)},
        {"lr": 0.5, "beta": lambda updates: 0.5},
        {"lr": 1e-3, "beta": 1e-3},
    ],
    ids=["equal", "tensor", "schedule", "small beta"],
)
def test_a_step_is_refused_whole(implementation, options):
    p, q = parameters()
    if callable(options.get("beta")) and implementation.get("capturable"):
        pytest.skip("with capturable a schedule's numbers are not checked")
    refused(INNAprop([{"params": [p]}, {"params": [q], **options}], **implementation))


def test_a_learning_rate_that_has_grown(implementation):
    optimizer = INNAprop(parameters(), **implementation)
    for p in optimizer.param_groups[0]["params"]:
        p.grad = torch.ones(3)
    optimizer.step()
    optimizer.param_groups[0]["lr"] = 0.9
    refused(optimizer)
    optimizer.param_groups[0]["lr"] = 0.1
    optimizer.step()


def test_a_group_that_is_added():
    p, q = parameters()
    optimizer = INNAprop([p])
    optimizer.add_param_group({"params": [q], "lr": 5.0})
    refused(optimizer)


def test_a_state_dict():
    saved = INNAprop(parameters(), lr=3.0).state_dict()
    optimizer = INNAprop(parameters())
    optimizer.load_state_dict(saved)
    assert optimizer.param_groups[0]["lr"] == 3.0
    refused(optimizer)


def test_psi_needs_no_learning_rate():
    p, q = parameters()
    scheduled = INNAprop([p], lr=1.0, beta=lambda updates: 0.9)
    assert torch.equal(scheduled.psi(p), INNAprop([q]).psi(q))
