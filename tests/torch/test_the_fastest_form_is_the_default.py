"""Without an option a kernel does the work where there is one, and foreach where there is none."""

import warnings

import pytest
import torch

from innaprop.forms import c, foreach, single_tensor
from innaprop.torch import INNAprop

SHAPES = [(5,), (37, 41), (), (0,), (1025,)]


def optimizers(shapes=SHAPES, dtype=torch.float32, **options):
    """Optimizers of equal parameters: as asked for, and one tensor at a time."""
    torch.manual_seed(0)
    start = [torch.randn(shape).to(dtype) for shape in shapes]
    both = [[torch.nn.Parameter(p.clone()) for p in start] for _ in range(2)]
    return both, [INNAprop(both[0], **options), INNAprop(both[1], foreach=False)]


def give(both, chosen=None):
    for i, (p, q) in enumerate(zip(*both, strict=True)):
        p.grad = None if chosen is not None and i not in chosen else torch.randn_like(p)
        q.grad = None if p.grad is None else p.grad.clone()


def step(both, optimizers_, times=1, chosen=lambda k: None):
    for k in range(times):
        give(both, chosen(k))
        for optimizer in optimizers_:
            optimizer.step()


def forms(optimizer):
    return {call.form for call in optimizer._plan.calls}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, c),
        ({"fused": True}, c),
        ({"fused": False}, single_tensor),
        ({"foreach": True}, foreach),
        ({"foreach": False}, single_tensor),
        ({"fused": True, "foreach": False}, c),
        ({"fused": False, "foreach": True}, foreach),
    ],
)
def test_which_form_does_it(options, expected):
    both, pair = optimizers(**options)
    step(both, pair)
    assert forms(pair[0]) == {expected}


@pytest.mark.parametrize("fused", [None, True])
def test_without_a_kernel_foreach_does_it_and_only_who_asked_is_warned(monkeypatch, fused):
    monkeypatch.setattr(c, "load", lambda: f"there is no compiler, {fused}")
    both, pair = optimizers(fused=fused)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        step(both, pair, 2)
    assert forms(pair[0]) == {foreach}
    told = [str(w.message) for w in caught]
    asked = f"INNAprop uses foreach=True instead of fused=True: there is no compiler, {fused}"
    assert told == ([asked] if fused else [])
    for p, q in zip(*both, strict=True):
        torch.testing.assert_close(p, q)


@pytest.mark.parametrize("fused", [None, True])
def test_a_grad_scaler_leaves_its_work_to_a_kernel_that_was_asked_for(monkeypatch, fused):
    _, (optimizer, other) = optimizers(fused=fused)
    assert optimizer._step_supports_amp_scaling is bool(fused)
    assert not other._step_supports_amp_scaling
    monkeypatch.setattr(c, "load", lambda: "there is no compiler")
    assert not optimizer._step_supports_amp_scaling


def test_a_negative_view_moves_the_right_way():
    negative = torch._neg_view(torch.full((4,), -1.0))
    p, q = torch.nn.Parameter(negative), torch.nn.Parameter(torch.ones(4))
    assert p.is_neg()
    for parameter in (p, q):
        parameter.grad = torch.ones(4)
        INNAprop([parameter], lr=0.1, fused=True).step()
    torch.testing.assert_close(p.resolve_neg(), q)
    assert (q < 1).all()


def test_rows_that_the_kernel_cannot_take_are_updated_beside_the_others():
    both, pair = optimizers()
    strided = torch.nn.Parameter(torch.randn(4, 6)[:, ::2])
    twin = torch.nn.Parameter(strided.detach().clone())
    for optimizer, parameter in zip(pair, (strided, twin), strict=True):
        optimizer.add_param_group({"params": [parameter]})
    for _ in range(3):
        give(both)
        strided.grad = torch.randn(4, 3)
        twin.grad = strided.grad.clone()
        for optimizer in pair:
            optimizer.step()
    assert forms(pair[0]) == {c, single_tensor}
    for p, q in zip([*both[0], strided], [*both[1], twin], strict=True):
        torch.testing.assert_close(p, q)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_set_of_parameters_that_changes_at_every_step(dtype):
    """As with LayerDrop, or in a mixture of experts: every parameter keeps its own count."""
    both, pair = optimizers([(7,)] * 40, dtype)
    torch.manual_seed(1)
    chosen = [set(torch.randperm(40)[: 5 + k % 30].tolist()) for k in range(30)]
    step(both, pair, 30, lambda k: chosen[k])
    assert len({float(pair[0].state[p]["step"]) for p in both[0]}) > 5
    for p, q in zip(*both, strict=True):
        torch.testing.assert_close(pair[0].master_weights(p), pair[1].master_weights(q))
        assert pair[0].state[p]["step"] == pair[1].state[q]["step"]


def test_only_rows_that_have_changed_are_looked_at_again(monkeypatch):
    both, pair = optimizers([(7,)] * 40)
    step(both, pair, 3)
    looked_at = []
    complete = INNAprop._complete_state
    monkeypatch.setattr(
        INNAprop,
        "_complete_state",
        lambda self, p, group: looked_at.append(p) or complete(self, p, group),
    )
    give(both)
    both[0][3].data = both[0][3].data.clone()
    both[0][5].grad = None
    pair[0].step()
    assert [id(p) for p in looked_at] == [id(both[0][3])]
