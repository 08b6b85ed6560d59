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
