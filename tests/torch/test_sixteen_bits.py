"""A 16-bit parameter and its residual are the float32 trajectory."""

import copy

import numpy as np
import pytest
import torch

from innaprop.forms.foreach import join, split
from innaprop.torch import INNAprop
from innaprop_core import Hyperparameters, trajectory

IMPLEMENTATIONS = [{"foreach": False}, {"foreach": True}, {"fused": True}]


def test_bfloat16_and_residual_hold_every_float32():
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, size=200_000, dtype=np.uint32)
    edges = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF, 0x10000, 0x7F7FFFFF], np.uint32)
    bits = np.concatenate([bits, edges, edges | 0x80000000])
    values = torch.from_numpy(bits.view(np.float32).copy())
    # Above this, bfloat16 has infinity only.
    values = values[values.abs() < 3.3961775292304957e38]
    parameter, residual = split(values, torch.bfloat16)
    assert torch.equal(join(parameter, residual).view(torch.int32), values.view(torch.int32))
    nearest = values.bfloat16().float()
    assert ((parameter.float() - values).abs() <= (nearest - values).abs()).all()


def test_float16_and_residual_hold_float32_in_its_range():
    rng = np.random.default_rng(0)
    values = torch.from_numpy(
        (rng.normal(size=200_000) * 10.0 ** rng.uniform(-4, 4, 200_000)).astype(np.float32)
    )
    values = values[(values.abs() > 6.2e-5) & (values.abs() < 65000)]
    parameter, residual = split(values, torch.float16)
    assert torch.equal(parameter, values.half())
    error = (join(parameter, residual) - values).abs()
    assert (error > 0).float().mean() < 1e-3  # exact halves, whose residual is one unit short
    assert (error <= 2.0**-24 * values.abs()).all()
    tiny = torch.linspace(-6e-5, 6e-5, 1001)
    assert (join(*split(tiny, torch.float16)) - tiny).abs().max() < 1e-12


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_stays_so(dtype, value):
    joined = join(*split(torch.tensor([value], dtype=torch.float32), dtype))
    np.testing.assert_array_equal(joined.numpy(), [value])


def errors(lr, dtype, options, steps=3000, n=200):
    """Return error over distance: parameter and residual, float32's floor; parameter, best."""
    rng = np.random.default_rng(0)
    start = torch.tensor(rng.normal(size=n), dtype=dtype)
    drift = 0.3 * rng.normal(size=n)
    gradients = [torch.tensor(drift + rng.normal(size=n), dtype=dtype) for _ in range(steps)]
    h = Hyperparameters(gamma=lr)
    arrays = [g.double().numpy() for g in gradients]
    exact, floor = (
        trajectory(h, start.double().numpy(), arrays, digits=None, stored_in=stored).theta[-1]
        for stored in (None, np.float32)
    )
    p = torch.nn.Parameter(start.clone())
    optimizer = INNAprop([p], lr=lr, **options)
    for g in gradients:
        p.grad = g
        optimizer.step()
    moved = np.linalg.norm(exact - start.double().numpy())
    state = optimizer.state[p]
    whole = join(p.detach(), state["residual"]) if "residual" in state else p.detach()
    best = torch.tensor(exact).to(dtype).double().numpy()
    return [
        np.linalg.norm(x - exact) / moved
        for x in (whole.double().numpy(), floor, p.detach().double().numpy(), best)
    ]


@pytest.mark.parametrize("options", IMPLEMENTATIONS, ids=lambda o: next(iter(o)) + str(o))
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("lr", [1e-3, 1e-4, 1e-5])
def test_at_the_float32_floor(lr, dtype, options):
    whole, floor, alone, best = errors(lr, dtype, options)
    assert whole < 1.5 * floor
    assert alone < 1.02 * best


def test_without_the_residual_it_hardly_moves():
    whole, *_ = errors(1e-5, torch.bfloat16, {"residual": False}, steps=500)
    assert whole > 0.5


@pytest.mark.parametrize("options", IMPLEMENTATIONS, ids=lambda o: next(iter(o)) + str(o))
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_all_implementations_store_the_same_halves(dtype, options):
    """From the same float32 both halves follow: compare the joined numbers, not the halves."""
    torch.manual_seed(0)
    start = torch.randn(1000).to(dtype)
    p, q = (torch.nn.Parameter(start.clone()) for _ in range(2))
    one, other = INNAprop([p], lr=1e-2, **options), INNAprop([q], lr=1e-2, foreach=False)
    for _ in range(50):
        p.grad = q.grad = torch.randn(1000).to(dtype)
        one.step()
        other.step()
    ours, theirs = (join(x.detach(), o.state[x]["residual"]) for x, o in ((p, one), (q, other)))
    torch.testing.assert_close(ours, theirs, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("options", IMPLEMENTATIONS, ids=lambda o: next(iter(o)) + str(o))
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_written_value_is_taken_up_within_half_a_last_place(dtype, options):
    torch.manual_seed(0)
    p = torch.nn.Parameter(torch.randn(1000).to(dtype))
    optimizer = INNAprop([p], lr=1e-2, **options)
    for _ in range(3):
        p.grad = torch.randn(1000).to(dtype)
        optimizer.step()
    written = torch.cat([torch.randn(996), torch.tensor([0.0, -0.0, 1.0, -2.0])]).to(dtype)
    with torch.no_grad():
        p.copy_(written)
    optimizer.param_groups[0]["lr"] = 0.0
    p.grad = torch.zeros(1000, dtype=dtype)
    optimizer.step()
    assert p.isfinite().all()
    spacing = torch.finfo(dtype).eps * written.float().abs()
    assert ((p.float() - written.float()).abs() <= spacing + 1e-7).all()


@pytest.mark.parametrize("options", IMPLEMENTATIONS, ids=lambda o: next(iter(o)) + str(o))
def test_state_is_float32_and_kept_by_the_state_dict(options):
    torch.manual_seed(0)
    p = torch.nn.Parameter(torch.randn(50).bfloat16())
    optimizer = INNAprop([p], lr=1e-2, **options)
    gradients = [torch.randn(50).bfloat16() for _ in range(20)]
    for g in gradients[:10]:
        p.grad = g
        optimizer.step()
    saved = copy.deepcopy(optimizer.state_dict())
    q = torch.nn.Parameter(p.detach().clone())
    other = INNAprop([q], **options)
    other.load_state_dict(saved)
    dtypes = {name: value.dtype for name, value in other.state[q].items() if torch.is_tensor(value)}
    assert dtypes == {
        "step": torch.float64,
        "momentum_buffer": torch.float32,
        "exp_avg_sq": torch.float32,
        "residual": torch.int16,
    }
    for g in gradients[10:]:
        for x, o in ((p, optimizer), (q, other)):
            x.grad = g
            o.step()
    assert torch.equal(p, q)
    assert torch.equal(optimizer.state[p]["residual"], other.state[q]["residual"])


def test_the_residual_can_be_switched_off_and_on(implementation):
    p = torch.nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
    optimizer = INNAprop([p], **implementation)
    for residual in (True, True, False, True):
        optimizer.param_groups[0]["residual"] = residual
        p.grad = torch.ones(4, dtype=torch.bfloat16)
        optimizer.step()
        assert ("residual" in optimizer.state[p]) == residual


def test_a_model_made_bfloat16_after_it_was_trained():
    p = torch.nn.Parameter(torch.ones(4))
    optimizer = INNAprop([p], fused=True)
    for dtype in (torch.float32, torch.bfloat16, torch.float64, torch.float32):
        p.data = p.data.to(dtype)
        p.grad = torch.ones(4, dtype=dtype)
        before = p.detach().double().clone()
        optimizer.step()
        wide = join(p.detach(), optimizer.state[p]["residual"]) if dtype == torch.bfloat16 else p
        assert ((before - wide.double()) > 8e-4).all()
        assert ("residual" in optimizer.state[p]) == (dtype == torch.bfloat16)
