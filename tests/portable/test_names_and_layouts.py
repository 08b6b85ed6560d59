"""Frameworks name parameters in their own ways, and lay some out in other orders."""

import re

import numpy as np
import pytest

import innaprop
import innaprop.keras
import innaprop.optax
import innaprop.tensorflow
import innaprop.torch

keras = pytest.importorskip("keras")
torch = pytest.importorskip("torch")
jax = pytest.importorskip("jax")
tf = pytest.importorskip("tensorflow")

UPDATES = 20
RNG = np.random.default_rng(0)
KERNEL = RNG.normal(size=(4, 3)).astype(np.float32)
BIAS = RNG.normal(size=3).astype(np.float32)
GRADIENTS = [
    (RNG.normal(size=(4, 3)).astype(np.float32), RNG.normal(size=3).astype(np.float32))
    for _ in range(2 * UPDATES)
]


class Linear:
    """A PyTorch layer, whose weight is (out, in)."""

    def __init__(self, kernel, bias):
        self.layer = torch.nn.Linear(4, 3)
        with torch.no_grad():
            self.layer.weight.copy_(torch.tensor(kernel).T)
            self.layer.bias.copy_(torch.tensor(bias))
        self.optimizer = innaprop.torch.INNAprop(self.layer.named_parameters(), lr=1e-2)

    def train(self, gradients):
        for kernel, bias in gradients:
            self.layer.weight.grad = torch.tensor(kernel).T.contiguous()
            self.layer.bias.grad = torch.tensor(bias)
            self.optimizer.step()
        return self

    def weights(self):
        return self.layer.weight.detach().numpy().T, self.layer.bias.detach().numpy()


class Dense:
    """A Keras layer, whose kernel is (in, out)."""

    def __init__(self, kernel, bias):
        self.layer = keras.layers.Dense(3, name="dense")
        self.layer.build((None, 4))
        self.layer.set_weights([kernel, bias])
        self.optimizer = innaprop.keras.INNAprop(1e-2)
        self.optimizer.build(self.layer.trainable_variables)

    def train(self, gradients):
        for pair in gradients:
            self.optimizer.apply([keras.ops.convert_to_tensor(g) for g in pair])
        return self

    def weights(self):
        return self.layer.get_weights()


OURS = {"weight": "dense/kernel", "bias": "dense/bias"}
THEIRS = {ours: theirs for theirs, ours in OURS.items()}


@pytest.mark.parametrize(
    ("first", "second", "names", "transposes"),
    [
        (Linear, Dense, OURS, {"dense/kernel": (1, 0)}),
        (Dense, Linear, THEIRS, {"weight": (1, 0)}),
    ],
)
def test_a_linear_weight_and_a_dense_kernel(first, second, names, transposes, path):
    straight = first(KERNEL, BIAS).train(GRADIENTS).weights()
    begun = first(KERNEL, BIAS).train(GRADIENTS[:UPDATES])
    innaprop.save_state(path, begun.optimizer)
    moved = second(*begun.weights())
    innaprop.load_state(path, moved.optimizer, names=names, transposes=transposes)
    forgotten = second(*begun.weights())
    for one in (moved, forgotten):
        one.train(GRADIENTS[UPDATES:])
    for a, b, c in zip(straight, moved.weights(), forgotten.weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        assert np.abs(a - c).max() > 1e-3


def test_axes_are_in_the_order_that_gives_ours(path):
    """Of a convolution: PyTorch's (out, in, height, width) to Keras's (height, width, in, out)."""
    layer = torch.nn.Conv2d(2, 3, (4, 5), bias=False)
    optimizer = innaprop.torch.INNAprop(layer.named_parameters())
    layer.weight.grad = torch.randn(3, 2, 4, 5)
    optimizer.step()
    innaprop.save_state(path, optimizer)
    kernel = keras.Variable(np.zeros((4, 5, 2, 3), np.float32), name="kernel")
    ours = innaprop.keras.INNAprop()
    ours.build([kernel])
    innaprop.load_state(path, ours, names={"weight": "kernel"}, transposes={"kernel": (2, 3, 1, 0)})
    theirs = optimizer.state[layer.weight]["momentum_buffer"].numpy()
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(ours._momentums[0]), theirs.transpose(2, 3, 1, 0)
    )


def test_names_that_change_places(path):
    p, q = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    optimizer = innaprop.torch.INNAprop([("a", p), ("b", q)])
    p.grad, q.grad = torch.tensor([1.0, 2.0]), torch.tensor([3.0, -4.0])
    optimizer.step()
    innaprop.save_state(path, optimizer)
    m = optimizer.state[p]["momentum_buffer"].clone()
    innaprop.load_state(path, optimizer, names={"a": "b", "b": "a"})
    assert torch.equal(optimizer.state[q]["momentum_buffer"], m)


def test_of_a_model_the_trained_parameters_are_named(path):
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
    model[0].requires_grad_(False)
    optimizer = innaprop.torch.INNAprop(model[1].parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    with pytest.raises(ValueError, match=r"do not name number 0 of group 0, of shape \(1, 2\)"):
        innaprop.save_state(path, optimizer)
    innaprop.save_state(path, optimizer, model.named_parameters())
    assert list(innaprop.read_state(path).parameters) == ["1.weight", "1.bias"]
    innaprop.load_state(path, optimizer, dict(model.named_parameters()))


def test_a_parameter_of_two_names(path):
    p = torch.nn.Parameter(torch.ones(1))
    optimizer = innaprop.torch.INNAprop([p])
    with pytest.raises(ValueError, match="must name each parameter once"):
        innaprop.save_state(path, optimizer, {"a": p, "b": p})


def test_variables_of_one_name(path):
    variables = [tf.Variable([1.0]), tf.Variable([2.0])]
    optimizer = innaprop.tensorflow.INNAprop()
    optimizer.build(variables)
    with pytest.raises(ValueError, match="must be unique, got 'Variable' more than once"):
        innaprop.save_state(path, optimizer)
    innaprop.save_state(path, optimizer, zip("ab", variables, strict=True))
    assert list(innaprop.read_state(path).parameters) == ["a", "b"]
    with pytest.raises(ValueError, match="do not name Variable:0"):
        innaprop.load_state(path, optimizer, {"a": variables[0]})

    ours = innaprop.keras.INNAprop()
    ours.build([keras.Variable([1.0], name="v"), keras.Variable([2.0], name="v")])
    with pytest.raises(ValueError, match="must be unique, got 'v' more than once"):
        innaprop.load_state(path, ours)
    with pytest.raises(ValueError, match="do not name v"):
        innaprop.load_state(path, ours, {})


def test_leaves_of_one_name(path):
    params = {"a": {"b": jax.numpy.ones(1)}, "a/b": jax.numpy.ones(1)}
    state = innaprop.optax.innaprop(1e-3).init(params)
    with pytest.raises(ValueError, match="must be unique, got 'a/b' more than once"):
        innaprop.save_state(path, state, params)


def test_leaves_have_the_names_of_their_paths(path):
    params = {"dense": {"kernel": jax.numpy.ones(2)}, "list": [jax.numpy.ones(1)]}
    innaprop.save_state(path, innaprop.optax.innaprop(1e-3).init(params), params)
    assert list(innaprop.read_state(path).parameters) == ["dense/kernel", "list/0"]
    alone = jax.numpy.ones(2)
    innaprop.save_state(path, innaprop.optax.innaprop(1e-3).init(alone), alone)
    assert list(innaprop.read_state(path).parameters) == ["params"]


@pytest.mark.parametrize("parameters", [3, [1, 2], {1: "a"}])
def test_what_names_nothing(parameters, path):
    optimizer = innaprop.torch.INNAprop([torch.nn.Parameter(torch.ones(1))])
    with pytest.raises(TypeError, match=re.escape("parameters must be a mapping of names")):
        innaprop.save_state(path, optimizer, parameters)
