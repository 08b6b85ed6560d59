"""Numbers go where there are numbers; schedules stay; what one side cannot say is told."""

import numpy as np
import pytest

import innaprop
import innaprop.keras
import innaprop.optax
import innaprop.tensorflow
import innaprop.torch
from innaprop.portable import file
from innaprop_core import Hyperparameters
from innaprop_core import INNAprop as Reference

keras = pytest.importorskip("keras")
torch = pytest.importorskip("torch")
jax = pytest.importorskip("jax")
jnp = pytest.importorskip("jax.numpy")
optax = pytest.importorskip("optax")
tf = pytest.importorskip("tensorflow")

THEIRS = {
    "gamma": 1e-2,
    "alpha": 2.0,
    "beta": 3.0,
    "sigma": 0.9,
    "eps": 1e-6,
    "weight_decay": 0.1,
    "decay_momentum": False,
}
SHAPES = {"w": (2, 3), "b": (2,)}


@pytest.fixture
def theirs(path):
    """A state of the reference optimizer, with other hyperparameters than the defaults."""
    optimizer = Reference([np.ones((2, 3), np.float32), np.ones(2, np.float32)], _theirs())
    optimizer.step([np.ones((2, 3), np.float32), np.ones(2, np.float32)])
    innaprop.save_state(path, optimizer, list(SHAPES))
    return path


def _theirs(**others):
    return Hyperparameters(**{**THEIRS, **others})


def torch_optimizer(groups=None, **options):
    w, b = torch.nn.Parameter(torch.ones(2, 3)), torch.nn.Parameter(torch.ones(2))
    groups = groups or [{"params": [("w", w), ("b", b)]}]
    return innaprop.torch.INNAprop(groups, **options)


def keras_optimizer(exclude=None, **options):
    variables = [keras.Variable(np.ones(s, np.float32), name=n) for n, s in SHAPES.items()]
    optimizer = innaprop.keras.INNAprop(**options)
    if exclude:
        optimizer.exclude_from_weight_decay(var_names=exclude)
    optimizer.build(variables)
    return optimizer


def tensorflow_optimizer(**options):
    optimizer = innaprop.tensorflow.INNAprop(**options)
    optimizer.build([tf.Variable(tf.ones(s), name=n) for n, s in SHAPES.items()])
    return optimizer


def parameters():
    return {"w": jnp.ones((2, 3)), "b": jnp.ones(2)}


def of_file(path, name="w"):
    return innaprop.read_state(path).parameters[name].hyperparameters


@pytest.mark.parametrize("make", [torch_optimizer, keras_optimizer, tensorflow_optimizer])
class TestClasses:
    def test_numbers_are_set(self, make, theirs):
        optimizer = make()
        assert innaprop.load_state(theirs, optimizer) is optimizer
        innaprop.save_state(theirs, optimizer)
        assert of_file(theirs) == of_file(theirs, "b") == THEIRS

    def test_or_not(self, make, theirs):
        optimizer = innaprop.load_state(theirs, make(), hyperparameters=False)
        innaprop.save_state(theirs, optimizer)
        ours = {"gamma": 1e-3, "alpha": 0.1, "beta": 0.9, "sigma": 0.999, "eps": 1e-8}
        assert of_file(theirs) == {**ours, "weight_decay": 0.01, "decay_momentum": True}

    def test_schedules_of_alpha_and_beta_stay(self, make, theirs):
        optimizer = make(alpha=lambda k: 1.5, beta=lambda k: 2.5)
        innaprop.load_state(theirs, optimizer)
        innaprop.save_state(theirs, optimizer)
        assert of_file(theirs) == {**THEIRS, "alpha": None, "beta": None}
        # psi, which needs their numbers, is there: the optimizer has them.
        assert innaprop.read_state(theirs).parameters["w"].psi is not None

    def test_a_schedule_in_the_file_leaves_the_number(self, make, path):
        innaprop.save_state(path, make(alpha=lambda k: 1.5))
        optimizer = innaprop.load_state(path, make(alpha=0.25))
        innaprop.save_state(path, optimizer)
        assert of_file(path)["alpha"] == 0.25

    def test_numbers_that_do_not_go_with_a_schedule_of_ours(self, make, path):
        """The learning rate of the file is above our beta, which the file does not know."""
        innaprop.save_state(path, make(beta=lambda k: 3.0))
        content = innaprop.read_state(path)
        for state in content.parameters.values():
            state.hyperparameters["gamma"] = 2.0
            state.momentum[:] = 1
        file.write(path, content)
        optimizer = make(beta=0.9)
        with pytest.raises(ValueError, match="must be smaller than beta"):
            innaprop.load_state(path, optimizer)
        innaprop.save_state(path, optimizer)
        assert of_file(path)["gamma"] == 1e-3
        assert not innaprop.read_state(path).parameters["w"].momentum.any()


def test_learning_rate_schedules_stay_and_tell_their_number(theirs):
    rate = keras.optimizers.schedules.PolynomialDecay(0.5, 10, 0.0)
    optimizer = innaprop.load_state(theirs, keras_optimizer(learning_rate=rate))
    innaprop.save_state(theirs, optimizer)
    assert of_file(theirs)["gamma"] == pytest.approx(0.45)
    optimizer = tensorflow_optimizer(learning_rate=lambda k: 0.5 - 0.05 * tf.cast(k, tf.float64))
    innaprop.load_state(theirs, optimizer)
    innaprop.save_state(theirs, optimizer)
    assert of_file(theirs)["gamma"] == pytest.approx(0.45)


def test_a_learning_rate_that_is_a_tensor_stays_one(theirs):
    rate = torch.tensor([1e-3])
    optimizer = innaprop.load_state(theirs, torch_optimizer(lr=rate))
    assert torch.equal(optimizer.param_groups[0]["lr"], torch.tensor([1e-2]))
    innaprop.save_state(theirs, optimizer)
    assert of_file(theirs)["gamma"] == 1e-2


def test_options_of_the_loop_are_not_in_the_file(theirs):
    optimizer = innaprop.load_state(theirs, torch_optimizer(maximize=True, foreach=True))
    assert optimizer.param_groups[0]["maximize"]
    assert optimizer.param_groups[0]["foreach"]


class TestGroups:
    def groups(self, decay_of_b=0.0, **options):
        w, b = torch.nn.Parameter(torch.ones(2, 3)), torch.nn.Parameter(torch.ones(2))
        bias = {"params": [("b", b)], "weight_decay": decay_of_b}
        return torch_optimizer([{"params": [("w", w)]}, {**bias, **options}], weight_decay=0.1)

    def test_no_decay_of_a_group_is_an_exclusion_in_keras(self, path):
        innaprop.save_state(path, self.groups())
        optimizer = innaprop.load_state(path, keras_optimizer())
        assert (optimizer.weight_decay, optimizer._decays) == (0.1, [True, False])

    def test_an_exclusion_in_keras_is_no_decay_of_a_group(self, path):
        innaprop.save_state(path, keras_optimizer(exclude=["b"], weight_decay=0.2))
        optimizer = innaprop.load_state(path, self.groups(decay_of_b=0.5))
        assert [group["weight_decay"] for group in optimizer.param_groups] == [0.2, 0.0]
        with pytest.raises(ValueError, match=r"weight_decay must be the same .* hyperparameters=F"):
            innaprop.load_state(path, torch_optimizer())

    def test_no_decay_at_all_says_nothing_of_exclusions(self, path):
        innaprop.save_state(path, keras_optimizer(weight_decay=None))
        optimizer = innaprop.load_state(path, keras_optimizer(exclude=["b"]))
        assert (optimizer.weight_decay, optimizer._decays) == (0.0, [True, False])

    def test_two_decays_are_one_too_many_for_keras(self, path):
        innaprop.save_state(path, self.groups(decay_of_b=0.2))
        with pytest.raises(ValueError, match=r"weight_decay must be the same .* 0\.1 for 'w' and"):
            innaprop.load_state(path, keras_optimizer())

    def test_groups_of_one_framework_keep_their_own(self, path):
        innaprop.save_state(path, self.groups(lr=0.5, alpha=1.0))
        optimizer = innaprop.load_state(path, self.groups(decay_of_b=0.3))
        assert [group["lr"] for group in optimizer.param_groups] == [1e-3, 0.5]
        assert [group["alpha"] for group in optimizer.param_groups] == [0.1, 1.0]

    def test_a_group_without_parameters_keeps_its_numbers(self, theirs):
        model = {"w": torch.nn.Parameter(torch.ones(2, 3)), "b": torch.nn.Parameter(torch.ones(2))}
        optimizer = innaprop.torch.INNAprop(model.values())
        optimizer.add_param_group({"params": [], "lr": 0.25})
        innaprop.load_state(theirs, optimizer, model)
        assert [group["lr"] for group in optimizer.param_groups] == [1e-2, 0.25]


class TestOptax:
    def test_what_is_not_told_is_not_known(self, path):
        params = parameters()
        state = innaprop.optax.innaprop(1e-2).init(params)
        innaprop.save_state(path, state, params)
        assert set(of_file(path).values()) == {None}
        assert innaprop.read_state(path).parameters["w"].psi is None
        optimizer = innaprop.load_state(path, torch_optimizer(lr=0.5))
        assert optimizer.param_groups[0]["lr"] == 0.5

    def test_what_is_told(self, path):
        params = parameters()
        state = innaprop.optax.innaprop(1e-2).init(params)
        told = {
            "learning_rate": optax.linear_schedule(1e-2, 0.0, 10),
            "alpha": 2.0,
            "beta": 3.0,
            "weight_decay": 0.1,
            "mask": {"w": True, "b": False},
        }
        innaprop.save_state(path, state, params, hyperparameters=told)
        expected = {**dict.fromkeys(THEIRS), "gamma": 1e-2, "alpha": 2.0, "beta": 3.0}
        assert of_file(path) == {**expected, "weight_decay": 0.1}
        assert of_file(path, "b") == {**expected, "weight_decay": 0.0}
        np.testing.assert_allclose(innaprop.read_state(path).parameters["w"].psi, 1 - 6.0)

    def test_injected_numbers_are_read_and_set_and_schedules_stay(self, theirs):
        params = parameters()
        optimizer = optax.inject_hyperparams(innaprop.optax.innaprop)(
            optax.linear_schedule(0.5, 0.0, 10), alpha=1, beta=4.0, weight_decay=0
        )
        state = innaprop.load_state(theirs, optimizer.init(params), params)
        assert float(state.hyperparams["alpha"]) == 2.0
        assert float(state.hyperparams["weight_decay"]) == pytest.approx(0.1)
        assert int(state.count) == int(state.inner_state.count) == 1
        grads = {"w": jnp.ones((2, 3)), "b": jnp.ones(2)}
        _, state = optimizer.update(grads, state, params)
        assert float(state.hyperparams["learning_rate"]) == pytest.approx(0.45)
        innaprop.save_state(theirs, state, params)
        assert of_file(theirs) == {**THEIRS, "gamma": 0.45, "decay_momentum": None}

    def test_injected_schedules_of_alpha_and_beta_are_not_in_the_file(self, path):
        state = optax.inject_hyperparams(innaprop.optax.innaprop)(
            1e-2, alpha=optax.linear_schedule(2.0, 1.0, 10), beta=3.0
        ).init(parameters())
        innaprop.save_state(path, state, parameters())
        assert (of_file(path)["alpha"], of_file(path)["beta"]) == (None, 3.0)
        assert innaprop.read_state(path).parameters["w"].psi is None

    def test_what_was_put_on_a_device_stays_there(self, theirs):
        params = parameters()
        state = innaprop.optax.innaprop(1e-2).init(params)
        (device,) = state.momentum["w"].devices()
        placed = innaprop.load_state(theirs, jax.device_put(state, device), params)
        free = innaprop.load_state(theirs, state, params)
        for own in ("momentum", "second_moment"):
            assert getattr(placed, own)["w"].committed
            assert not getattr(free, own)["w"].committed

    def test_in_chains_and_wrappers(self, theirs):
        params = parameters()
        optimizer = optax.chain(
            optax.clip_by_global_norm(1.0),
            optax.apply_if_finite(innaprop.optax.innaprop(1e-2), 3),
        )
        before = optimizer.init(params)
        after = innaprop.load_state(theirs, before, params)
        assert int(before[1].inner_state.count) == 0
        inner = after[1].inner_state
        assert int(inner.count) == 1
        assert float(inner.second_moment["b"][0]) == pytest.approx(0.1)
        assert type(after[1]) is type(before[1])
        optimizer.update(parameters(), after, params)

    @pytest.mark.parametrize("count", [0, 2])
    def test_one_state_there_must_be(self, count, theirs):
        params = parameters()
        chain = optax.chain(*[innaprop.optax.innaprop(1e-2)] * count, optax.scale(1.0))
        with pytest.raises(TypeError, match=f"one INNApropState, .* got tuple with {count}"):
            innaprop.load_state(theirs, chain.init(params), params)

    def test_parameters_there_must_be(self, theirs):
        state = innaprop.optax.innaprop(1e-2).init(parameters())
        with pytest.raises(ValueError, match="parameters must be given, got None"):
            innaprop.load_state(theirs, state)

    def test_unknown_hyperparameters(self, path):
        state = innaprop.optax.innaprop(1e-2).init(parameters())
        with pytest.raises(TypeError, match=r"with keys of alpha, .* got {'lr': 1}"):
            innaprop.save_state(path, state, parameters(), hyperparameters={"lr": 1})


class TestKeras:
    def test_an_optimizer_that_is_not_built(self, theirs):
        optimizer = innaprop.keras.INNAprop()
        for call in (innaprop.save_state, innaprop.load_state):
            with pytest.raises(ValueError, match="must be built, and is not"):
                call(theirs, optimizer)

    def test_moving_averages_are_not_in_the_file(self, theirs):
        with pytest.raises(ValueError, match="use_ema must be False"):
            innaprop.load_state(theirs, keras_optimizer(use_ema=True))

    def test_accumulated_gradients_are_not_in_the_file(self, path, theirs):
        optimizer = keras_optimizer(gradient_accumulation_steps=2)
        gradients = [keras.ops.ones((2, 3)), keras.ops.ones(2)]
        optimizer.apply(gradients)
        with pytest.raises(ValueError, match="must not be partly accumulated, got 1 of 2"):
            innaprop.save_state(path, optimizer)
        innaprop.load_state(theirs, optimizer)
        # From the first of two gradients again, with nothing of what there was.
        assert int(optimizer.iterations) == 1
        optimizer.apply(gradients)
        optimizer.apply(gradients)
        straight = innaprop.load_state(theirs, keras_optimizer())
        straight.apply(gradients)
        for a, b in zip(optimizer._momentums, straight._momentums, strict=True):
            np.testing.assert_allclose(
                keras.ops.convert_to_numpy(a), keras.ops.convert_to_numpy(b), rtol=1e-6
            )


def test_tensorflow_counts_each_variable_and_all_calls(path):
    v, w = tf.Variable([1.0], name="v"), tf.Variable([1.0], name="w")
    optimizer = innaprop.tensorflow.INNAprop()
    optimizer.apply([tf.ones(1)], [v])
    optimizer.apply([tf.ones(1)], [w])
    optimizer.apply([tf.ones(1)], [w])
    innaprop.save_state(path, optimizer)
    again = innaprop.tensorflow.INNAprop()
    again.build([w, v])
    innaprop.load_state(path, again)
    assert [int(n) for n in again.updates] == [2, 1]
    assert int(again.iterations) == 3


def test_a_tensorflow_optimizer_that_is_not_built(theirs):
    with pytest.raises(ValueError, match="the optimizer must be built, and is not"):
        innaprop.load_state(theirs, innaprop.tensorflow.INNAprop())


class TestTorch:
    def test_the_authors_psi_that_is_still_to_become_a_momentum(self, path):
        p = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
        optimizer = innaprop.torch.INNAprop([("p", p)])
        for g in ([1.0, 2.0], [3.0, -1.0]):
            p.grad = torch.tensor(g)
            optimizer.step()
        state = optimizer.state[p]
        theirs = {"step": 2, "exp_avg_sq": state["exp_avg_sq"], "psi": optimizer.psi(p)}
        optimizer.load_state_dict(
            {"state": {0: theirs}, "param_groups": [{"params": [0], "alpha": 0.1, "beta": 0.9}]}
        )
        innaprop.save_state(path, optimizer)
        saved = innaprop.read_state(path).parameters["p"]
        m = state["momentum_buffer"].numpy()
        np.testing.assert_allclose(saved.momentum, m, atol=1e-6)
        assert "psi" in optimizer.state[p]

    def test_parameters_that_were_never_updated(self, path):
        optimizer = torch_optimizer()
        innaprop.save_state(path, optimizer)
        assert not optimizer.state
        assert innaprop.read_state(path).parameters["w"].step == 0

    def test_complex_parameters_have_no_place_elsewhere(self, path):
        p = torch.nn.Parameter(torch.ones(1, dtype=torch.complex64))
        with pytest.raises(TypeError, match=r"must be real, got one of torch\.complex64"):
            innaprop.save_state(path, innaprop.torch.INNAprop([("p", p)]))

    def test_float16_keeps_its_residual_and_bfloat16_does_not_take_it(self, path):
        def half(dtype, **options):
            p = torch.nn.Parameter(torch.linspace(1, 2, 50).to(dtype))
            return p, innaprop.torch.INNAprop([("p", p)], lr=1e-4, **options)

        p, optimizer = half(torch.float16)
        for _ in range(3):
            p.grad = torch.ones_like(p)
            optimizer.step()
        residual = optimizer.state[p]["residual"]
        assert residual.any()
        innaprop.save_state(path, optimizer)
        for dtype in (torch.float16, torch.bfloat16):
            q, other = half(dtype)
            q.grad = torch.ones_like(q)
            other.step()
            innaprop.load_state(path, other)
            expected = residual if dtype == torch.float16 else torch.zeros_like(residual)
            assert torch.equal(other.state[q]["residual"], expected)
        q, other = half(torch.float16, residual=False)
        innaprop.load_state(path, other)
        assert "residual" not in other.state[q]
        q, other = half(torch.float32)
        innaprop.load_state(path, other)
        assert "residual" not in other.state[q]
