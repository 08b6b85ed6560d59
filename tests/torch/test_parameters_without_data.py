"""Models are built, moved and measured before they have data: on meta, in ``FakeTensorMode``."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from innaprop.torch import INNAprop


def backward(model):
    weight = model.weight
    model(torch.ones(2, 3, dtype=weight.dtype, device=weight.device)).sum().backward()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"beta": lambda updates: 0.9 + 0 * updates},
        {"maximize": True, "weight_decay": 0.0},
        {"dtype": torch.bfloat16},
        {"dtype": torch.bfloat16, "residual": False},
    ],
    ids=["plain", "schedule", "maximize", "bfloat16", "no residual"],
)
def test_steps_in_fake_tensor_mode(implementation, options):
    options = dict(options)
    dtype = options.pop("dtype", torch.float32)
    with FakeTensorMode():
        model = torch.nn.Linear(3, 4, dtype=dtype)
        optimizer = INNAprop(model.parameters(), **options, **implementation)
        for _ in range(3):
            backward(model)
            optimizer.step()
            optimizer.zero_grad()
        state = optimizer.state[model.weight]
    assert state["momentum_buffer"].shape == (4, 3)
    assert state["momentum_buffer"].dtype == torch.float32
    assert ("residual" in state) == (dtype == torch.bfloat16 and options.get("residual", True))


def test_a_scaled_step_in_fake_tensor_mode(implementation):
    with FakeTensorMode():
        p = torch.nn.Parameter(torch.ones(3))
        optimizer = INNAprop([p], **implementation)
        optimizer.grad_scale, optimizer.found_inf = torch.tensor(8.0), torch.tensor(0.0)
        p.grad = torch.ones(3)
        optimizer.step()
        assert optimizer.state[p]["exp_avg_sq"].shape == (3,)


@pytest.mark.parametrize("options", [{}, {"foreach": True}, {"foreach": False}])
def test_steps_on_meta(options):
    p = torch.nn.Parameter(torch.ones(3, device="meta"))
    optimizer = INNAprop([p], **options)
    for _ in range(2):
        p.grad = torch.ones(3, device="meta")
        optimizer.step()
    assert optimizer.state[p]["step"] == 2
    assert optimizer.state[p]["exp_avg_sq"].is_meta


@pytest.mark.parametrize("capturable", [False, True])
def test_fused_parameters_may_start_on_meta(capturable):
    """They have to be elsewhere at the first step; until then nothing is made of them."""
    options = {"fused": True, "capturable": capturable}
    p, q = (torch.nn.Parameter(torch.empty(3, device="meta")) for _ in range(2))
    optimizer = INNAprop([p], **options)
    optimizer.add_param_group({"params": [q]})
    message = r"fused=True needs parameters on cpu or cuda at the step, got one on meta; move it"
    here = torch.nn.Parameter(torch.ones(3))
    optimizer.add_param_group({"params": [here]})
    for x in (p, q, here):
        x.grad = torch.ones_like(x)
    with pytest.raises(RuntimeError, match=message):
        optimizer.step()
    assert not optimizer.state
    assert torch.equal(here, torch.ones(3))
    for x in (p, q):
        x.grad = None
        torch.utils.swap_tensors(x, torch.nn.Parameter(torch.ones(3)))
        x.grad = torch.ones(3)
    optimizer.step()
    assert torch.equal(p, here)
    assert (p < 1).all()
