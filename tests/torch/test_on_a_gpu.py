"""What can be seen on a GPU only."""

import pytest
import torch

from innaprop.torch import INNAprop

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
IMPLEMENTATIONS = {
    "single": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
    "capturable": {"capturable": True},
    "fused capturable": {"fused": True, "capturable": True},
}
SHAPES = [(5,), (300, 41), (), (0,), (64, 64)]


@pytest.fixture(params=IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS.keys())
def implementation(request):
    return request.param


def twins(dtype=torch.float32):
    """Return parameters on the GPU, and on the CPU in float64."""
    torch.manual_seed(0)
    start = [torch.randn(shape).to(dtype) for shape in SHAPES]
    there = [torch.nn.Parameter(p.cuda()) for p in start]
    return there, [torch.nn.Parameter(p.double()) for p in start]


def give_gradients(there, here):
    for p, q in zip(there, here, strict=True):
        gradient = torch.randn(p.shape).to(p.dtype)
        p.grad = gradient.cuda() if p.grad is None else p.grad.copy_(gradient)
        q.grad = gradient.to(q.dtype)


def assert_alike(there, here, tolerance):
    for p, q in zip(there, here, strict=True):
        torch.testing.assert_close(p.cpu().double(), q, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float32, 1e-5), (torch.float64, 1e-13), (torch.bfloat16, 8e-3), (torch.float16, 1e-3)],
)
def test_equals_the_cpu(implementation, dtype, tolerance):
    there, here = twins(dtype)
    ours, reference = INNAprop(there, lr=1e-2, **implementation), INNAprop(here, lr=1e-2)
    for _ in range(30):
        give_gradients(there, here)
        ours.step()
        reference.step()
    assert_alike(there, here, tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-3), (torch.bfloat16, 8e-3)])
def test_equals_the_cpu_with_a_state_of_16_bits(implementation, dtype, tolerance):
    there, here = twins(dtype)
    ours, reference = (
        INNAprop(there, lr=1e-2, state_bits=16, **implementation),
        INNAprop(here, lr=1e-2),
    )
    for _ in range(30):
        give_gradients(there, here)
        ours.step()
        reference.step()
    assert_alike(there, here, tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_words_of_16_bits_are_those_of_the_cpu(implementation, dtype):
    """But for a few that are rounded at a threshold, which roundoff moves."""
    torch.manual_seed(0)
    start = [torch.randn(shape).to(dtype) for shape in [(5,), (300, 41), (4096,), (1 << 20,)]]
    there, here = ([torch.nn.Parameter(p.to(device)) for p in start] for device in ("cuda", "cpu"))
    ours = INNAprop(there, state_bits=16, seed=3, **implementation)
    reference = INNAprop(here, state_bits=16, seed=3)
    for _ in range(20):
        for p, q in zip(there, here, strict=True):
            q.grad = torch.randn(q.shape).to(dtype)
            p.grad = q.grad.cuda()
        ours.step()
        reference.step()
    words = [
        torch.cat([o.state[p]["packed_state"].cpu().ravel() for p in params])
        for o, params in ((ours, there), (reference, here))
    ]
    assert (words[0] != words[1]).float().mean() < (5e-3 if dtype == torch.float32 else 0.05)


@pytest.mark.parametrize("state_bits", [32, 16])
@pytest.mark.parametrize("fused", [False, True])
def test_a_whole_iteration_in_a_cuda_graph(fused, state_bits):
    """Gradients come to be in the graph, at addresses of its own."""
    there, here = twins()
    rate = torch.tensor(1e-2, device="cuda")
    ours = INNAprop(there, lr=rate, capturable=True, fused=fused, state_bits=state_bits)
    reference = INNAprop(here, lr=1e-2)
    inputs = [torch.zeros_like(p) for p in there]

    def iteration():
        sum((p * x).sum() for p, x in zip(there, inputs, strict=True)).backward()
        ours.step()

    def give_inputs():
        for x, q in zip(inputs, here, strict=True):
            gradient = torch.randn(q.shape)
            x.copy_(gradient)
            q.grad = gradient.double()

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            ours.zero_grad(set_to_none=True)
            give_inputs()
            iteration()
            reference.step()
    torch.cuda.current_stream().wait_stream(side)
    ours.zero_grad(set_to_none=True)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        iteration()
    for k in range(20):
        rate.fill_(1e-2 / (k + 1))
        reference.param_groups[0]["lr"] = 1e-2 / (k + 1)
        give_inputs()
        graph.replay()
        reference.step()
    assert_alike(there, here, 1e-5 if state_bits == 32 else 1e-3)


@pytest.mark.parametrize("capturable", [False, True])
@pytest.mark.parametrize("fused", [False, True])
def test_grad_scaler_unscales_and_skips(fused, capturable):
    there, here = twins()
    ours, reference = INNAprop(there, fused=fused, capturable=capturable), INNAprop(here)
    scaler = torch.amp.GradScaler("cuda", init_scale=1024.0)
    for step in range(6):
        give_gradients(there, here)
        for p in there:
            p.grad.mul_(scaler.get_scale())
        if step == 3:
            there[1].grad[0, 0] = float("inf")
        scaler.scale(torch.zeros((), device="cuda"))
        scaler.step(ours)
        scaler.update()
        if step != 3:
            reference.step()
    assert_alike(there, here, 1e-5)


def test_a_checkpoint_moves_between_devices(implementation):
    there, here = twins()
    ours = INNAprop(there, lr=1e-2, **implementation)
    for _ in range(3):
        give_gradients(there, here)
        ours.step()
    moved = [torch.nn.Parameter(p.detach().cpu()) for p in there]
    other = INNAprop(moved, lr=1e-2)
    other.load_state_dict(ours.state_dict())
    other.param_groups[0].update({"fused": None, "capturable": False})
    for _ in range(3):
        give_gradients(there, moved)
        ours.step()
        other.step()
    assert_alike(there, [p.double() for p in moved], 1e-5)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there is one GPU only")
@pytest.mark.parametrize("fused", [False, True])
def test_on_another_gpu_than_the_current_one(fused):
    p = torch.nn.Parameter(torch.ones(300, device="cuda:1"))
    q = torch.nn.Parameter(torch.ones(300, dtype=torch.float64))
    ours, reference = INNAprop([p], fused=fused), INNAprop([q])
    for _ in range(3):
        p.grad, q.grad = torch.ones(300, device="cuda:1"), torch.ones(300, dtype=torch.float64)
        ours.step()
        reference.step()
    assert_alike([p], [q], 1e-5)


def test_two_devices_in_one_group(implementation):
    there, here = twins()
    mixed = [*there[:2], *(torch.nn.Parameter(q.detach().float()) for q in here[2:])]
    ours, reference = INNAprop(mixed, lr=1e-2, **implementation), INNAprop(here, lr=1e-2)
    for _ in range(5):
        for p, q in zip(mixed, here, strict=True):
            gradient = torch.randn(p.shape)
            p.grad, q.grad = gradient.to(p.device), gradient.double()
        ours.step()
        reference.step()
    assert_alike(mixed, here, 1e-5)
