"""Options in a string, as trainers have them, and checks for engines that load by themselves."""

import copy
from types import SimpleNamespace

import pytest
import torch

from innaprop.torch import INNAprop, check_state_dict, optimizer_cls_and_kwargs


def test_the_string_is_read():
    text = "alpha=2, beta=2,sigma = 0.99,eps=1e-6,fused=false,foreach=None,decay_momentum=True"
    assert optimizer_cls_and_kwargs(text) == (
        INNAprop,
        {
            "alpha": 2.0,
            "beta": 2.0,
            "sigma": 0.99,
            "eps": 1e-6,
            "fused": False,
            "foreach": None,
            "decay_momentum": True,
        },
    )
    assert optimizer_cls_and_kwargs() == optimizer_cls_and_kwargs("") == (INNAprop, {})


def test_options_go_before_the_string_and_the_string_before_the_rate():
    arguments = SimpleNamespace(learning_rate=1e-2, optim_args="alpha=1")
    assert optimizer_cls_and_kwargs(arguments)[1] == {"lr": 1e-2, "alpha": 1.0}
    assert optimizer_cls_and_kwargs(arguments, alpha=2)[1] == {"lr": 1e-2, "alpha": 2}
    assert optimizer_cls_and_kwargs(arguments, lr=1e-4)[1] == {"lr": 1e-4, "alpha": 1.0}
    of_string = SimpleNamespace(learning_rate=1e-2, optim_args="lr=1e-3")
    assert optimizer_cls_and_kwargs(of_string)[1] == {"lr": 1e-3}
    arguments = SimpleNamespace(learning_rate=1e-2, optim_args=None)
    assert optimizer_cls_and_kwargs(arguments)[1] == {"lr": 1e-2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("betas=0.9", "optim_args must be name=value with one of lr, alpha, .*got 'betas=0.9'"),
        ("alpha", "got 'alpha'"),
        ("alpha=fast", "alpha in optim_args must be a number, got 'fast'"),
        ("fused=1", "fused in optim_args must be true, false or none, got '1'"),
        ("alpha=-1", "alpha must be a finite number >= 0, got -1.0"),
        ("fused=true,foreach=true", "fused and foreach cannot both be True"),
    ],
)
def test_what_is_wrong_in_it_is_told(text, message):
    with pytest.raises(ValueError, match=message):
        optimizer_cls_and_kwargs(text)


def stepped():
    torch.manual_seed(0)
    model = torch.nn.Linear(2, 1)
    optimizer = INNAprop(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return optimizer


def damaged(where, name, value):
    def damage(state_dict):
        entry = state_dict["state"][0] if where == "state" else state_dict["param_groups"][0]
        entry[name] = value

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        None,
        damaged("state", "exp_avg_sq", torch.full((1, 2), -1.0)),
        damaged("state", "exp_avg_sq", torch.ones(3)),
        damaged("state", "step", torch.tensor(-1.0)),
        damaged("group", "alpha", -1.0),
        lambda state_dict: state_dict["state"][0].pop("momentum_buffer"),
        lambda state_dict: state_dict["param_groups"].pop(),
    ],
)
def test_it_refuses_what_loading_refuses_and_changes_nothing(damage):
    optimizer = stepped()
    state_dict = copy.deepcopy(stepped().state_dict())
    before = copy.deepcopy(optimizer.state_dict())
    if damage is None:
        check_state_dict(optimizer, state_dict)
    else:
        damage(state_dict)
        with pytest.raises(ValueError, match=r"must|got") as of_check:
            check_state_dict(optimizer, state_dict)
        with pytest.raises(ValueError, match=r"must|got") as of_loading:
            optimizer.load_state_dict(state_dict)
        assert str(of_check.value) == str(of_loading.value)
    torch.testing.assert_close(optimizer.state_dict(), before, rtol=0, atol=0)


def test_another_optimizers_state_is_refused():
    p = torch.nn.Parameter(torch.ones(2))
    with pytest.raises(ValueError, match="is this the state dict of another optimizer"):
        check_state_dict(INNAprop([p]), torch.optim.AdamW([p]).state_dict())
