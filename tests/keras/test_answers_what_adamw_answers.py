"""What Keras asks of an optimizer has the answer that its own AdamW gives."""

import copy
import pickle
import warnings

import keras
import numpy as np
import pytest
from keras import ops

from innaprop.keras import INNAprop

OPTIMIZERS = [INNAprop, keras.optimizers.AdamW]
LossScale = keras.optimizers.LossScaleOptimizer


def compiled(optimizer, train=True):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(2)])
    if optimizer is not None:
        model.compile(optimizer, "mse")
        if train:
            model.train_on_batch(np.ones((2, 4)), np.ones((2, 2)))
    return model


def through_weights(saved, target, folder):
    saved.save_weights(folder / "model.weights.h5")
    target.load_weights(folder / "model.weights.h5")
    return saved, target


def through_model(saved, folder):
    saved.save(folder / "model.keras")
    return saved, keras.models.load_model(folder / "model.keras")


def frozen(make, folder):
    model = compiled(make())
    model.layers[0].trainable = False
    return through_model(model, folder)


def given_lora(make, folder):
    model = compiled(make())
    model.layers[0].enable_lora(2)
    return through_model(model, folder)


def of_another_optimizer(make, folder):
    return through_weights(compiled(keras.optimizers.SGD(momentum=0.9)), compiled(make()), folder)


LOADED = {
    "trained": lambda make, folder: through_model(compiled(make()), folder),
    "trained, scaled": lambda make, folder: through_model(compiled(LossScale(make())), folder),
    "frozen since": frozen,
    "lora since": given_lora,
    "into a model that was not trained": lambda make, folder: through_weights(
        compiled(make()), compiled(make(), train=False), folder
    ),
    "into such a one, scaled": lambda make, folder: through_weights(
        compiled(LossScale(make())), compiled(LossScale(make()), train=False), folder
    ),
    "scaled from unscaled": lambda make, folder: through_weights(
        compiled(make()), compiled(LossScale(make())), folder
    ),
    "of a model without an optimizer": lambda make, folder: through_weights(
        compiled(None), compiled(make()), folder
    ),
    "of another optimizer": of_another_optimizer,
    "copied with its model": lambda make, folder: (model := compiled(make()), copy.deepcopy(model)),
    "pickled with its model": lambda make, folder: (
        model := compiled(make()),
        pickle.loads(pickle.dumps(model)),
    ),
}


@pytest.mark.parametrize("case", LOADED)
def test_models_and_weights_are_loaded(case, tmp_path):
    """The weights always; the state if it fits, and otherwise there is a warning."""
    answers = []
    for make in OPTIMIZERS:
        with warnings.catch_warnings(record=True) as told:
            warnings.filterwarnings("always", category=UserWarning)
            saved, loaded = LOADED[case](make, tmp_path)
        x = np.ones((2, 4))
        np.testing.assert_allclose(saved.predict_on_batch(x), loaded.predict_on_batch(x))
        optimizer = loaded.optimizer
        answers.append((optimizer.built, int(optimizer.iterations), len(told)))
        loaded.compile(optimizer, "mse")
        loaded.train_on_batch(np.ones((2, 4)), np.ones((2, 2)))
    assert answers[0] == answers[1]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_an_optimizer_is_copied_without_the_state_of_variables_it_does_not_have(copied):
    for make in OPTIMIZERS:
        optimizer = compiled(make(2e-3)).optimizer
        with warnings.catch_warnings(record=True) as told:
            warnings.filterwarnings("always", category=UserWarning)
            again = copied(optimizer)
        assert len(told) == 1
        assert again.get_config() == optimizer.get_config()
        assert not again.built


@keras.saving.register_keras_serializable(package="tests")
class Pair(keras.Model):
    """Two parts with an optimizer each, as generator and discriminator are."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first, self.second = keras.layers.Dense(3), keras.layers.Dense(2)

    def compile(self, optimizer_1, optimizer_2):
        super().compile(loss="mse")
        self.optimizer_1, self.optimizer_2 = optimizer_1, optimizer_2

    def call(self, x):
        return self.second(self.first(x))

    def parts(self):
        return [(self.optimizer_1, self.first), (self.optimizer_2, self.second)]


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_a_pair_of_optimizers(make, tmp_path):
    saved, loaded = Pair(), Pair()
    for model in (saved, loaded):
        model.compile(make(), make())
        model(np.ones((2, 4)))
    for optimizer, layer in saved.parts():
        optimizer.apply(
            [ops.ones(v.shape) for v in layer.trainable_variables], layer.trainable_variables
        )
    saved.save_weights(tmp_path / "model.weights.h5")
    with pytest.warns(UserWarning, match=r"was not loaded|Skipping variable loading"):
        loaded.load_weights(tmp_path / "model.weights.h5")
    for ours, theirs in zip(saved.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for optimizer, layer in loaded.parts():
        optimizer.build(layer.trainable_variables)
    loaded.load_weights(tmp_path / "model.weights.h5")
    assert [int(optimizer.iterations) for optimizer, _ in loaded.parts()] == [1, 1]


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_names_are_numbered(make):
    keras.utils.clear_session()
    first, second, named, third = make(), make(), make(name="mine"), make()
    assert [second.name, named.name, third.name] == [f"{first.name}_1", "mine", f"{first.name}_2"]
    assert make.from_config(second.get_config()).name == second.name
    keras.utils.clear_session()
    assert make().name == first.name


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_two_in_one_model(make):
    """Their variables have paths of their own."""
    kernels, others = make(), make()
    optimizer = keras.optimizers.MultiOptimizer(lambda v: kernels if "kernel" in v.path else others)
    tree = compiled(optimizer).get_state_tree()["optimizer_variables"]
    assert {kernels.name, others.name} < set(tree)


@pytest.mark.parametrize(("name", "make"), [("innaprop", INNAprop), ("adamw", OPTIMIZERS[1])])
def test_strings_and_configs_are_understood(name, make):
    assert type(keras.optimizers.get(name)) is type(make())
    model = compiled(name)
    assert type(model.optimizer) is type(make())
    config = keras.optimizers.serialize(make(2e-3, name="mine", clipnorm=1.0))
    again = keras.optimizers.deserialize(config)
    assert (again.name, again.clipnorm) == ("mine", 1.0)
    np.testing.assert_allclose(float(again.learning_rate), 2e-3, rtol=1e-6)


def numpy(x):
    return np.array(ops.convert_to_numpy(x))


def variable(path="v", **options):
    return keras.Variable([[1.0, 2.0], [3.0, 4.0]], dtype="float32", name=path, **options)


def after(optimizer, updates=1):
    """The values of ``variable()`` after updates with a gradient of ones."""
    v = variable()
    for _ in range(updates):
        optimizer.apply([ops.ones((2, 2))], [v])
    return numpy(v)


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_a_gradient_that_is_a_value_to_take(make):
    """So float8 trains its scales. Accumulated, it is the largest."""
    scale, v = variable("scale"), variable()
    scale.overwrite_with_gradient = True
    make(1e-2).apply([ops.full((2, 2), 7.0), ops.ones((2, 2))], [scale, v])
    np.testing.assert_array_equal(numpy(scale), 7.0)
    np.testing.assert_array_equal(numpy(v), after(make(1e-2)))

    optimizer = make(1e-2, gradient_accumulation_steps=2)
    optimizer.apply([ops.full((2, 2), 9.0), ops.ones((2, 2))], [scale, v])
    np.testing.assert_array_equal(numpy(scale), 7.0)
    optimizer.apply([ops.full((2, 2), 8.0), ops.ones((2, 2))], [scale, v])
    np.testing.assert_array_equal(numpy(scale), 9.0)
    assert int(optimizer.iterations) == 1


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_constraints(make):
    v = keras.Variable([-1.0, 1.0], dtype="float32")
    v.constraint = keras.constraints.NonNeg()
    make(1e-4).apply([ops.zeros(2)], [v])
    assert numpy(v)[0] == 0
    assert numpy(v)[1] > 0.99


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_learning_rates_of_every_kind(make):
    expected = after(make(0.125), 3)
    np.testing.assert_array_equal(after(make(lambda: 0.125), 3), expected)
    constant = keras.optimizers.schedules.ExponentialDecay(0.125, 1, 1.0)
    np.testing.assert_array_equal(after(make(constant), 3), expected)
    later = make(1e-3)
    assert len(later.variables) == 2
    later.learning_rate = constant
    assert len(later.variables) == 1
    np.testing.assert_array_equal(after(later, 3), expected)


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_weights_of_one_optimizer_set_in_another(make):
    one, other, v = make(1e-2), make(1e-3), variable()
    one.apply([ops.ones((2, 2))], [v])
    with pytest.raises(ValueError, match="You are calling"):
        other.set_weights(one.variables)
    other.build([v])
    other.set_weights(one.variables)
    for ours, theirs in zip(one.variables, other.variables, strict=True):
        np.testing.assert_array_equal(numpy(ours), numpy(theirs))


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_many_optimizers_as_one(make):
    first, second = make(1e-2), make(1e-3)
    both = keras.optimizers.MultiOptimizer(lambda v: first if v.name == "first" else second)
    a, b = variable("first"), variable("second")
    both.build([a, b])
    both.apply([ops.ones((2, 2))] * 2, [a, b])
    np.testing.assert_array_equal(numpy(a), after(make(1e-2)))
    np.testing.assert_array_equal(numpy(b), after(make(1e-3)))


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_a_run_that_was_interrupted_goes_on_from_its_backup(make, tmp_path):
    class Interrupt(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    def fit(*callbacks, folder="backup"):
        keras.utils.set_random_seed(0)
        model = compiled(make(1e-2), train=False)
        callbacks = [keras.callbacks.BackupAndRestore(tmp_path / folder), *callbacks]
        x = np.ones((4, 4))
        model.fit(x, x[:, :2], epochs=4, verbose=0, shuffle=False, callbacks=callbacks)
        return model

    with pytest.raises(KeyboardInterrupt):
        fit(Interrupt())
    interrupted, whole = fit(), fit(folder="another")
    assert int(interrupted.optimizer.iterations) == int(whole.optimizer.iterations) == 4
    for ours, theirs in zip(interrupted.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


only_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="of TensorFlow alone"
)


@only_tensorflow
@pytest.mark.parametrize("make", OPTIMIZERS)
def test_checkpoints_of_tensorflow(make, tmp_path):
    import tensorflow as tf

    model = compiled(make(1e-2))
    checkpoint = tf.train.Checkpoint(model, optimizer=model.optimizer)
    path = checkpoint.save(str(tmp_path / "checkpoint"))
    saved = [numpy(v) for v in [*model.variables, *model.optimizer.variables]]
    model.train_on_batch(np.ones((2, 4)), np.zeros((2, 2)))
    checkpoint.restore(path)
    for ours, theirs in zip(saved, [*model.variables, *model.optimizer.variables], strict=True):
        np.testing.assert_array_equal(ours, numpy(theirs))


@only_tensorflow
@pytest.mark.parametrize("make", OPTIMIZERS)
def test_variables_of_tensorflow_beside_those_of_keras(make):
    import tensorflow as tf

    v, raw = variable(), tf.Variable([[1.0, 2.0], [3.0, 4.0]])
    make(1e-2).apply_gradients([(tf.ones((2, 2)), v), (tf.ones((2, 2)), raw)])
    np.testing.assert_array_equal(numpy(v), after(make(1e-2)))
    np.testing.assert_array_equal(raw.numpy(), numpy(v))
