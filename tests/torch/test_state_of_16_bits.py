"""A state of 16 bits a number: the trajectory, the memory, and the ways in and out of it."""

import copy
import io

import numpy as np
import pytest
import torch

import innaprop
from innaprop.forms.foreach import OPERATIONS
from innaprop.torch import INNAprop
from innaprop_core import Hyperparameters, momentum, packed, trajectory

IMPLEMENTATIONS = {
    "single": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
    "capturable": {"foreach": True, "capturable": True},
}
PRESETS = {"fast": {"alpha": 0.1, "beta": 0.9}, "accurate": {"alpha": 2.0, "beta": 2.0}}


@pytest.fixture(params=IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS.keys())
def implementation(request):
    return request.param


def gradients(steps, n=600, seed=0):
    """Noise about a drift, of elements whose sizes differ by orders of magnitude."""
    rng = np.random.default_rng(seed)
    scale, drift = np.exp(2 * rng.normal(size=n)), 0.3 * rng.normal(size=n)
    return [torch.tensor(scale * (drift + rng.normal(size=n))).float() for _ in range(steps)]


def start(n=600):
    return torch.tensor(np.random.default_rng(1).normal(size=n)).float()


def run(optimizer, given):
    """Step once with each gradient, in the parameter's dtype."""
    (p,) = optimizer.param_groups[0]["params"]
    for g in given:
        p.grad = g.to(p.dtype).reshape(p.shape)
        optimizer.step()
    return p


def made(value=None, **options):
    return INNAprop([torch.nn.Parameter(start() if value is None else value.clone())], **options)


def state_of(optimizer):
    (state,) = optimizer.state.values()
    return state


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("lr", [1e-2, 1e-3, 1e-4])
@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS.keys())
def test_within_three_thousandths_of_the_distance_moved(preset, lr, dtype):
    given = [g.to(dtype).float() for g in gradients(2000)]
    begin = start().to(dtype)
    h = Hyperparameters(gamma=lr, **preset)
    arrays = [g.double().numpy() for g in given]
    exact = trajectory(h, begin.double().numpy(), arrays, digits=None).theta[-1]
    optimizer = made(begin, lr=lr, state_bits=16, fused=True, **preset)
    p = run(optimizer, given)
    moved = np.linalg.norm(exact - begin.double().numpy())
    ours = optimizer.master_weights(p).detach().double().numpy()
    assert np.linalg.norm(ours - exact) < 3e-3 * moved


def test_every_implementation_rounds_as_the_core_does(implementation):
    """But for a few that are rounded at a threshold, which roundoff moves."""
    given, seed = gradients(50), 11
    theta = start().numpy()
    word = torch.zeros(theta.shape, dtype=torch.int32)
    indices = torch.arange(theta.size, dtype=torch.int32)
    for k, g in enumerate(given, start=1):
        options = {
            "gamma": 1e-3,
            **PRESETS["fast"],
            "sigma": 0.999,
            "eps": 1e-8,
            "weight_decay": 0.1,
        }
        c = momentum.coefficients(k, **options, seed=seed)
        m, v = packed.unpack(word, OPERATIONS)
        theta, m, v = momentum.step(theta, m.numpy(), v.numpy(), g.numpy(), c)
        turn = packed.turn(int(c.draw))
        word = packed.pack(
            *map(torch.from_numpy, (m, v)), packed.thresholds(indices, turn), OPERATIONS
        )
    optimizer = made(state_bits=16, seed=seed, weight_decay=0.1, **implementation)
    p = run(optimizer, given)
    assert (state_of(optimizer)["packed_state"] != word).float().mean() < 5e-3
    np.testing.assert_allclose(p.detach().numpy(), theta, atol=2e-6)


def test_another_seed_rounds_otherwise_and_the_same_one_alike():
    words = [
        state_of(optimizer)["packed_state"]
        for seed in (0, 0, 1)
        for optimizer in [made(state_bits=16, seed=seed)]
        if run(optimizer, gradients(20)) is not None
    ]
    assert torch.equal(words[0], words[1])
    assert (words[0] != words[2]).float().mean() > 0.3


def test_the_number_of_threads_makes_no_difference():
    value = torch.randn(200_003, generator=torch.Generator().manual_seed(0))
    results = []
    before = torch.get_num_threads()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        optimizer = made(value, state_bits=16, fused=True)
        for _ in range(3):
            run(optimizer, [value * 0.3 + 0.1])
        results.append(state_of(optimizer)["packed_state"])
    torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_other_layouts_have_the_same_words(implementation):
    value = torch.randn(4, 5, 6, 7, generator=torch.Generator().manual_seed(0))
    plain = made(value.permute(0, 2, 3, 1).contiguous(), state_bits=16, **implementation)
    other = made(value, state_bits=16, **implementation)
    (p,) = other.param_groups[0]["params"]
    p.data = p.data.to(memory_format=torch.channels_last)
    for _ in range(10):
        run(plain, [value.permute(0, 2, 3, 1)])
        run(other, [value])
    words, others = (state_of(o)["packed_state"] for o in (plain, other))
    assert torch.equal(words, others.permute(0, 2, 3, 1))


def test_long_tensors_are_numbered_through(implementation):
    value = torch.randn(300_000, generator=torch.Generator().manual_seed(0))
    ours, one = (made(value, state_bits=16, **o) for o in (implementation, {"fused": True}))
    for _ in range(2):
        run(ours, [value])
        run(one, [value])
    words = [state_of(o)["packed_state"] for o in (ours, one)]
    assert (words[0] != words[1]).float().mean() < 5e-3


@pytest.mark.parametrize(("dtype", "held"), [(torch.float32, 4), (torch.bfloat16, 6)])
def test_four_bytes_a_parameter_and_the_residual(dtype, held):
    optimizer = made(start().to(dtype), state_bits=16)
    run(optimizer, gradients(1))
    tensors = [t for t in state_of(optimizer).values() if torch.is_tensor(t) and t.dim() > 0]
    assert sum(t.numel() * t.element_size() for t in tensors) == held * 600


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_run_that_is_resumed_has_the_same_bits(implementation, dtype):
    given = gradients(40)
    optimizer = made(start().to(dtype), state_bits=16, seed=5, **implementation)
    run(optimizer, given[:20])
    file = io.BytesIO()
    (p,) = optimizer.param_groups[0]["params"]
    torch.save([p.detach(), optimizer.state_dict()], file)
    file.seek(0)
    value, saved = torch.load(file)
    other = made(value, state_bits=16, **implementation)
    other.load_state_dict(saved)
    assert torch.equal(run(optimizer, given[20:]), run(other, given[20:]))
    words, others = (state_of(o)["packed_state"] for o in (optimizer, other))
    assert torch.equal(words, others)


def test_a_state_of_32_bits_is_loaded_into_one_of_16_and_back(implementation):
    wide = made(**implementation)
    run(wide, gradients(30))
    saved = copy.deepcopy(wide.state_dict())
    narrow = made(state_bits=16, **implementation)
    narrow.load_state_dict(saved)
    assert narrow.param_groups[0]["state_bits"] == 16
    assert state_of(narrow).keys() == {"step", "packed_state"}
    assert state_of(wide).keys() == {"step", "momentum_buffer", "exp_avg_sq"}
    back = made(**implementation)
    back.load_state_dict(narrow.state_dict())
    assert state_of(back).keys() == {"step", "momentum_buffer", "exp_avg_sq"}
    for name, rtol, atol in (("momentum_buffer", 3e-4, 4e-5), ("exp_avg_sq", 2e-3, 1e-16)):
        torch.testing.assert_close(state_of(back)[name], state_of(wide)[name], rtol=rtol, atol=atol)
    again = made(state_bits=16, **implementation)
    again.load_state_dict(back.state_dict())
    words, others = (state_of(o)["packed_state"] for o in (narrow, again))
    assert torch.equal(words, others)


def test_the_option_may_change_during_a_run(implementation):
    optimizer, wide = made(lr=1e-2, **implementation), made(lr=1e-2, **implementation)
    given = gradients(40)
    for i, bits in enumerate((32, 16, 32, 16)):
        optimizer.param_groups[0]["state_bits"] = bits
        p, q = (run(o, given[10 * i : 10 * i + 10]) for o in (optimizer, wide))
        assert ("packed_state" in state_of(optimizer)) == (bits == 16)
    assert (p - q).norm() < 3e-3 * (q - start()).norm()


def test_the_authors_state_is_taken_over():
    wide = made()
    run(wide, gradients(10))
    (p,) = wide.param_groups[0]["params"]
    saved = wide.state_dict()
    saved["state"][0] = {
        "step": torch.tensor(10.0),
        "exp_avg_sq": state_of(wide)["exp_avg_sq"],
        "psi": wide.psi(p),
    }
    optimizer = made(p.detach(), state_bits=16)
    optimizer.load_state_dict(saved)
    psi = optimizer.psi(optimizer.param_groups[0]["params"][0])
    torch.testing.assert_close(psi, wide.psi(p), rtol=1e-4, atol=1e-4)
    run(optimizer, gradients(1))
    assert state_of(optimizer).keys() == {"step", "packed_state"}


def test_portable_files_hold_float32_and_lose_nothing(tmp_path):
    optimizer = made(state_bits=16, seed=5)
    given = gradients(20)
    run(optimizer, given[:10])
    (p,) = optimizer.param_groups[0]["params"]
    innaprop.save_state(tmp_path / "state", optimizer, {"p": p})
    other = made(p.detach(), state_bits=16, seed=5)
    (q,) = other.param_groups[0]["params"]
    innaprop.load_state(tmp_path / "state", other, {"p": q})
    words, others = (state_of(o)["packed_state"] for o in (optimizer, other))
    assert torch.equal(words, others)
    assert torch.equal(run(optimizer, given[10:]), run(other, given[10:]))
    wide = made(p.detach())
    innaprop.load_state(tmp_path / "state", wide, {"p": wide.param_groups[0]["params"][0]})
    assert state_of(wide)["exp_avg_sq"].dtype == torch.float32


def test_psi_is_that_of_the_wide_state():
    both = [made(state_bits=bits) for bits in (16, 32)]
    ours, theirs = (o.psi(run(o, gradients(50))) for o in both)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_what_is_not_a_number_stays_one(implementation):
    optimizer = made(state_bits=16, **implementation)
    bad = gradients(1)[0]
    bad[3], bad[4] = float("nan"), float("inf")
    p = run(optimizer, [bad, *gradients(3)])
    assert p[3].isnan()
    assert p[4].isnan()
    assert p[5:].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex64])
def test_parameters_that_16_bits_are_not_for_are_refused(dtype):
    p = torch.nn.Parameter(torch.ones(3, dtype=dtype))
    with pytest.raises(TypeError, match=f"state_bits=16 needs parameters of .* got one of {dtype}"):
        INNAprop([p], state_bits=16)
    optimizer = made(state_bits=16)
    with pytest.raises(TypeError, match="state_bits=16 needs"):
        optimizer.add_param_group({"params": [p]})
    assert len(optimizer.param_groups) == 1
    optimizer.add_param_group({"params": [p], "state_bits": 32})
    run(optimizer, gradients(1))
    (q, *_) = optimizer.param_groups[0]["params"]
    before, q.data = q.detach().clone(), q.data.to(dtype)
    q.grad = torch.ones_like(q)
    with pytest.raises(TypeError, match="state_bits=16 needs"):
        optimizer.step()
    assert torch.equal(q, before.to(dtype))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"state_bits": 8}, ValueError, "state_bits must be one of 32, 16, got 8"),
        ({"state_bits": True}, TypeError, "state_bits must be an integer, got True"),
        ({"state_bits": "16"}, TypeError, "state_bits must be an integer, got '16'"),
        ({"seed": 0.5}, TypeError, "seed must be an integer, got 0.5"),
    ],
)
def test_bad_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        made(**options)


def test_damaged_states_are_refused_before_anything_changes():
    optimizer = made(state_bits=16)
    run(optimizer, gradients(3))
    good = optimizer.state_dict()
    for change, message in (
        ({"packed_state": torch.zeros(600)}, "packed_state of parameter 0 must be int32, got"),
        ({"packed_state": torch.zeros(5, dtype=torch.int32)}, "must be a tensor of shape"),
    ):
        bad = copy.deepcopy(good)
        bad["state"][0].update(change)
        before = state_of(optimizer)["packed_state"].clone()
        with pytest.raises(ValueError, match=message):
            optimizer.load_state_dict(bad)
        assert torch.equal(state_of(optimizer)["packed_state"], before)
    del good["state"][0]["packed_state"]
    with pytest.raises(ValueError, match="step and packed_state"):
        optimizer.load_state_dict(good)


@pytest.mark.parametrize("n", [7, 100, 300])
def test_inside_torch_compile(n):
    """Also where a vector is left half full, and the compiler unrolls the loop over all."""
    torch.compiler.reset()
    given = gradients(5, n=n)
    both = [made(start(n), state_bits=16) for _ in range(2)]
    step = torch.compile(both[0].step, fullgraph=False)
    (p,), (q,) = (o.param_groups[0]["params"] for o in both)
    for g in given:
        p.grad, q.grad = g.clone(), g.clone()
        step()
        both[1].step()
    torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)
    words = [state_of(o)["packed_state"] for o in both]
    assert (words[0] != words[1]).float().mean() < 2e-2


@pytest.mark.parametrize(("dtype", "bits"), [(torch.bfloat16, 32), (torch.float32, 16)])
def test_inside_torch_compile_without_dimensions(dtype, bits):
    """There the scalars, tensors of float64, would decide the dtype of the arithmetic."""
    torch.compiler.reset()
    both = []
    for _ in range(2):
        p = torch.nn.Parameter(torch.tensor(1.0, dtype=dtype))
        p.grad = torch.ones_like(p)
        both.append((p, INNAprop([p], lr=torch.tensor(1e-2), state_bits=bits)))
    (p, compiled), (q, plain) = both
    step = torch.compile(compiled.step)
    for _ in range(3):
        step()
        plain.step()
    torch.testing.assert_close(compiled.master_weights(p), plain.master_weights(q))
