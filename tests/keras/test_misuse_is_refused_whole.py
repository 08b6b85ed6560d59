"""Every misuse has an error that names what was given, and changes nothing."""

import re

import keras
import numpy as np
import pytest
from keras import ops

import innaprop
from innaprop.keras import INNAprop


def scalar(value):
    return ops.convert_to_tensor(np.float32(value))


@keras.saving.register_keras_serializable(package="misuse")
class Constant(keras.optimizers.schedules.LearningRateSchedule):
    """A rate, and another one after the first update."""

    def __init__(self, first, then=None):
        self.first, self.then = first, first if then is None else then

    def __call__(self, step):
        return ops.where(ops.equal(step, 0), self.first, self.then)


@pytest.fixture
def built():
    """An optimizer of two variables that has made an update."""
    variables = [
        keras.Variable(np.ones((2, 3)), dtype="float32", name="kernel"),
        keras.Variable(np.ones(3), dtype="bfloat16", name="bias"),
    ]
    optimizer = INNAprop(1e-2)
    optimizer.apply([ops.ones((2, 3)), ops.ones(3, "bfloat16")], variables)
    return optimizer, variables


def everything(optimizer, variables):
    return [
        np.array(ops.convert_to_numpy(ops.cast(v, "float32")))
        for v in [*variables, *optimizer.variables]
    ]


def test_arguments(bad_argument):
    arguments, error, message = bad_argument
    with pytest.raises(error, match=re.escape(message)):
        INNAprop(**arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"momentum": 0.9}, ValueError, "momentum"),
        ({"alpha": None}, TypeError, "alpha must be a finite number >= 0, got None"),
        ({"alpha": True}, TypeError, "alpha must be a finite number >= 0, got True"),
        ({"learning_rate": None}, TypeError, "learning_rate must be a finite number >= 0"),
        ({"residual": 1}, TypeError, "residual must be True or False, got 1"),
        ({"alpha": lambda k: "much"}, TypeError, "alpha must give a number or a scalar tensor"),
        ({"alpha": lambda k: None}, TypeError, "at every step, got None"),
        ({"beta": lambda k: ops.ones(2)}, TypeError, "beta must give a number or a scalar tensor"),
        ({"alpha": lambda k: -1.0}, ValueError, "alpha must be a finite number >= 0, got -1.0"),
        ({"beta": lambda k: scalar(0.0)}, ValueError, "beta must be a finite number > 0, got 0.0"),
        (
            {"learning_rate": 0.5, "beta": lambda k: 0.25},
            ValueError,
            "learning_rate must be smaller than beta, got learning_rate=0.5 with beta=0.25",
        ),
        (
            {"learning_rate": Constant(1.0)},
            ValueError,
            "learning_rate must be smaller than beta, got learning_rate=1.0 with beta=0.9",
        ),
        (
            {"learning_rate": [keras.Variable(np.ones(2))] * 2},
            TypeError,
            "got a list of 2: an optimizer of Keras gets its variables by compile, build or apply",
        ),
        ({"learning_rate": np.ones(2)}, TypeError, "learning_rate must be a finite number >= 0"),
        (
            {"beta_1": 0.9},
            ValueError,
            "beta_1 is not an argument of INNAprop: leave it out, and choose the dampings",
        ),
        ({"beta_2": 0.9}, ValueError, "the decay rate of its second moment is sigma"),
        ({"lr": 0.1}, ValueError, "the learning rate is learning_rate"),
        ({"clipnorm": 1.0, "clipvalue": 1.0}, ValueError, "Only one of `clipnorm`, `clipvalue`"),
        ({"gradient_accumulation_steps": 1}, ValueError, "must be an integer >= 2"),
        ({"use_ema": True, "ema_momentum": 2.0}, ValueError, "must be in the range [0, 1]"),
    ],
    ids=lambda value: str(next(iter(value.items()))) if isinstance(value, dict) else "",
)
def test_more_arguments(arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        INNAprop(**arguments)


@pytest.mark.parametrize("dtype", ["int8", "int32"])
def test_dtypes_of_variables(dtype):
    optimizer = INNAprop()
    variable = keras.Variable(np.ones(2), dtype=dtype, trainable=False, name="narrow")
    message = f"must be float32, float64, bfloat16 or float16, got narrow of {dtype}"
    with pytest.raises(TypeError, match=message):
        optimizer.build([variable])
    with pytest.raises(TypeError, match=message):
        optimizer.apply([ops.ones(2)], [variable])
    assert not optimizer.built
    assert len(optimizer.variables) == 2


class LegacyVariable:
    """As those of Keras 2 look: neither this Keras's, nor this backend's."""

    shape, dtype, name = (2,), "float32", "kernel:0"


@pytest.mark.parametrize("variable", [LegacyVariable(), np.ones(2), "kernel"])
def test_what_is_no_variable(variable):
    optimizer = INNAprop()
    with pytest.raises(TypeError, match=r"must be keras.Variable, as those of a Keras 3 model"):
        optimizer.build([variable])
    assert not optimizer.built


@pytest.mark.parametrize(
    "rate",
    [0.9, float("nan"), -1.0, scalar(1.0), np.array(1.0), keras.Variable(1.0), Constant(1.0)],
    ids=["equal", "nan", "negative", "tensor", "array", "variable", "schedule"],
)
def test_a_learning_rate_set_out_of_range(rate):
    optimizer = INNAprop(1e-3)
    with pytest.raises(ValueError, match="learning_rate must be"):
        optimizer.learning_rate = rate
    assert float(optimizer.learning_rate) == np.float32(1e-3)


def by_assign(optimizer):
    optimizer.learning_rate.assign(1.0)


def by_a_lower_beta(optimizer):
    optimizer.beta = 1e-3


def by_a_schedule_of_beta(optimizer):
    optimizer.beta = lambda k: scalar(1e-3)


def by_a_schedule(optimizer):
    optimizer._iterations.assign(0)
    optimizer.learning_rate = Constant(1e-2, 1.0)
    optimizer._iterations.assign((optimizer.gradient_accumulation_steps or 1) * 2 - 1)


def by_a_callable(optimizer):
    optimizer.learning_rate = lambda: 1.0


@pytest.mark.parametrize(
    "raised", [by_assign, by_a_lower_beta, by_a_schedule_of_beta, by_a_schedule, by_a_callable]
)
@pytest.mark.parametrize("accumulated", [None, 2])
def test_learning_rates_that_are_not_below_beta_at_an_update(raised, accumulated):
    """However they came to be; JAX has no numbers where it accumulates."""
    if accumulated and keras.backend.backend() == "jax":
        pytest.skip("the update is traced")
    variables = [keras.Variable(np.ones(2), dtype="float32"), keras.Variable(np.ones(3))]
    optimizer = INNAprop(1e-2, gradient_accumulation_steps=accumulated)
    gradients = [ops.ones(2), ops.ones(3)]
    for _ in range(accumulated or 1):
        optimizer.apply(gradients, variables)
    for _ in range((accumulated or 1) - 1):
        optimizer.apply(gradients)
    raised(optimizer)
    before = everything(optimizer, variables)
    with pytest.raises(ValueError, match="learning_rate must be smaller than beta, got learning"):
        optimizer.apply(gradients)
    for ours, theirs in zip(before, everything(optimizer, variables), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="fit is not compiled there")
def test_a_compiled_step_takes_a_learning_rate_as_it_is(regression):
    """It has no numbers. The formulas hold beyond beta, where they are no Algorithm 1 any more."""
    model, x, y = regression
    model.compile(INNAprop(1e-2), "mse")
    model.train_on_batch(x, y)
    model.optimizer.learning_rate.assign(1.0)
    model.train_on_batch(x, y)
    assert all(np.isfinite(w).all() for w in model.get_weights())


def test_a_learning_rate_of_a_file_that_is_not_below_a_schedule_of_beta(built, tmp_path):
    other, variables = built
    other.beta, other.learning_rate = 3.0, 2.0
    innaprop.save_state(tmp_path / "state.safetensors", other)
    optimizer = INNAprop(1e-2, beta=lambda k: 0.9 + 0.0 * k)
    optimizer.build(variables)
    before = everything(optimizer, variables)
    with pytest.raises(ValueError, match="learning_rate must be smaller than beta, got learning"):
        innaprop.load_state(tmp_path / "state.safetensors", optimizer)
    for ours, theirs in zip(before, everything(optimizer, variables), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_number_set_where_a_schedule_is():
    schedule = keras.optimizers.schedules.ExponentialDecay(1e-3, 10, 0.5)
    optimizer = INNAprop(schedule)
    with pytest.raises(TypeError, match="its learning rate is not settable"):
        optimizer.learning_rate = 1e-4
    assert float(optimizer.learning_rate) == np.float32(1e-3)


GRADIENTS = {
    "another shape": (lambda: [ops.ones((2, 3)), ops.ones(1)], "of bias must have shape (3,)"),
    "transposed": (lambda: [ops.ones((3, 2)), ops.ones(3)], "of kernel must have shape (2, 3)"),
    "too few": (lambda: [ops.ones((2, 3))], "for each of the 2 variables, got 1"),
    "too many": (lambda: [ops.ones(3)] * 3, "for each of the 2 variables, got 3"),
    "integers": (lambda: [ops.ones((2, 3), "int32"), None], "of kernel must be a floating tensor"),
    "a list": (lambda: [[[1.0] * 3] * 2, ops.ones(3)], "of kernel must be a floating tensor"),
    "none at all": (lambda: [None, None], "No gradients provided for any variable"),
}


@pytest.mark.parametrize("case", GRADIENTS)
def test_gradients(case, built):
    optimizer, variables = built
    before = everything(optimizer, variables)
    gradients, message = GRADIENTS[case]
    for given in (variables, None):
        with pytest.raises((TypeError, ValueError), match=re.escape(message)):
            optimizer.apply(gradients(), given)
    for ours, theirs in zip(before, everything(optimizer, variables), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_variables_that_come_twice_or_are_new(built):
    optimizer, variables = built
    before = everything(optimizer, variables)
    with pytest.raises(ValueError, match="trainable_variables must name each variable once"):
        optimizer.apply([ops.ones((2, 3))] * 2, [variables[0]] * 2)
    stranger = keras.Variable(np.ones(2), dtype="float32")
    with pytest.raises(ValueError, match="recreate a new optimizer instance"):
        optimizer.apply([ops.ones((2, 3)), ops.ones(2)], [variables[0], stranger])
    with pytest.raises(ValueError, match="Unknown variable"):
        optimizer.psi(stranger)
    for ours, theirs in zip(before, everything(optimizer, variables), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_gradients_before_variables_are_known():
    with pytest.raises(ValueError, match=re.escape("Call `optimizer.build(trainable_variables)`")):
        INNAprop().apply([ops.ones(2)])


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("alpha", -1.0, "alpha must be a finite number >= 0, got -1.0"),
        ("beta", 0.0, "beta must be a finite number > 0, got 0.0"),
        ("sigma", 1.0, "sigma must be a number in [0, 1), got 1.0"),
        ("epsilon", None, "epsilon must be a finite number >= 0, got None"),
        ("weight_decay", -0.1, "weight_decay must be a finite number >= 0, got -0.1"),
    ],
)
def test_options_set_later(name, value, message, built):
    optimizer, variables = built
    before = everything(optimizer, variables)
    setattr(optimizer, name, value)
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        optimizer.apply([ops.ones((2, 3)), ops.ones(3)], variables)
    for ours, theirs in zip(before, everything(optimizer, variables), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_schedule_that_leaves_its_range(built):
    optimizer, variables = built
    optimizer.alpha = lambda k: -2.0
    before = everything(optimizer, variables)
    with pytest.raises(ValueError, match=re.escape("alpha must be a finite number >= 0, got -2.0")):
        optimizer.apply([ops.ones((2, 3)), ops.ones(3)], variables)
    for ours, theirs in zip(before, everything(optimizer, variables), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_exclusion_from_weight_decay(built):
    """A string is a list of letters, and ``b|i|a|s`` is found in every name."""
    with pytest.raises(TypeError, match="var_names must be a list of strings, got the string"):
        INNAprop().exclude_from_weight_decay(var_names="bias")
    with pytest.raises(ValueError, match="must come before the optimizer is built"):
        built[0].exclude_from_weight_decay(var_names=["bias"])


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="not offered there by Keras")
def test_stateless_apply(built):
    optimizer, variables = built
    values = [v.value for v in variables]
    with pytest.raises(ValueError, match="must be built"):
        INNAprop().stateless_apply([], [], values)
    with pytest.raises(ValueError, match="Received list with length 1"):
        optimizer.stateless_apply([ops.ones(())], [ops.ones(3)], values)


def test_a_frozen_layer_that_is_unfrozen_needs_a_new_optimizer(regression):
    model, x, y = regression
    model.layers[0].trainable = False
    frozen = model.layers[0].get_weights()
    model.compile(INNAprop(1e-2), "mse")
    model.train_on_batch(x, y)
    for ours, theirs in zip(frozen, model.layers[0].get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    model.layers[0].trainable = True
    old = model.optimizer
    model.compile(old, "mse")
    with pytest.raises(ValueError, match=r"built with|recreate a new optimizer"):
        model.train_on_batch(x, y)
    model.compile(INNAprop.from_config(old.get_config()), "mse")
    model.train_on_batch(x, y)
    assert (frozen[0] != model.layers[0].get_weights()[0]).any()


def test_a_gradient_behind_one_that_is_missing_is_checked_too():
    v, w = (keras.Variable(np.ones(2, "float32")) for _ in range(2))
    optimizer = INNAprop()
    optimizer.build([v, w])
    with pytest.raises(TypeError, match="must be a floating tensor"):
        optimizer.apply([None, "gradient"], [v, w])


def test_a_list_of_names_is_copied():
    names, optimizer = ["bias"], INNAprop()
    optimizer.exclude_from_weight_decay(var_names=names)
    names.append("kernel")
    assert optimizer.get_config()["exclude_from_weight_decay"] == ["bias"]
