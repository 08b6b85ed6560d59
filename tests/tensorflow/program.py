"""Processes of the tests: ``program.py JOB FOLDER ARGUMENTS``; results are files in FOLDER."""

import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import innaprop
from innaprop.tensorflow import INNAprop

STEPS = 200


class Trainer(tf.Module):
    """A small model whose train step goes into a SavedModel."""

    def __init__(self, strategy=None, dtype=tf.float32):
        super().__init__()
        rng = np.random.default_rng(0)
        values = [rng.normal(size=(4, 8)) / 2, np.zeros(8), rng.normal(size=(8, 1)) / 2]
        self.strategy = strategy or tf.distribute.get_strategy()
        with self.strategy.scope():
            self.weights = [tf.Variable(v, dtype=dtype) for v in values]
            self.optimizer = INNAprop(lambda k: 1e-2 / (1.0 + tf.cast(k, tf.float64)), alpha=0.5)
        self.optimizer.build(self.weights)

    def replica(self, x, y):
        w1, b1, w2 = self.weights
        with tf.GradientTape() as tape:
            error = tf.tanh(x @ w1 + b1) @ w2 - y
            # Of the global batch, as everywhere in tf.distribute.
            loss = tf.reduce_sum(error**2) / tf.cast(16, error.dtype)
        self.optimizer.apply(tape.gradient(loss, self.weights), self.weights)
        return loss

    @tf.function(input_signature=[tf.TensorSpec((16, 4)), tf.TensorSpec((16, 1))])
    def step(self, x, y):
        return self.replica(x, y)


def batches(dtype=np.float32):
    rng = np.random.default_rng(1)
    for _ in range(STEPS):
        x = rng.normal(size=(16, 4)).astype(dtype)
        yield x, np.sin(x.sum(axis=1, keepdims=True))


def steps(step, start, stop):
    for k, batch in enumerate(batches()):
        if start <= k < stop:
            step(*map(tf.constant, batch))


def save(folder, name, weights):
    np.savez(folder / f"{name}.npz", *[w.numpy() for w in weights])


def train(folder, kind, start, stop):
    """Go on from step ``start``, loaded from disk, to ``stop``, and save."""
    start, stop = int(start), int(stop)
    if kind == "saved_model" and start:
        trainer = tf.saved_model.load(str(folder / kind))
    else:
        trainer = Trainer()
    if kind == "checkpoint":
        checkpoint = tf.train.Checkpoint(weights=trainer.weights, optimizer=trainer.optimizer)
        manager = tf.train.CheckpointManager(checkpoint, str(folder / kind), max_to_keep=1)
        if start:
            checkpoint.restore(manager.latest_checkpoint).assert_consumed()
    steps(trainer.step, start, stop)
    if kind == "checkpoint":
        manager.save()
    else:
        tf.saved_model.save(trainer, str(folder / kind))
    save(folder, f"{kind}-{start}-{stop}", trainer.weights)


def two_cpus():
    (cpu,) = tf.config.list_physical_devices("CPU")
    halves = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, halves)
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def distributed_steps(trainer, eager, n):
    """Train on the replicas' parts of the same batches; return the parameters at each replica."""
    strategy = trainer.strategy

    def part(array):
        def of_replica(context):
            share = 16 // context.num_replicas_in_sync
            i = context.replica_id_in_sync_group
            return tf.constant(array[i * share : (i + 1) * share])

        return strategy.experimental_distribute_values_from_function(of_replica)

    def step(x, y):
        strategy.run(trainer.replica, args=(x, y))

    step = step if eager else tf.function(step)
    for k, (x, y) in enumerate(batches(trainer.weights[0].dtype.as_numpy_dtype)):
        if k < n:
            step(part(x), part(y))
    return [[v.numpy() for v in strategy.experimental_local_results(w)] for w in trainer.weights]


def save_replicas(folder, name, replicas):
    for i in range(len(replicas[0])):
        np.savez(folder / f"{name}-{i}.npz", *[values[i] for values in replicas])


def alone(folder):
    """What one device does with whole batches."""
    for dtype, n in ((tf.float64, 40), (tf.float32, 40)):
        trainer = Trainer(dtype=dtype)
        for k, (x, y) in enumerate(batches(dtype.as_numpy_dtype)):
            if k < n:
                trainer.replica(tf.constant(x), tf.constant(y))
        save(folder, f"alone-{dtype.name}", trainer.weights)
        if dtype == tf.float32:
            checkpoint(trainer).write(str(folder / "alone"))


def checkpoint(trainer):
    return tf.train.Checkpoint(weights=trainer.weights, optimizer=trainer.optimizer)


def named(trainer):
    return {f"w{i}": weight for i, weight in enumerate(trainer.weights)}


def mirrored_words(folder):
    """A state of 16 bits on two replicas, eager and in a function, and on one device."""
    strategy = two_cpus()
    gradients = np.random.default_rng(0).normal(size=(5, 4, 8)).astype(np.float32)
    single = tf.Variable(tf.ones((4, 8)))
    alone = INNAprop(1e-2, state_bits=16, seed=3)
    for g in gradients:
        alone.apply([g], [single])
    for wrap in (lambda f: f, tf.function):
        with strategy.scope():
            w = tf.Variable(tf.ones((4, 8)))
            optimizer = INNAprop(1e-2, state_bits=16, seed=3)
            optimizer.build([w])
        step = wrap(lambda g, o=optimizer, w=w: strategy.run(lambda: o.apply([g / 2], [w])))
        for g in gradients:
            step(tf.constant(g))
        for values, expected in ((optimizer.momentums[0], alone.momentums[0]), (w, single)):
            for value in values.values:
                np.testing.assert_array_equal(value.numpy(), expected.numpy())


def mirrored(folder):
    """Every way of two replicas, in one process."""
    strategy = two_cpus()
    for eager in (False, True):
        trainer = Trainer(strategy, tf.float64)
        name = "mirrored-eager" if eager else "mirrored-function"
        save_replicas(folder, name, distributed_steps(trainer, eager, 40))
    state = trainer.optimizer.momentums[0]
    assert [m.device[-5:] for m in state.values] == ["CPU:0", "CPU:1"]
    # The state made by the first step, on replicas that have been started already.
    late = Trainer(strategy, tf.float64)
    with strategy.scope():
        late.optimizer = INNAprop(lambda k: 1e-2 / (1.0 + tf.cast(k, tf.float64)), alpha=0.5)
    save_replicas(folder, "mirrored-late", distributed_steps(late, False, 40))
    # Made on one device, restored on two, and back.
    restored = Trainer(strategy)
    checkpoint(restored).read(str(folder / "alone")).assert_consumed()
    save_replicas(folder, "restored-on-two", distributed_steps(restored, False, 0))
    assert restored.optimizer.iterations.numpy() == 40
    distributed_steps(restored, False, 3)
    checkpoint(restored).write(str(folder / "two"))
    save(folder, "two", restored.weights)
    one = Trainer()
    checkpoint(one).read(str(folder / "two")).assert_consumed()
    save(folder, "restored-on-one", one.weights)
    for ours, theirs in zip(one.optimizer.momentums, restored.optimizer.momentums, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.values[1].numpy())
    # The same through the file that all frameworks share.
    innaprop.save_state(folder / "two.safetensors", restored.optimizer, named(restored))
    for other in (Trainer(), Trainer(strategy)):
        other.optimizer.alpha = 2.0
        innaprop.load_state(folder / "two.safetensors", other.optimizer, named(other))
        assert other.optimizer.alpha.numpy() == 0.5
        assert other.optimizer.iterations.numpy() == 43
        for own, loaded in zip(one.optimizer.momentums, other.optimizer.momentums, strict=True):
            for part in strategy.experimental_local_results(loaded):
                np.testing.assert_array_equal(part.numpy(), own.numpy())

    with strategy.scope():
        w = tf.Variable(tf.ones(2, tf.bfloat16), name="w")
        mean = tf.Variable(
            1.0,
            synchronization=tf.VariableSynchronization.ON_READ,
            trainable=False,
            aggregation=tf.VariableAggregation.MEAN,
            name="mean",
        )
        shared = INNAprop(1e-3)
    with_scope, without, table = (Trainer(strategy, tf.float64) for _ in range(3))
    single = Trainer(dtype=tf.float64)
    gradients = [tf.ones_like(v) for v in single.weights]
    single.optimizer.apply(gradients, single.weights)
    # Whole gradients, in cross-replica context and outside of any.
    with strategy.scope():
        with_scope.optimizer.apply(gradients, with_scope.weights)
    without.optimizer.apply(gradients, without.weights)
    # Shares of each, in cross-replica context; sparse ones too.
    with strategy.scope():
        shares = strategy.run(
            lambda: [
                tf.IndexedSlices(tf.ones((4, 8), tf.float64) / 4, tf.constant([0, 1, 2, 3])),
                tf.ones(8, tf.float64) / 2,
                tf.ones((8, 1), tf.float64) / 2,
            ]
        )
        shares[0] = strategy.run(
            lambda: tf.IndexedSlices(
                tf.ones((8, 8), tf.float64) / 4, tf.constant([0, 1, 2, 3, 3, 2, 1, 0])
            )
        )
        table.optimizer.apply(shares, table.weights)
    for other in (with_scope, without, table):
        for ours, theirs in zip(other.weights, single.weights, strict=True):
            for value in ours.values:
                np.testing.assert_array_equal(value.numpy(), theirs.numpy())

    # The same constant on both replicas is a share of each.
    twice, once = Trainer(strategy, tf.float64), Trainer(dtype=tf.float64)
    half = [g / 2 for g in gradients]
    strategy.run(lambda: twice.optimizer.apply(half, twice.weights))
    once.optimizer.apply(gradients, once.weights)
    for ours, theirs in zip(
        twice.optimizer.second_moments, once.optimizer.second_moments, strict=True
    ):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())

    @tf.function
    def sixteen_bits():
        strategy.run(lambda: shared.apply([tf.ones_like(w) / 2], [w]))

    alone_w, alone_optimizer = tf.Variable(tf.ones(2, tf.bfloat16)), INNAprop(1e-3)
    for _ in range(5):
        sixteen_bits()
        alone_optimizer.apply([tf.ones(2, tf.bfloat16)], [alone_w])
    for ours, theirs in ((w, alone_w), (shared.residuals[0], alone_optimizer.residuals[0])):
        for value in ours.values:
            np.testing.assert_array_equal(value.numpy(), theirs.numpy())

    refused(strategy, shared, tf.Variable([1.0], name="outside"), "must be created under the scope")
    refused(strategy, shared, mean, "mean:0 of synchronization ON_READ")
    # A number set by every replica is set once.
    strategy.run(lambda: setattr(shared, "learning_rate", 0.25))
    assert [v.numpy() for v in shared.learning_rate.values] == [0.25, 0.25]


def refused(strategy, optimizer, variable, message):
    states, iterations = len(optimizer.momentums), optimizer.iterations.numpy()
    with pytest.raises(ValueError, match=message):
        strategy.run(lambda: optimizer.apply([tf.ones(variable.shape)], [variable]))
    assert len(optimizer.momentums) == states
    assert optimizer.iterations.numpy() == iterations


def worker(folder, index):
    """One of two workers; TF_CONFIG says where they are."""
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    for eager in (False, True):
        trainer = Trainer(strategy, tf.float64)
        name = f"worker{index}-{'eager' if eager else 'function'}"
        save_replicas(folder, name, distributed_steps(trainer, eager, 40))


if __name__ == "__main__":
    job, folder, *arguments = sys.argv[1:]
    globals()[job](Path(folder), *arguments)
