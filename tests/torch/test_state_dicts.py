"""What may be loaded, what becomes of it, and what is refused with nothing changed."""

import copy
import io
import pickle
import re

import numpy as np
import pytest
import torch

from innaprop.torch import INNAprop
from innaprop_core import algorithm


def trained(**options):
    """Return an optimizer of two groups after three updates, and its parameters."""
    torch.manual_seed(0)
    p, q = torch.nn.Parameter(torch.randn(3)), torch.nn.Parameter(torch.randn(2, 4))
    optimizer = INNAprop([{"params": [p]}, {"params": [q], "lr": 1e-2}], **options)
    step(optimizer, 3)
    return optimizer, p, q


def step(optimizer, times=1):
    for _ in range(times):
        for group in optimizer.param_groups:
            for p in group["params"]:
                p.grad = torch.linspace(-1, 2, p.numel(), dtype=p.dtype).reshape(p.shape)
        optimizer.step()


def weights(optimizer):
    return torch.cat([p.flatten() for g in optimizer.param_groups for p in g["params"]]).clone()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_a_copy_goes_on_alone(implementation, copied):
    optimizer, *_ = trained(**implementation)
    other = copied(optimizer)
    step(other, 2)
    after_copy = weights(other)
    assert not torch.equal(weights(optimizer), after_copy)
    step(optimizer, 2)
    assert torch.equal(weights(optimizer), after_copy)


def test_repr_names_the_options():
    assert re.search(
        r"INNAprop \(.*alpha: 0.1.*beta: 0.9.*lr: 0.001", repr(trained()[0]), re.DOTALL
    )


def test_a_file_of_numpy_options_loads_with_weights_only():
    optimizer, *_ = trained(lr=np.float64(1e-3), alpha=np.float32(0.5))
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    assert saved["param_groups"][0]["alpha"] == 0.5


@pytest.mark.parametrize("later", [{"foreach": True}, {"fused": True}, {"capturable": True}])
def test_another_implementation_goes_on_where_one_stopped(implementation, later):
    straight, *_ = trained(foreach=False)
    optimizer, *_ = trained(**implementation)
    for group in optimizer.param_groups:
        group.update({"foreach": None, "fused": None, "capturable": False, **later})
    step(straight, 3)
    step(optimizer, 3)
    torch.testing.assert_close(weights(optimizer), weights(straight), rtol=1e-6, atol=1e-7)


def test_options_that_an_older_dict_lacks_keep_their_values():
    optimizer, *_ = trained(fused=True, maximize=True)
    saved = optimizer.state_dict()
    for group in saved["param_groups"]:
        for name in ("fused", "maximize", "residual", "sigma"):
            del group[name]
        group["initial_lr"] = 0.5
    other, *_ = trained(fused=True, maximize=True, sigma=0.9)
    other.load_state_dict(saved)
    group = other.param_groups[1]
    assert (group["fused"], group["maximize"], group["sigma"]) == (True, True, 0.9)
    assert (group["lr"], group["initial_lr"]) == (1e-2, 0.5)


def test_schedules_are_the_optimizers_own():
    saved = trained(alpha=lambda k: 0.3)[0].state_dict()
    assert [group["alpha"] for group in saved["param_groups"]] == [None, None]
    scheduled, *_ = trained(alpha=lambda k: 0.7)
    scheduled.load_state_dict(saved)
    assert scheduled.param_groups[0]["alpha"](0) == 0.7
    plain, *_ = trained(alpha=0.5)
    plain.load_state_dict(saved)
    assert plain.param_groups[0]["alpha"] == 0.5


def test_load_hooks_see_and_change_what_is_loaded():
    optimizer, p, _ = trained()
    saved = optimizer.state_dict()
    seen = []

    def halve(self, state_dict):
        state = {i: dict(s) for i, s in state_dict["state"].items()}
        state[0]["exp_avg_sq"] = state[0]["exp_avg_sq"] / 2
        return {**state_dict, "state": state}

    before = optimizer.state[p]["exp_avg_sq"].clone()
    optimizer.register_load_state_dict_pre_hook(halve)
    optimizer.register_load_state_dict_post_hook(
        lambda self: seen.append(self.state[p]["exp_avg_sq"].clone())
    )
    optimizer.load_state_dict(saved)
    assert torch.equal(seen[0], before / 2)
    assert torch.equal(optimizer.state[p]["exp_avg_sq"], before / 2)


def test_step_hooks_run():
    optimizer, *_ = trained()
    calls = []
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    step(optimizer)
    assert calls == ["before", "after"]


@pytest.mark.parametrize("late", [False, True], ids=["weights first", "weights last"])
def test_the_authors_state_goes_on_as_theirs_would(late, implementation):
    """Theirs is Algorithm 1 as printed: let the core print it, in float64."""
    torch.manual_seed(0)
    scalars = {"gamma": 1e-2, "alpha": 0.1, "beta": 0.9}
    scalars |= {"sigma": 0.999, "eps": 1e-8, "weight_decay": 0.01}
    theta = torch.randn(6, dtype=torch.float64)
    psi = algorithm.initial_psi(theta, alpha=0.1, beta=0.9)
    v = torch.zeros_like(theta)
    gradients = torch.randn(20, 6, dtype=torch.float64)
    for k in range(10):
        theta, psi, v = algorithm.step(theta, psi, v, gradients[k], k=k + 1, **scalars)
    saved = {
        "state": {0: {"step": 10, "exp_avg_sq": v.clone(), "psi": psi.clone()}},
        "param_groups": [
            {"params": [0], "lr": 1e-2, **{k: v for k, v in scalars.items() if k != "gamma"}}
        ],
    }
    p = torch.nn.Parameter(torch.zeros(6, dtype=torch.float64) if late else theta.clone())
    optimizer = INNAprop([p], **implementation)
    optimizer.load_state_dict(saved)
    assert torch.equal(optimizer.psi(p), psi)
    p.data.copy_(theta)
    for k in range(10, 20):
        theta, psi, v = algorithm.step(theta, psi, v, gradients[k], k=k + 1, **scalars)
        p.grad = gradients[k].clone()
        optimizer.step()
    torch.testing.assert_close(p.detach(), theta, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(optimizer.psi(p), psi, rtol=1e-12, atol=1e-12)


def of_adamw(saved):
    p, q = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(2, 4))
    other = torch.optim.AdamW([{"params": [p]}, {"params": [q]}])
    step(other)
    return other.state_dict()


def before_its_first_step(saved):
    params = [[torch.nn.Parameter(torch.ones(3))], [torch.nn.Parameter(torch.ones(2, 4))]]
    return torch.optim.AdamW([{"params": group} for group in params], lr=0.5).state_dict()


def without(*path):
    def change(saved):
        inner = saved
        for key in path[:-1]:
            inner = inner[key]
        del inner[path[-1]]
        return saved

    return change


def with_value(value, *path):
    def change(saved):
        inner = saved
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value
        return saved

    return change


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda saved: None, ValueError, "must have the entries 'state' and 'param_groups'"),
        (without("state"), ValueError, "must have the entries 'state' and 'param_groups'"),
        (without("param_groups", 1), ValueError, "groups of the sizes [1, 1], got [1]"),
        (with_value([0, 1], "param_groups", 0, "params"), ValueError, "[1, 1], got [2, 1]"),
        (of_adamw, ValueError, "is this the state dict of another optimizer?"),
        (without("state", 1, "step"), ValueError, "parameter 1 must have step, momentum_buffer"),
        (without("state", 1, "exp_avg_sq"), ValueError, "exp_avg_sq missing, got step, momentum"),
        (
            with_value(torch.ones(4, 2), "state", 1, "exp_avg_sq"),
            ValueError,
            "exp_avg_sq of parameter 1 must be a tensor of shape (2, 4), got (4, 2)",
        ),
        (with_value(3.0, "state", 1, "momentum_buffer"), ValueError, "shape (2, 4), got float"),
        (with_value(-1.0, "param_groups", 1, "alpha"), ValueError, "alpha must be a finite"),
        (with_value("x", "param_groups", 1, "lr"), TypeError, "lr must be a finite number"),
        (with_value(-2.0, "param_groups", 1, "lr"), ValueError, "lr must be a finite number >= 0"),
        (with_value([1], "state"), ValueError, "state must be a dict, got [1]"),
        (with_value(3, "state", 0), ValueError, "state of parameter 0 must be a dict, got 3"),
        (with_value(None, "param_groups"), ValueError, "must be a list of dicts with the entry"),
        (without("param_groups", 0, "params"), ValueError, "must be a list of dicts with the"),
        (before_its_first_step, ValueError, "is this the state dict of another optimizer?"),
        (with_value("abc", "state", 1, "step"), ValueError, "step of parameter 1 must be a number"),
        (with_value(torch.ones(2), "state", 1, "step"), ValueError, "must be a number, got tensor"),
        (with_value(-3, "state", 1, "step"), ValueError, "whole number >= 0, got -3.0"),
        (with_value(1.5, "state", 1, "step"), ValueError, "whole number >= 0, got 1.5"),
        (with_value(float("nan"), "state", 1, "step"), ValueError, "whole number >= 0, got nan"),
        (
            with_value(-torch.ones(2, 4), "state", 1, "exp_avg_sq"),
            ValueError,
            "exp_avg_sq of parameter 1 must not be negative",
        ),
        (
            with_value(torch.ones(2, 4, dtype=torch.complex64), "state", 1, "momentum_buffer"),
            ValueError,
            "momentum_buffer of parameter 1 must be real, got torch.complex64",
        ),
    ],
    ids=[
        "none", "no state", "a group less", "a parameter more", "another optimizer", "no step",
        "truncated", "another shape", "no tensor", "alpha", "lr no number", "lr negative",
        "state no dict", "state of one no dict", "no groups", "no params",
        "AdamW before its first step", "step no number", "step of two", "step negative",
        "step not whole", "step nan", "negative second moment", "complex",
    ],
)  # fmt: skip
def test_a_dict_that_is_not_its_own_is_refused_whole(change, error, message):
    optimizer, *_ = trained()
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(error, match=re.escape(message)):
        optimizer.load_state_dict(change(copy.deepcopy(before)))
    after = optimizer.state_dict()
    assert after["param_groups"] == before["param_groups"]
    for i, state in before["state"].items():
        for name, value in state.items():
            assert torch.equal(after["state"][i][name], value)


def test_state_is_laid_out_like_its_parameter(implementation):
    """Else the fused kernel could not take it."""
    p = torch.nn.Parameter(torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last))
    optimizer = INNAprop([p], **implementation)
    state = {
        "step": torch.tensor(3.0),
        "momentum_buffer": torch.randn(2, 3, 4, 5),
        "exp_avg_sq": torch.rand(2, 3, 4, 5),
    }
    saved = optimizer.state_dict()
    optimizer.load_state_dict({**saved, "state": {0: state}})
    for name in ("momentum_buffer", "exp_avg_sq"):
        assert optimizer.state[p][name].stride() == p.stride()
        assert torch.equal(optimizer.state[p][name], state[name])
