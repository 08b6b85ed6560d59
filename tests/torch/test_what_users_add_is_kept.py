"""Entries, hooks and notes that are not the optimizer's own pass through it, as through AdamW."""

import copy
import pickle

import pytest
import torch

from innaprop.torch import INNAprop


def trained(optimizer_class=INNAprop, dtype=torch.float32, **options):
    """Return an optimizer after two updates, and its parameter."""
    p = torch.nn.Parameter(torch.ones(3, dtype=dtype))
    optimizer = optimizer_class([p], **options)
    step(optimizer, p, 2)
    return optimizer, p


def step(optimizer, p, times=1):
    for _ in range(times):
        p.grad = torch.ones_like(p)
        optimizer.step()


def test_a_note_in_the_state(implementation):
    optimizer, p = trained(**implementation)
    optimizer.state["note"] = 1
    saved = optimizer.state_dict()
    assert saved["state"]["note"] == 1
    other, q = trained(**implementation)
    other.load_state_dict(saved)
    assert other.state["note"] == 1
    step(other, q)
    step(optimizer, p)
    assert torch.equal(p, q)


@pytest.mark.parametrize("prepend", [False, True])
def test_a_hook_that_wraps_the_dict(prepend):
    optimizer, _ = trained(alpha=lambda k: 0.1)
    optimizer.register_state_dict_post_hook(lambda _, saved: {"wrapped": saved}, prepend=prepend)
    optimizer.register_load_state_dict_pre_hook(lambda _, saved: saved["wrapped"])
    saved = optimizer.state_dict()
    assert saved.keys() == {"wrapped"}
    assert saved["wrapped"]["param_groups"][0]["alpha"] is None
    optimizer.load_state_dict(saved)


def test_a_hook_sees_schedules_as_they_are_saved():
    """Whatever it writes in their place stays."""
    optimizer, _ = trained(beta=lambda k: 0.9)
    seen = []

    def mark(_, saved):
        seen.append(saved["param_groups"][0]["beta"])
        saved["param_groups"][0]["beta"] = 0.5

    optimizer.register_state_dict_post_hook(mark)
    assert optimizer.state_dict()["param_groups"][0]["beta"] == 0.5
    assert optimizer.state_dict()["param_groups"][0]["beta"] == 0.5
    assert seen == [None, None]
    assert len(optimizer._optimizer_state_dict_post_hooks) == 1


ENTRIES = {
    "integer": 3,
    "string": "abc",
    "nothing": None,
    "list": [1, torch.arange(2)],
    "dict": {"inner": torch.ones(2, dtype=torch.float64)},
    "tensor": torch.linspace(0, 1, 5, dtype=torch.float64),
    "whole": torch.arange(3),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64])
def test_entries_of_a_parameter(dtype):
    """Loaded as the base class loads them for AdamW, but for strings, which it spoils."""
    (ours, p), (theirs, q) = trained(dtype=dtype), trained(torch.optim.AdamW, dtype=dtype)
    for optimizer, x in ((ours, p), (theirs, q)):
        optimizer.state[x].update(copy.deepcopy(ENTRIES))
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert ours.state[p]["string"] == "abc"
    for name in ENTRIES.keys() - {"string"}:
        torch.testing.assert_close(ours.state[p][name], theirs.state[q][name], rtol=0, atol=0)
    step(ours, p)
    assert ours.state[p]["integer"] == 3


def test_loaded_entries_are_copies():
    optimizer, p = trained()
    saved = optimizer.state_dict()
    saved["state"][0] = {**saved["state"][0], "mine": torch.ones(2), "list": [torch.ones(2)]}
    optimizer.load_state_dict(saved)
    optimizer.state[p]["mine"].zero_()
    optimizer.state[p]["list"][0].zero_()
    assert saved["state"][0]["mine"].all()
    assert saved["state"][0]["list"][0].all()


def test_an_entry_that_was_there_before_the_first_step(implementation):
    (p, q), plain = (torch.nn.Parameter(torch.ones(3)) for _ in range(2)), {**implementation}
    optimizer, other = INNAprop([p], **plain), INNAprop([q], **plain)
    optimizer.state[p]["mine"] = 3
    assert torch.equal(optimizer.psi(p), other.psi(q))
    optimizer.load_state_dict(optimizer.state_dict())
    for one, x in ((optimizer, p), (other, q)):
        step(one, x)
    assert optimizer.state[p]["mine"] == 3
    assert torch.equal(p, q)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_copies_of_the_optimizer_have_them_too(copied):
    optimizer, _ = trained()
    optimizer.state["note"] = 1
    optimizer.state[optimizer.param_groups[0]["params"][0]]["mine"] = "abc"
    other = copied(optimizer)
    (q,) = other.param_groups[0]["params"]
    assert (other.state["note"], other.state[q]["mine"]) == (1, "abc")
    step(other, q)
    assert other.state_dict()["state"][0]["step"] == 3


def test_compiled_steps_leave_them_alone():
    torch.compiler.reset()
    optimizer, p = trained(dtype=torch.bfloat16)
    optimizer.state["note"] = 1
    optimizer.state[p].update(mine=3, name="abc", extra=torch.ones(2))
    graphs = []

    def backend(module, inputs):
        graphs.append(module)
        return module.forward

    compiled = torch.compile(optimizer.step, fullgraph=True, backend=backend)
    for _ in range(3):
        p.grad = torch.ones_like(p)
        compiled()
    assert len(graphs) == 1
    assert optimizer.state[p]["step"] == 5
    assert (optimizer.state["note"], optimizer.state[p]["mine"]) == (1, 3)
