"""Every misuse has an error that names what was given, and changes nothing."""

import copy
import re

import pytest
import torch

from innaprop.torch import INNAprop


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"lr": -1e-3}, ValueError, "lr must be a finite number >= 0, got -0.001"),
        ({"lr": float("nan")}, ValueError, "lr must be a finite number >= 0, got nan"),
        ({"lr": "fast"}, TypeError, "lr must be a finite number >= 0, got 'fast' of type str"),
        ({"lr": torch.tensor(-2.0)}, ValueError, "lr must be a finite number >= 0, got -2.0"),
        ({"lr": torch.ones(2)}, ValueError, "lr must be a float or a tensor of one element"),
        ({"alpha": -0.1}, ValueError, "alpha must be a finite number >= 0, got -0.1"),
        ({"beta": 0.0}, ValueError, "beta must be a finite number > 0, got 0.0"),
        ({"sigma": 1.0}, ValueError, "sigma must be a number in [0, 1), got 1.0"),
        ({"eps": -1e-8}, ValueError, "eps must be a finite number >= 0, got -1e-08"),
        ({"weight_decay": float("inf")}, ValueError, "weight_decay must be a finite number >= 0"),
        ({"maximize": 1}, TypeError, "maximize must be True or False, got 1"),
        ({"fused": "yes"}, TypeError, "fused must be True, False or None, got 'yes'"),
        ({"fused": True, "foreach": True}, ValueError, "fused and foreach cannot both be True"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_options(options, error, message):
    p = torch.nn.Parameter(torch.ones(2))
    with pytest.raises(error, match=re.escape(message)):
        INNAprop([p], **options)

    optimizer = INNAprop([p])
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(error, match=re.escape(message)):
        optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))], **options})
    assert optimizer.state_dict() == before


@pytest.mark.parametrize("dtype", [torch.int32, torch.float8_e4m3fn])
def test_dtypes_of_parameters(dtype):
    parameter = torch.nn.Parameter(torch.ones(2).to(dtype), requires_grad=False)
    with pytest.raises(TypeError, match=f"params must be float32.*got a parameter of {dtype}"):
        INNAprop([parameter])
    with pytest.raises(TypeError, match=str(dtype)):
        INNAprop([("named", parameter)])


def two_steps_in():
    """Return an optimizer of two groups, one step done and the next gradients in place."""
    p, q = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(3, 2))
    optimizer = INNAprop([{"params": [p]}, {"params": [q]}])
    p.grad, q.grad = torch.ones(2), torch.ones(3, 2)
    optimizer.step()
    return optimizer, p, q


def assert_step_refused(optimizer, error, message):
    parameters = [p.clone() for group in optimizer.param_groups for p in group["params"]]
    state = copy.deepcopy(optimizer.state_dict()["state"])
    with pytest.raises(error, match=re.escape(message)):
        optimizer.step()
    for group, before in zip(optimizer.param_groups, parameters, strict=True):
        assert torch.equal(group["params"][0], before)
    for i, values in optimizer.state_dict()["state"].items():
        for key, value in values.items():
            assert torch.equal(value, state[i][key])


def test_an_option_that_has_become_nan():
    optimizer, *_ = two_steps_in()
    optimizer.param_groups[1]["alpha"] = float("nan")
    assert_step_refused(optimizer, ValueError, "alpha must be a finite number >= 0, got nan")


def test_a_sparse_gradient():
    optimizer, _, q = two_steps_in()
    q.grad = torch.ones(3, 2).to_sparse()
    message = (
        "INNAprop needs dense gradients, got one of layout torch.sparse_coo; build the embedding "
        "with sparse=False, or give its parameters to torch.optim.SparseAdam"
    )
    assert_step_refused(optimizer, RuntimeError, message)


def test_a_schedule_that_gives_what_is_out_of_range():
    optimizer, *_ = two_steps_in()
    optimizer.param_groups[1]["alpha"] = lambda k: -1.0 - k
    assert_step_refused(optimizer, ValueError, "alpha must be a finite number >= 0, got -2.0")


def test_what_no_fused_kernel_takes():
    z = torch.nn.Parameter(torch.ones(2, dtype=torch.complex64))
    with pytest.raises(RuntimeError, match=r"real parameters on cpu or cuda, got one of torch\.c"):
        INNAprop([z], fused=True)


@pytest.mark.parametrize("lost", ["step", "momentum_buffer", "exp_avg_sq"])
def test_half_a_state(lost):
    """Zeros in its place would forget without a word what had been learnt."""
    optimizer, _, q = two_steps_in()
    del optimizer.state[q][lost]
    message = "state of a parameter must have step, momentum_buffer and exp_avg_sq, or none of them"
    assert_step_refused(optimizer, ValueError, message)


def test_psi_of_a_stranger():
    optimizer, *_ = two_steps_in()
    with pytest.raises(ValueError, match=re.escape("got a tensor of shape (4,) that it does not")):
        optimizer.psi(torch.ones(4))
