"""Updates in the backward pass: the ordinary step's bits, with one gradient in memory at a time."""

import copy
import gc
import importlib.util
import weakref
from pathlib import Path

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.checkpoint import checkpoint

from innaprop.torch import INNAprop, step_in_backward

_SPEC = importlib.util.spec_from_file_location(
    "gradient_release", Path(__file__).parents[2] / "benchmarks" / "gradient_release.py"
)
gradient_release = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(gradient_release)

STEPS = 6


class Tied(torch.nn.Module):
    """A net with a tied weight, a block that is recomputed, and a part that is not trained."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed = torch.nn.Embedding(11, 8)
        self.block = torch.nn.Sequential(
            torch.nn.Linear(8, 8), torch.nn.Tanh(), torch.nn.Linear(8, 8)
        )
        self.norm = torch.nn.LayerNorm(8)
        self.norm.bias.requires_grad_(False)
        self.head = torch.nn.Linear(8, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x):
        hidden = checkpoint(self.block, self.embed(x), use_reentrant=False)
        return self.head(self.norm(hidden))


def groups(model):
    return [
        {"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": 0.1},
        {
            "params": [p for p in model.parameters() if p.dim() == 1],
            "weight_decay": 0.0,
            "lr": 2e-2,
        },
    ]


def train(model, optimizer, scheduler, steps):
    for step in steps:
        x = torch.randint(11, (4, 5), generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        logits = model(x)
        torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), x.flatten()).backward()
        optimizer.step()
        scheduler.step()


def made(dtype=torch.float32, **options):
    model = Tied().to(dtype)
    optimizer = INNAprop(groups(model), lr=1e-2, **options)
    return model, optimizer, CosineAnnealingLR(optimizer, STEPS)


def assert_same(one, other):
    torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "options",
    [{}, {"foreach": True}, {"foreach": False}, {"alpha": lambda k: 1 / (1 + k)}],
    ids=["kernel", "foreach", "single", "schedule"],
)
def test_it_is_the_ordinary_trajectory_bit_by_bit(options, dtype):
    plain, released = made(dtype, **options), made(dtype, **options)
    step_in_backward(*released[:2])
    for each in (plain, released):
        train(*each, range(STEPS))
    assert_same(dict(released[0].state_dict()), dict(plain[0].state_dict()))
    assert_same(released[1].state_dict(), plain[1].state_dict())
    assert released[2].state_dict() == plain[2].state_dict()
    moved = [p.is_leaf and p in released[1].state for p in released[0].parameters()]
    assert moved.count(False) == 1


def test_a_state_dict_goes_on_in_either_way():
    whole = made()
    train(*whole, range(STEPS))
    stopped = made()
    step_in_backward(*stopped[:2])
    train(*stopped, range(STEPS // 2))
    for releases in (False, True):
        resumed = made()
        for of_resumed, of_stopped in zip(resumed, stopped, strict=True):
            of_resumed.load_state_dict(copy.deepcopy(of_stopped.state_dict()))
        if releases:
            step_in_backward(*resumed[:2])
        train(*resumed, range(STEPS // 2, STEPS))
        assert_same(dict(resumed[0].state_dict()), dict(whole[0].state_dict()))


def test_one_gradient_is_in_memory_at_a_time():
    model, optimizer, _ = made()
    step_in_backward(model, optimizer)
    alive = []
    for p in model.parameters():
        if p.requires_grad:
            p.register_post_accumulate_grad_hook(
                lambda _: alive.append(sum(q.grad is not None for q in model.parameters()))
            )
    model(torch.arange(5)).sum().backward()
    # Hooks that are registered later run later.
    assert set(alive) == {0}


def test_once_removed_the_step_makes_the_updates():
    model, optimizer, scheduler = made()
    with step_in_backward(model, optimizer):
        train(model, optimizer, scheduler, range(1))
    before = copy.deepcopy(model.state_dict())
    model(torch.arange(5)).sum().backward()
    assert_same(dict(model.state_dict()), dict(before))
    optimizer.step()
    assert not torch.equal(model.embed.weight, before["embed.weight"])
    assert {int(state["step"]) for state in optimizer.state.values()} == {2}


def test_what_is_added_later_is_updated_by_the_step():
    model, optimizer, _ = made()
    step_in_backward(model, optimizer)
    extra = torch.nn.Parameter(torch.ones(8))
    optimizer.add_param_group({"params": [extra]})
    (model(torch.arange(5)).sum() + extra.sum()).backward()
    assert extra.grad is not None
    assert extra not in optimizer.state
    optimizer.step()
    assert {int(state["step"]) for state in optimizer.state.values()} == {1}


def test_what_is_refused_is_refused_by_backward_and_changes_nothing():
    model, optimizer, _ = made()
    step_in_backward(model, optimizer)
    optimizer.param_groups[0]["lr"] = 0.9
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="lr must be smaller than beta"):
        model(torch.arange(5)).sum().backward()
    assert_same(dict(model.state_dict()), dict(before))
    assert not optimizer.state


def test_misuse_is_told():
    model = torch.nn.Linear(2, 1)
    with pytest.raises(TypeError, match=r"optimizer must be an innaprop\.torch\.INNAprop"):
        step_in_backward(model, torch.optim.SGD(model.parameters()))
    with pytest.raises(ValueError, match="optimizer must hold parameters of the model"):
        step_in_backward(torch.nn.Linear(2, 1), INNAprop(model.parameters()))


@pytest.mark.parametrize("name", ["DistributedDataParallel", "FullyShardedDataParallel"])
def test_wrappers_that_are_not_done_with_a_gradient_are_refused(name):
    model = torch.nn.Linear(2, 1)
    wrapper = type(name, (torch.nn.Module,), {})()
    wrapper.module = model
    with pytest.raises(RuntimeError, match=f"model must not contain a {name}"):
        step_in_backward(wrapper, INNAprop(model.parameters()))


@pytest.mark.parametrize("name", ["AdamW", "INNAprop"])
def test_the_peak_has_all_gradients_less_but_the_largest(name):
    gradients = gradient_release.parameter_bytes()
    largest = gradient_release.largest_parameter_bytes()
    kept, released = (
        gradient_release.peak(f"{name}{how}") for how in ("", " in the backward pass")
    )
    # Two at a time: a gradient is made before the one after it in the chain is freed.
    assert kept - released >= gradients - 2 * largest - 0.02 * gradients


def trained(model=None):
    """Return a model and the handle of an optimizer that nobody else holds, after a step."""
    model = model or torch.nn.Linear(4, 3)
    handle = step_in_backward(model, INNAprop(model.parameters(), lr=1e-2))
    model(torch.ones(2, 4)).sum().backward()
    return model, handle


def test_a_model_that_nobody_holds_is_freed():
    model, handle = trained()
    parameter = weakref.ref(model.weight)
    del model, handle
    gc.collect()
    assert parameter() is None


def test_the_model_keeps_its_optimizer():
    model, handle = trained()
    del handle
    gc.collect()
    before = model.weight.detach().clone()
    model(torch.ones(2, 4)).sum().backward()
    assert (model.weight != before).all()


def test_the_optimizer_keeps_updating_what_a_passing_module_held():
    layer = torch.nn.Linear(4, 3)
    optimizer = INNAprop(layer.parameters(), lr=1e-2)
    step_in_backward(torch.nn.ModuleList([layer]), optimizer)
    gc.collect()
    before = layer.weight.detach().clone()
    layer(torch.ones(2, 4)).sum().backward()
    assert (layer.weight != before).all()
    assert optimizer.state[layer.weight]["step"] == 1


def test_parameters_without_model_and_optimizer_are_not_left_without_updates_silently():
    model, handle = trained()
    weight = model.weight
    del model, handle
    gc.collect()
    with pytest.raises(RuntimeError, match="the optimizer and the model have been deleted"):
        weight.sum().backward()


def test_what_is_removed_holds_nothing():
    model = torch.nn.Linear(4, 3)
    optimizer = INNAprop(model.parameters(), lr=1e-2)
    for _ in range(3):
        with step_in_backward(model, optimizer):
            model(torch.ones(2, 4)).sum().backward()
    assert optimizer._in_backward == []
    assert optimizer.state[model.weight]["step"] == 3
