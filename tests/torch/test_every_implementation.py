"""What holds in each implementation alike."""

import math

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from innaprop.torch import INNAprop


def optimizer_for(run, parameters, **options):
    h = run.hyperparameters
    return INNAprop(parameters, h.gamma, h.alpha, h.beta, h.sigma, h.eps, h.weight_decay, **options)


def follow(run, optimizer, parameter):
    for updates, g in enumerate(run.gradients):
        parameter.grad = torch.tensor(g, dtype=parameter.dtype)
        optimizer.param_groups[0]["lr"] = run.schedule(updates)
        optimizer.step()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_follows_the_core(run, implementation, dtype, tolerance):
    p = torch.nn.Parameter(torch.tensor(run.theta, dtype=dtype))
    optimizer = optimizer_for(run, [p], **implementation)
    follow(run, optimizer, p)
    assert run.error(p.numpy(force=True)) < tolerance
    assert run.psi_error(optimizer.psi(p).numpy()) < tolerance


@pytest.mark.parametrize("sigma", [0.0, 0.3])
def test_a_short_memory_forgets_a_large_gradient(implementation, sigma):
    p = torch.nn.Parameter(torch.zeros(3))
    optimizer = INNAprop([p], sigma=sigma, eps=0.0, weight_decay=0.0, **implementation)
    for size in (1e4, 1e-2, 1e-2, 1e-2):
        p.grad = torch.full((3,), size)
        optimizer.step()
    v = sum((1 - sigma) * sigma**age * 1e-4 for age in range(3)) + (1 - sigma) * sigma**3 * 1e8
    np.testing.assert_allclose(optimizer.state[p]["exp_avg_sq"].numpy(), v, rtol=1e-4)


def test_all_layouts_shapes_and_dtypes_in_one_group(implementation):
    """Each is what it is alone: a flat float64 parameter of the same numbers."""
    torch.manual_seed(0)
    kinds = {
        "0-d": torch.randn(()),
        "empty": torch.randn(0, 3),
        "transposed": torch.randn(4, 3).T,
        "channels last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "strided": torch.randn(6, 4)[:, ::2],
        "expanded twin": torch.randn(5, 1).expand(5, 1),
        "large": torch.randn(300, 700),
        "double": torch.randn(7, dtype=torch.float64),
    }
    params = {
        name: torch.nn.Parameter(value.clone(memory_format=torch.preserve_format))
        for name, value in kinds.items()
    }
    params["strided"] = torch.nn.Parameter(torch.randn(6, 4)[:, ::2])
    alone = {name: torch.nn.Parameter(p.detach().double().flatten()) for name, p in params.items()}
    optimizer = INNAprop(params.values(), lr=1e-2, **implementation)
    reference = INNAprop(alone.values(), lr=1e-2, foreach=False)
    for _ in range(10):
        for name, p in params.items():
            gradient = torch.randn(p.shape, dtype=p.dtype)
            if name == "channels last":
                gradient = gradient.contiguous()
            p.grad = gradient
            alone[name].grad = gradient.double().flatten()
        optimizer.step()
        reference.step()
    for name, p in params.items():
        torch.testing.assert_close(
            p.detach().double().flatten(), alone[name].detach(), rtol=1e-5, atol=1e-6, msg=name
        )


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_complex_parameters_are_two_reals(dtype):
    for implementation in ({"foreach": False}, {"foreach": True}):
        torch.manual_seed(0)
        z = torch.nn.Parameter(torch.randn(5, dtype=dtype))
        x = torch.nn.Parameter(torch.view_as_real(z.detach()).clone())
        both = INNAprop([z], lr=1e-2, **implementation), INNAprop([x], lr=1e-2, foreach=False)
        for _ in range(5):
            z.grad = torch.randn(5, dtype=dtype)
            x.grad = torch.view_as_real(z.grad).clone()
            for optimizer in both:
                optimizer.step()
        torch.testing.assert_close(torch.view_as_real(z.detach()), x.detach())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_no_number_spoils_its_element_as_in_adamw(implementation, value):
    ours, theirs = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    optimizers = INNAprop([ours], **implementation), torch.optim.AdamW([theirs])
    for gradient in ([1.0, value, 1.0], [1.0, 1.0, 1.0]):
        for p, optimizer in zip((ours, theirs), optimizers, strict=True):
            p.grad = torch.tensor(gradient)
            optimizer.step()
    assert ours.isnan().tolist() == theirs.isnan().tolist() == [False, True, False]


def test_schedules_of_alpha_and_beta(implementation):
    """By hand: each update with the numbers of that update."""
    p, q = (torch.nn.Parameter(torch.ones(4, dtype=torch.float64)) for _ in range(2))
    seen = []

    def alpha(updates):
        seen.append(int(updates))
        return 0.1 + 0.01 * updates

    scheduled = INNAprop(
        [{"params": [p], "beta": lambda k: 0.9 + 0.02 * k}], alpha=alpha, **implementation
    )
    by_hand = INNAprop([q], foreach=False)
    for k in range(10):
        p.grad = q.grad = torch.linspace(-1, 2, 4, dtype=torch.float64)
        scheduled.step()
        by_hand.param_groups[0].update(alpha=0.1 + 0.01 * k, beta=0.9 + 0.02 * k)
        by_hand.step()
    torch.testing.assert_close(p, q, rtol=1e-12, atol=0)
    assert sorted(set(seen)) == list(range(10))
    torch.testing.assert_close(scheduled.psi(p), by_hand.psi(q), rtol=1e-12, atol=0)


def test_a_change_of_alpha_and_beta_does_not_kick_the_parameter(implementation):
    p = torch.nn.Parameter(torch.full((3,), 100.0, dtype=torch.float64))
    optimizer = INNAprop([p], lr=1e-3, weight_decay=0.0, **implementation)
    for k in range(4):
        optimizer.param_groups[0].update(alpha=(0.1, 2.0)[k % 2], beta=(0.9, 2.0)[k % 2])
        before = p.detach().clone()
        p.grad = torch.ones(3, dtype=torch.float64)
        optimizer.step()
        assert (p - before).abs().max() < 1e-2


def test_parameters_take_turns_in_having_gradients(another_run, implementation):
    """Each counts its own updates, and a plan for one set of them is no other's."""
    first, second = another_run(), another_run(1)
    p, q = (torch.nn.Parameter(torch.tensor(r.theta)) for r in (first, second))
    optimizer = optimizer_for(first, [p, q], **implementation)
    for updates in range(len(first.gradients)):
        optimizer.param_groups[0]["lr"] = first.schedule(updates)
        for r, active, idle in ((first, p, q), (second, q, p)):
            active.grad, idle.grad = torch.tensor(r.gradients[updates]), None
            optimizer.step()
    assert first.error(p.numpy(force=True)) < 1e-12
    assert second.error(q.numpy(force=True)) < 1e-12


def test_a_parameter_listed_twice_is_updated_once(implementation):
    """PyTorch warns of it, and its three AdamWs go three ways."""
    p, q, r = (torch.nn.Parameter(torch.ones(3)) for _ in range(3))
    with pytest.warns(UserWarning, match="duplicate parameters"):
        optimizer = INNAprop([p, r, p], **implementation)
    other = INNAprop([q], **implementation)
    for size in (1.0, 2.0, -1.0):
        for x in (p, q, r):
            x.grad = torch.full((3,), size)
        optimizer.step()
        other.step()
    assert torch.equal(p, q)
    assert torch.equal(r, q)
    assert optimizer.state[p]["step"] == 3
    optimizer.load_state_dict(optimizer.state_dict())
    assert optimizer.state[p]["step"] == 3


@pytest.mark.parametrize("kind", [torch.float64, torch.float32, int])
def test_updates_are_counted_beyond_what_float32_holds(implementation, kind):
    """From a state dict of any age: counts were float32 once."""
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = INNAprop([p], **implementation)
    p.grad = torch.ones(3)
    optimizer.step()
    saved = optimizer.state_dict()
    count = 2**24
    step = count if kind is int else torch.tensor(float(count), dtype=kind)
    saved["state"][0] = {**saved["state"][0], "step": step}
    optimizer.load_state_dict(saved)
    for _ in range(3):
        optimizer.step()
    assert optimizer.state[p]["step"].item() == count + 3


def test_memory_given_anew_is_used(run, implementation):
    """A parameter's data, its layout, state and counts may be replaced between steps."""
    p = torch.nn.Parameter(torch.tensor(run.theta))
    optimizer = optimizer_for(run, [p], **implementation)
    for updates, g in enumerate(run.gradients):
        optimizer.param_groups[0]["lr"] = run.schedule(updates)
        p.grad = torch.tensor(g)
        optimizer.step()
        state = optimizer.state[p]
        if updates % 4 == 0:
            p.data = p.data.clone()
        elif updates % 4 == 1:
            p.data = p.data.T.contiguous().T
        elif updates % 4 == 2:
            state["exp_avg_sq"] = state["exp_avg_sq"].clone()
            state["step"] = state["step"].clone()
        else:
            optimizer.state[p] = {key: value.clone() for key, value in state.items()}
    assert run.error(p.numpy(force=True)) < 1e-12


def test_autograd_knows_that_the_parameter_was_written(implementation):
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = INNAprop([p], **implementation)
    loss = (p**2).sum()
    p.grad = torch.ones(3)
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_compiled_whole_and_once_for_all_learning_rates(run):
    torch.compiler.reset()
    p = torch.nn.Parameter(torch.tensor(run.theta))
    optimizer = optimizer_for(run, [p])
    lr = optimizer.param_groups[0]["lr"] = torch.tensor(0.0, dtype=torch.float64)
    graphs = []

    def backend(module, inputs):
        graphs.append(module)
        return module.forward

    step = torch.compile(optimizer.step, fullgraph=True, backend=backend)
    for updates, g in enumerate(run.gradients):
        p.grad = torch.tensor(g)
        lr.fill_(run.schedule(updates))
        step()
    assert run.error(p.numpy(force=True)) < 1e-12
    assert len(graphs) == 2  # the first step, which makes the state, and all others


def test_gradients_can_be_released_as_soon_as_they_are_there(another_run):
    """A step inside backward: one optimizer per parameter, by torch's own hook."""
    run = another_run()
    p = torch.nn.Parameter(torch.tensor(run.theta))
    optimizer = optimizer_for(run, [p], fused=True)

    def release(parameter):
        optimizer.step()
        parameter.grad = None

    p.register_post_accumulate_grad_hook(release)
    for updates, g in enumerate(run.gradients):
        optimizer.param_groups[0]["lr"] = run.schedule(updates)
        (p * torch.tensor(g)).sum().backward()
        assert p.grad is None
    assert run.error(p.numpy(force=True)) < 1e-12


def test_parameters_that_do_not_fit_the_cache_together(implementation):
    torch.manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(50_000)) for _ in range(5)]
    start = [p.detach().double() for p in params]
    optimizer = INNAprop(params, lr=1e-2, weight_decay=0.0, **implementation)
    for p in params:
        p.grad = torch.ones_like(p)
    optimizer.step()
    for p, before in zip(params, start, strict=True):
        # The first step is gamma beta long.
        expected = before - 1e-2 * 0.9
        torch.testing.assert_close(p.detach().double(), expected, rtol=1e-6, atol=1e-6)


class Reads(TorchDispatchMode):
    """Keeps the tensors that a number is read off, for which a GPU's host would wait."""

    def __init__(self):
        super().__init__()
        self.of = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._local_scalar_dense.default:
            self.of.append(args[0])
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("beta", [0.9, lambda k: 0.9 + 0 * k])
def test_capturable_reads_nothing_off_the_device(foreach, beta):
    p = torch.nn.Parameter(torch.ones(3))
    rate = torch.tensor(1e-2)
    optimizer = INNAprop([p], lr=rate, beta=beta, capturable=True, foreach=foreach)
    p.grad = torch.ones(3)
    with Reads() as reads:
        optimizer.step()
        optimizer.step()
    # The learning rate is checked, where it is not on a GPU.
    assert all(tensor is rate for tensor in reads.of)
