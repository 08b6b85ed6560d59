"""One optimizer in several functions, restored in a function, copied."""

import copy

import numpy as np
import pytest
import tensorflow as tf

from innaprop.forms.variables import in_xla
from innaprop.tensorflow import INNAprop

MODES = ["eager", "function", "xla"]


def gradients(n=20):
    rng = np.random.default_rng(0)
    return [tf.constant(rng.normal(size=3).astype("float32")) for _ in range(n)]


def wrap(function, mode):
    return function if mode == "eager" else tf.function(function, jit_compile=mode == "xla")


def test_one_optimizer_in_functions_of_all_kinds_and_retraced():
    w, twin = tf.Variable(tf.ones(3)), tf.Variable(tf.ones(3))
    optimizer, alone = INNAprop(1e-2), INNAprop(1e-2)
    traces = []

    def apply(g, scale):
        traces.append(scale)
        optimizer.apply([scale * g], [w])

    functions = [wrap(apply, mode) for mode in MODES]
    for k, g in enumerate(gradients()):
        # A Python number makes a function trace anew.
        functions[k % 3](g, float(1 + k % 4))
        alone.apply([float(1 + k % 4) * g], [twin])
    assert len(traces) > 6
    np.testing.assert_allclose(w.numpy(), twin.numpy(), rtol=1e-6)
    assert optimizer.updates[0].numpy() == 20


def test_a_function_that_xla_compiles_is_known_as_such_from_within_others():
    seen = []

    @tf.function
    def inner():
        seen.append(in_xla())

    tf.function(lambda: inner(), jit_compile=True)()
    tf.function(lambda: seen.append(in_xla()))()
    seen.append(in_xla())
    assert seen == [True, False, False]


@pytest.mark.parametrize("mode", ["function", "xla"])
def test_a_restore_before_the_state_exists_is_taken_up_by_a_function(mode, tmp_path):
    w, optimizer = tf.Variable(tf.ones(3)), INNAprop(1e-2)

    def apply(g, optimizer=optimizer, w=w):
        optimizer.apply([g], [w])

    for g in gradients()[:10]:
        apply(g)
    path = tf.train.Checkpoint(w=w, optimizer=optimizer).write(str(tmp_path / "checkpoint"))
    other_w, other = tf.Variable(tf.zeros(3)), INNAprop(1e-2)
    status = tf.train.Checkpoint(w=other_w, optimizer=other).read(path)
    compiled = wrap(lambda g: apply(g, other, other_w), mode)
    for g in gradients()[10:]:
        apply(g)
        compiled(g)
    status.assert_consumed()
    assert other.updates[0].numpy() == 20
    np.testing.assert_allclose(other_w.numpy(), w.numpy(), rtol=1e-6)


def test_the_manager_keeps_what_it_saved(tmp_path):
    w, optimizer = tf.Variable(tf.ones(3)), INNAprop(1e-2)
    checkpoint = tf.train.Checkpoint(w=w, optimizer=optimizer)
    manager = tf.train.CheckpointManager(checkpoint, str(tmp_path), max_to_keep=2)
    values = []
    for g in gradients()[:5]:
        optimizer.apply([g], [w])
        manager.save()
        values.append((w.numpy(), optimizer.momentums[0].numpy()))
    assert len(manager.checkpoints) == 2
    checkpoint.restore(manager.checkpoints[0]).assert_consumed()
    np.testing.assert_array_equal(w.numpy(), values[3][0])
    np.testing.assert_array_equal(optimizer.momentums[0].numpy(), values[3][1])
    assert optimizer.iterations.numpy() == 4


class Container(tf.Module):
    """Holds the optimizer before or after its variable."""

    def __init__(self, optimizer_first):
        super().__init__()
        w, optimizer = tf.Variable(tf.ones(3)), INNAprop(1e-2)
        if optimizer_first:
            self.optimizer, self.w = optimizer, w
        else:
            self.w, self.optimizer = w, optimizer

    def step(self, g):
        self.optimizer.apply([g], [self.w])


@pytest.mark.parametrize("optimizer_first", [False, True])
def test_a_copy_of_both_belongs_to_the_copied_variable(optimizer_first):
    module = Container(optimizer_first)
    for g in gradients()[:10]:
        module.step(g)
    copied = copy.deepcopy(module)
    for g in gradients()[10:]:
        copied.step(g)
    assert len(copied.optimizer.momentums) == 1
    assert module.optimizer.iterations.numpy() == 10
    before = module.w.numpy()
    for g in gradients()[10:]:
        module.step(g)
    assert (before != module.w.numpy()).all()
    np.testing.assert_array_equal(copied.w.numpy(), module.w.numpy())


def test_a_copy_of_the_optimizer_alone_goes_on_with_the_same_variables():
    w, optimizer = tf.Variable(tf.ones(3)), INNAprop(1e-2)
    for g in gradients()[:10]:
        optimizer.apply([g], [w])
    copied, start = copy.deepcopy(optimizer), w.numpy()
    ends = []
    for one in (optimizer, copied):
        w.assign(start)
        for g in gradients()[10:]:
            one.apply([g], [w])
        ends.append(w.numpy())
    assert len(copied.momentums) == 1
    np.testing.assert_array_equal(*ends)


@pytest.mark.parametrize("mode", MODES)
def test_state_is_that_of_adamw(mode):
    w, optimizer = tf.Variable(tf.ones((5, 7))), INNAprop()
    wrap(lambda: optimizer.apply([tf.ones((5, 7))], [w]), mode)()
    large = [v for v in optimizer.variables if v.shape.rank]
    assert sum(v.shape.num_elements() * v.dtype.size for v in large) == 2 * 4 * 5 * 7


@pytest.mark.parametrize("mode", MODES)
def test_equals_adamw_of_keras_for_alpha_beta_one(mode):
    import keras

    w, twin = tf.Variable(tf.ones(3, tf.float64)), tf.Variable(tf.ones(3, tf.float64))
    optimizer = INNAprop(1e-2, alpha=1.0, beta=1.0, weight_decay=0.1)
    theirs = keras.optimizers.AdamW(1e-2, beta_1=0.0, epsilon=1e-300, weight_decay=0.1)
    optimizer.epsilon = 0.0
    theirs.build([twin])
    apply = wrap(lambda g: optimizer.apply([g], [w]), mode)
    for g in gradients():
        apply(tf.cast(g, tf.float64))
        theirs.apply([tf.cast(g, tf.float64)], [twin])
    # Keras holds its learning rate in float32.
    np.testing.assert_allclose(w.numpy(), twin.numpy(), rtol=1e-6)
