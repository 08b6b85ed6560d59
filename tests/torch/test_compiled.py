"""``torch.compile(optimizer.step)``: one graph, which is the eager step."""

import pytest
import torch

from innaprop.forms.foreach import join
from innaprop.torch import INNAprop


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Graphs:
    """A backend that counts what it is given to compile, and runs it as it is."""

    def __init__(self):
        self.count = 0

    def __call__(self, graph, example_inputs):
        self.count += 1
        return graph.forward


def twins(dtype=torch.float32, **options):
    torch.manual_seed(0)
    start = torch.randn(6, dtype=dtype)
    params = [torch.nn.Parameter(start.clone()) for _ in range(2)]
    return params, [INNAprop([p], **{"lr": 1e-2, **options}) for p in params]


def whole(p, optimizer):
    residual = optimizer.state[p].get("residual")
    return p.detach() if residual is None else join(p.detach(), residual)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"maximize": True},
        {"alpha": lambda k: 0.1 + 0.01 * k, "beta": lambda k: 0.9},
        {"dtype": torch.complex64},
        {"dtype": torch.bfloat16},
        {"dtype": torch.float64, "capturable": True},
    ],
    ids=["plain", "maximize", "schedules", "complex", "bfloat16", "capturable"],
)
def test_it_is_the_eager_step(options):
    (p, q), (compiled, eager) = twins(**options)
    graphs = Graphs()
    step = torch.compile(compiled.step, fullgraph=True, backend=graphs)
    for _ in range(6):
        p.grad = torch.randn_like(p)
        q.grad = p.grad.clone()
        step()
        eager.step()
    joined = [whole(x, o) for x, o in ((p, compiled), (q, eager))]
    torch.testing.assert_close(*joined, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(compiled.psi(p), eager.psi(q), rtol=1e-5, atol=1e-6)
    assert compiled.state[p]["step"] == 6
    assert graphs.count <= 2  # The first step makes the state.


def test_a_tensor_as_learning_rate_is_compiled_once():
    (p, q), (compiled, eager) = twins(lr=torch.tensor(1e-2))
    graphs = Graphs()
    step = torch.compile(compiled.step, fullgraph=True, backend=graphs)
    for k in range(12):
        for optimizer in (compiled, eager):
            optimizer.param_groups[0]["lr"].fill_(1e-2 / (k + 1))
        p.grad = torch.randn_like(p)
        q.grad = p.grad.clone()
        step()
        eager.step()
    torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)
    assert graphs.count <= 2


def test_scaled_gradients_are_unscaled_and_infinite_ones_skipped():
    (p, q), (compiled, eager) = twins()
    graphs = Graphs()
    step = torch.compile(compiled.step, fullgraph=True, backend=graphs)
    for k in range(6):
        gradient = torch.randn(6)
        p.grad, q.grad = 8 * gradient, gradient.clone()
        # As GradScaler says it.
        compiled.grad_scale, compiled.found_inf = torch.tensor(8.0), torch.tensor(float(k == 3))
        if k == 3:
            p.grad[2] = torch.inf
        else:
            eager.step()
        step()
    torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)
    assert compiled.state[p]["step"] == eager.state[q]["step"] == 5


@pytest.mark.parametrize("capturable", [False, True])
def test_updates_are_counted_beyond_what_float32_holds(capturable):
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = INNAprop([p], capturable=capturable)
    p.grad = torch.ones(3)
    step = torch.compile(optimizer.step, fullgraph=True, backend=Graphs())
    step()
    optimizer.state[p]["step"].fill_(2.0**24)
    for _ in range(3):
        step()
    assert optimizer.state[p]["step"].item() == 2**24 + 3


def test_a_parameter_listed_twice_is_updated_once():
    p, q = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    with pytest.warns(UserWarning, match="duplicate parameters"):
        optimizer = INNAprop([p, q, p])
    step = torch.compile(optimizer.step, fullgraph=True, backend=Graphs())
    for _ in range(3):
        for x in (p, q):
            x.grad = torch.ones(3)
        step()
    assert torch.equal(p, q)
    assert optimizer.state[p]["step"] == 3
