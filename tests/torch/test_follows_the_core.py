import copy
import io

import numpy as np
import pytest
import torch

from innaprop.torch import INNAprop


def optimizer_for(run, parameters, **options):
    h = run.hyperparameters
    return INNAprop(parameters, h.gamma, h.alpha, h.beta, h.sigma, h.eps, h.weight_decay, **options)


def train(run, optimizer, parameter, steps=slice(None), sign=1):
    for updates in range(len(run.gradients))[steps]:
        parameter.grad = sign * torch.tensor(run.gradients[updates], dtype=parameter.dtype)
        for group in optimizer.param_groups:
            group["lr"] = run.schedule(updates)
        optimizer.step()


def parameter_of(run, dtype=torch.float64):
    return torch.nn.Parameter(torch.tensor(run.theta, dtype=dtype))


def test_theta_and_psi_in_float64(run):
    p = parameter_of(run)
    optimizer = optimizer_for(run, [p])
    train(run, optimizer, p)
    assert run.error(p.numpy(force=True)) < 1e-12
    assert run.psi_error(optimizer.psi(p).numpy()) < 1e-12


def test_psi_before_the_first_step_is_the_initial_psi(run):
    p = parameter_of(run)
    h = run.hyperparameters
    psi = optimizer_for(run, [p]).psi(p).numpy()
    np.testing.assert_allclose(psi, (1 - h.alpha * h.beta) * run.theta, rtol=1e-15)


def test_maximize_climbs(run):
    p = parameter_of(run)
    train(run, optimizer_for(run, [p], maximize=True), p, sign=-1)
    assert run.error(p.numpy(force=True)) < 1e-12


def test_a_tensor_learning_rate_is_read_at_every_step(run):
    p = parameter_of(run)
    optimizer = optimizer_for(run, [p])
    lr = torch.tensor(0.0, dtype=torch.float64)
    optimizer.param_groups[0]["lr"] = lr
    for updates, g in enumerate(run.gradients):
        lr.fill_(run.schedule(updates))
        p.grad = torch.tensor(g)
        optimizer.step()
    assert run.error(p.numpy(force=True)) < 1e-12


def test_a_torch_scheduler_drives_it(run):
    p = parameter_of(run)
    optimizer = optimizer_for(run, [p])
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda updates: run.schedule(updates) / run.hyperparameters.gamma
    )
    for g in run.gradients:
        p.grad = torch.tensor(g)
        optimizer.step()
        scheduler.step()
    assert run.error(p.numpy(force=True)) < 1e-12


def test_groups_keep_their_own_options(another_run):
    first, second = another_run(alpha=0.1, beta=0.9), another_run(1, alpha=2.0, beta=2.0)
    p, q = parameter_of(first), parameter_of(second)
    h = second.hyperparameters
    optimizer = optimizer_for(first, [p])
    optimizer.add_param_group({"params": (x for x in [q]), "alpha": h.alpha, "beta": h.beta})
    for updates in range(len(first.gradients)):
        p.grad = torch.tensor(first.gradients[updates])
        q.grad = torch.tensor(second.gradients[updates])
        for group in optimizer.param_groups:
            group["lr"] = first.schedule(updates)
        optimizer.step()
    assert first.error(p.numpy(force=True)) < 1e-12
    assert second.error(q.numpy(force=True)) < 1e-12


def test_a_parameter_without_gradient_stays_as_it_is(run):
    p, idle = parameter_of(run), torch.nn.Parameter(torch.ones(3))
    optimizer = optimizer_for(run, [p, idle])
    train(run, optimizer, p)
    assert torch.equal(idle, torch.ones(3))
    assert idle not in optimizer.state


def test_the_closure_is_evaluated_with_gradients_and_its_loss_returned():
    p = torch.nn.Parameter(torch.ones(2))
    optimizer = INNAprop([p])

    def closure():
        optimizer.zero_grad()
        loss = (p**2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 2.0
    assert (p < 1).all()


def test_training_goes_on_from_a_state_dict_as_if_never_stopped(run):
    p = parameter_of(run)
    optimizer = optimizer_for(run, [p])
    train(run, optimizer, p, slice(0, 30))
    file = io.BytesIO()
    torch.save((p, optimizer.state_dict()), file)
    train(run, optimizer, p, slice(30, None))

    file.seek(0)
    q, saved = torch.load(file, weights_only=False)
    other = INNAprop([q])
    other.load_state_dict(saved)
    train(run, other, q, slice(30, None))
    assert torch.equal(p, q)


def test_a_loaded_state_dict_stays_the_callers(run):
    p = parameter_of(run)
    optimizer = optimizer_for(run, [p])
    train(run, optimizer, p, slice(0, 5))
    saved = optimizer.state_dict()
    before = copy.deepcopy(saved)
    other = optimizer_for(run, [p])
    other.load_state_dict(saved)
    train(run, other, p, slice(5, 10))
    for key, value in before["state"][0].items():
        assert torch.equal(saved["state"][0][key], value), key


def test_the_state_starts_at_zero_so_weights_may_be_loaded_late(run):
    p = torch.nn.Parameter(torch.zeros(5, 3, dtype=torch.float64))
    optimizer = optimizer_for(run, [p])
    with torch.no_grad():
        p.copy_(torch.tensor(run.theta))
    train(run, optimizer, p)
    assert run.error(p.numpy(force=True)) < 1e-12


@pytest.mark.parametrize("shape", [(), (0,), (2, 1, 3, 1, 2)])
def test_any_shape(shape):
    p = torch.nn.Parameter(torch.ones(shape))
    optimizer = INNAprop([p])
    p.grad = torch.ones(shape)
    optimizer.step()
    assert p.shape == shape
    assert (p < 1).all()


def test_non_contiguous_parameters_and_gradients(run):
    p = torch.nn.Parameter(torch.tensor(run.theta.T.copy()).T)
    assert not p.is_contiguous()
    train(run, optimizer_for(run, [p]), p)
    assert run.error(p.numpy(force=True)) < 1e-12
