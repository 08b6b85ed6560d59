"""State that is saved goes on where it was; what does not fit is refused whole."""

import os
import re
import runpy
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from innaprop.keras import INNAprop

PROGRAM = Path(__file__).with_name("program.py")
program = SimpleNamespace(**runpy.run_path(PROGRAM))
BACKENDS = ["tensorflow", "jax", "torch"]


def run(role, folder, backend, kinds=program.KINDS):
    return subprocess.run(
        [sys.executable, PROGRAM, role, folder, *kinds],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def half_way(tmp_path_factory):
    """Models that were trained a hundred steps in a process that was killed then."""
    folder = tmp_path_factory.mktemp("half_way")
    done = run("begin", folder, keras.backend.backend())
    assert done.returncode == -9, done.stderr
    return folder


@pytest.fixture(scope="module")
def uninterrupted():
    ends = {}
    for kind in program.KINDS:
        model = program.make_model()
        start = program.everything(model)
        program.advance(model, 0, 200, kind)
        ends[kind] = start, program.everything(model)
    return ends


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_hundred_steps_more_in_a_new_process_of_any_backend(half_way, uninterrupted, backend):
    """Of the same backend bit by bit; on another one within rounding, gradients given."""
    same = backend == keras.backend.backend()
    kinds = program.KINDS if same else ["gradients"]
    done = run("go_on", half_way, backend, kinds)
    assert done.returncode == 0, done.stderr
    for kind in kinds:
        start, expected = uninterrupted[kind]
        with np.load(half_way / f"{kind}-{backend}.npz") as saved:
            got = list(saved.values())
        assert len(got) == len(expected)
        for before, ours, theirs in zip(start, expected, got, strict=True):
            if same:
                np.testing.assert_array_equal(ours, theirs)
            else:
                assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(ours - before).max() + 1e-6


def test_the_file_holds_the_residual_in_two_bytes(half_way):
    import zipfile

    import h5py

    with zipfile.ZipFile(half_way / "losses.keras") as archive:
        archive.extract("model.weights.h5", half_way)
    with h5py.File(half_way / "model.weights.h5") as file:
        dtypes = [str(value.dtype) for value in file["optimizer/vars"].values()]
    assert dtypes.count("int16") == 2
    assert dtypes.count("float32") == 1 + 2 * 5  # learning rate, state of five variables


def trained(**options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(2)])
    model.compile(INNAprop(1e-2, **options), "mse")
    model.train_on_batch(np.ones((2, 4)), np.ones((2, 2)))
    return model


def values(optimizer):
    return [np.array(keras.ops.convert_to_numpy(v)) for v in optimizer.variables]


def test_own_variables_are_kept_by_any_mapping():
    source, target = trained().optimizer, trained().optimizer
    source.iterations.assign(7)
    store = {}
    source.save_own_variables(store)
    target.load_own_variables(store)
    for ours, theirs in zip(values(source), values(target), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_state_of_a_model_that_was_not_trained_is_zero(tmp_path):
    model = trained()
    fresh = keras.models.clone_model(model)
    fresh.compile(INNAprop(5e-3), "mse")
    fresh.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.optimizer.built
    assert float(loaded.optimizer.learning_rate) == np.float32(5e-3)
    assert sum(np.abs(v).sum() for v in values(loaded.optimizer)[2:]) == 0


def test_weights_loaded_into_a_trained_optimizer(tmp_path):
    model = trained()
    model.save_weights(tmp_path / "model.weights.h5")
    expected = values(model.optimizer)
    model.train_on_batch(np.ones((2, 4)), np.zeros((2, 2)))
    model.load_weights(tmp_path / "model.weights.h5")
    for ours, theirs in zip(expected, values(model.optimizer), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def store_of(optimizer):
    store = {}
    optimizer.save_own_variables(store)
    return store


def another_models():
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3), keras.layers.Dense(2)])
    model.compile(INNAprop(), "mse")
    model.optimizer.build(model.trainable_variables)
    return store_of(model.optimizer)


def adams():
    model = trained()
    adamw = keras.optimizers.AdamW()
    adamw.build(model.trainable_variables)
    return store_of(adamw)


def of_other_variables():
    """As many values, of the same shapes, for fewer variables."""
    return {**store_of(trained().optimizer), "innaprop": np.ones(1, "int32")}


@pytest.mark.parametrize(
    ("store", "message"),
    [
        (adams, "it is that of another optimizer, not of innaprop.keras.INNAprop"),
        (dict, "there is none: the model was saved without an optimizer"),
        (another_models, "dense/kernel_momentum must have shape (4, 3), got (5, 3)"),
        (lambda: store_of(trained(use_ema=True).optimizer), "must have 10 variables, as this"),
        (of_other_variables, "it has 1 trainable variables, but this optimizer has 4"),
    ],
    ids=["adamw", "none", "another model", "other options", "other variables"],
)
def test_state_that_does_not_fit(store, message):
    """Keras's optimizers warn, and leave it out: weights are loaded without it, too."""
    optimizer = trained().optimizer
    before = values(optimizer)
    foreign = store()
    message = message.replace("dense/kernel", optimizer.variables[2].path.rpartition("_")[0])
    with pytest.warns(UserWarning, match=re.escape(message)):
        optimizer.load_own_variables(foreign)
    for ours, theirs in zip(before, values(optimizer), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_who_wants_an_error_asks_for_one(tmp_path):
    model = trained()
    model.layers[0].trainable = False
    model.save(tmp_path / "model.keras")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "the state of the optimizer")
        with pytest.raises(
            ValueError, match="must have 6 variables, as this optimizer has, got 10"
        ):
            keras.models.load_model(tmp_path / "model.keras")


def excluding(names=None, variables=(), **options):
    """A model, trained a step, with exclusions from weight decay."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(2)])
    optimizer = INNAprop(1e-2, weight_decay=0.1, **options)
    if names or variables:
        chosen = [model.trainable_variables[i] for i in variables]
        optimizer.exclude_from_weight_decay(var_list=chosen, var_names=names)
    model.compile(optimizer, "mse")
    model.train_on_batch(np.ones((2, 4)), np.ones((2, 2)))
    return model


def decayed(model):
    """Which variables lose something at an update without a gradient or a momentum."""
    optimizer, own = model.optimizer, model.trainable_variables
    optimizer.set_weights([np.zeros_like(v) for v in values(optimizer)])
    optimizer.learning_rate = 0.5
    for variable in own:
        variable.assign(np.ones(variable.shape))
    optimizer.apply([keras.ops.zeros(v.shape) for v in own], own)
    return [bool((keras.ops.convert_to_numpy(v) < 1).all()) for v in own]


KERNELS, BIASES = [True, False] * 2, [False, True] * 2


@pytest.mark.parametrize(
    ("there", "here", "expected", "warns"),
    [
        ({}, {"names": ["bias"]}, KERNELS, True),
        ({"names": ["kernel"]}, {"names": ["bias"]}, KERNELS, True),
        ({"names": ["bias"], "variables": [0]}, {"names": ["bias"]}, KERNELS, True),
        ({"names": ["bias"]}, {"names": ["bias"]}, KERNELS, False),
        ({"names": ["bias"]}, {"variables": [1, 3]}, KERNELS, False),
        ({"names": ["kernel"]}, {}, BIASES, False),
    ],
)
def test_exclusions_that_were_set_stand(there, here, expected, warns, tmp_path):
    """Whatever the file excludes; it counts where nothing was set."""
    excluding(**there).save_weights(tmp_path / "model.weights.h5")
    model = excluding(**here)
    given = model.optimizer.get_config()["exclude_from_weight_decay"]
    with warnings.catch_warnings(record=True) as told:
        warnings.filterwarnings("always", "the file excludes other variables")
        model.load_weights(tmp_path / "model.weights.h5")
    assert len(told) == warns
    assert model.optimizer.get_config()["exclude_from_weight_decay"] == given
    assert decayed(model) == expected


def test_exclusions_of_a_config_stand_too(tmp_path):
    excluding().save_weights(tmp_path / "model.weights.h5")
    model = excluding()
    config = excluding(names=["bias"]).optimizer.get_config()
    model.compile(INNAprop.from_config(config), "mse")
    model.optimizer.build(model.trainable_variables)
    with pytest.warns(UserWarning, match=r"whose exclusions stand: .*bias, .*bias"):
        model.load_weights(tmp_path / "model.weights.h5")
    assert decayed(model) == KERNELS


def test_a_loaded_model_has_what_was_excluded_by_name_and_by_variable(tmp_path):
    excluding(names=["bias"], variables=[2]).save(tmp_path / "model.keras")
    model = keras.models.load_model(tmp_path / "model.keras")
    assert decayed(model) == [True, False, False, False]


def test_state_for_an_optimizer_that_is_not_built():
    optimizer, store = INNAprop(), store_of(trained().optimizer)
    with pytest.warns(UserWarning, match=r"optimizer.build\(model.trainable_variables\) first"):
        optimizer.load_own_variables(store)
    assert int(optimizer.iterations) == 0


def test_weights_that_do_not_fit():
    optimizer = trained().optimizer
    before = values(optimizer)
    wrong = [np.ones_like(v) for v in before]
    wrong[-1] = np.ones(7, "float32")
    with pytest.raises(ValueError, match=r"must have shape \(2,\), got \(7,\)"):
        optimizer.set_weights(wrong)
    with pytest.raises(ValueError, match="must have 10 variables, as this optimizer has, got 3"):
        optimizer.set_weights(before[:3])
    for ours, theirs in zip(before, values(optimizer), strict=True):
        np.testing.assert_array_equal(ours, theirs)
