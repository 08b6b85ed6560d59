import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

from innaprop.optax import innaprop


def step_of(optimizer):
    def step(params, state, gradients):
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    return step


def test_jit_traces_once_whatever_the_learning_rate(run, named):
    traces = []

    @jax.jit
    def step(params, state, gradients):
        traces.append(1)
        return step_of(innaprop(**named(run)))(params, state, gradients)

    w = jnp.asarray(run.theta, jnp.float32)
    state = innaprop(1e-3).init(w)
    for g in run.gradients[:5]:
        w, state = step(w, state, jnp.asarray(g, jnp.float32))
    assert traces == [1]


@pytest.mark.usefixtures("float64")
def test_init_under_jit_and_eval_shape(run):
    w = jnp.asarray(run.theta)
    optimizer = innaprop(1e-3)
    eager, compiled = optimizer.init(w), jax.jit(optimizer.init)(w)
    assert jax.tree.structure(eager) == jax.tree.structure(compiled)
    shapes = jax.eval_shape(optimizer.init, jax.ShapeDtypeStruct(w.shape, w.dtype))
    assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, eager)


@pytest.mark.usefixtures("float64")
def test_scan_over_a_whole_run(run, named):
    step = step_of(innaprop(**named(run)))
    w = jnp.asarray(run.theta)

    @jax.jit
    def train(w, gradients):
        def body(carry, g):
            carry = step(*carry, g)
            return carry, carry[0]

        return jax.lax.scan(body, (w, innaprop(1e-3).init(w)), gradients)[1]

    iterates = train(w, jnp.asarray(np.array(run.gradients)))
    assert run.error(np.asarray(iterates[-1])) < 1e-12
    np.testing.assert_allclose(iterates, run.truth.theta, rtol=1e-9, atol=1e-12)


@pytest.mark.usefixtures("float64")
def test_vmap_over_models(run, another_run, follow, named):
    h = run.hyperparameters
    other = another_run(seed=1, alpha=h.alpha, beta=h.beta)
    optimizer = innaprop(**named(run))
    ws = jnp.asarray(np.stack([run.theta, other.theta]))
    states = jax.vmap(optimizer.init)(ws)
    step = jax.jit(jax.vmap(step_of(optimizer)))
    for gradients in zip(run.gradients, other.gradients, strict=True):
        ws, states = step(ws, states, jnp.asarray(np.stack(gradients)))
    assert states.count.shape == (2,)
    assert run.error(np.asarray(ws[0])) < 1e-12
    assert other.error(np.asarray(ws[1])) < 1e-12


@pytest.mark.usefixtures("float64")
def test_vmap_over_hyperparameters(another_run, named):
    grid = [
        {"gamma": 1e-2, "alpha": 0.1, "beta": 0.9, "sigma": 0.999, "weight_decay": 0.1},
        {"gamma": 3e-2, "alpha": 2.0, "beta": 2.0, "sigma": 0.9, "weight_decay": 0.0},
        {"gamma": 1e-3, "alpha": 0.5, "beta": 3.0, "sigma": 0.2, "weight_decay": 0.3},
    ]
    runs = [another_run(**values) for values in grid]
    columns = {key: jnp.asarray([values[key] for values in grid]) for key in grid[0]}

    @jax.jit
    @jax.vmap
    def train(values):
        gamma = values.pop("gamma")
        n = len(runs[0].gradients)
        optimizer = innaprop(lambda k: gamma * (1 - k / (2 * n)), **values)
        w = jnp.asarray(runs[0].theta)
        carry = (w, optimizer.init(w))
        return jax.lax.scan(
            lambda carry, g: (step_of(optimizer)(*carry, g), None),
            carry,
            jnp.asarray(np.array(runs[0].gradients)),
        )[0][0]

    for run, w in zip(runs, train(columns), strict=True):
        assert run.error(np.asarray(w)) < 1e-12


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("mode", [jax.grad, jax.jacfwd])
def test_the_derivative_through_steps_by_the_learning_rate(run, mode):
    h = run.hyperparameters
    gradients = [jnp.asarray(g) for g in run.gradients[:4]]

    def end(learning_rate):
        optimizer = innaprop(learning_rate, alpha=h.alpha, beta=h.beta, weight_decay=h.weight_decay)
        w = jnp.asarray(run.theta)
        state = optimizer.init(w)
        for g in gradients:
            w, state = step_of(optimizer)(w, state, g)
        return jnp.sum(w**2)

    nearby = (end(1e-2 + 1e-6) - end(1e-2 - 1e-6)) / 2e-6
    np.testing.assert_allclose(jax.jit(mode(end))(1e-2), nearby, rtol=1e-6)


@pytest.mark.usefixtures("float64")
def test_the_derivative_through_a_step_by_parameters_and_gradients():
    optimizer = innaprop(1e-2, weight_decay=0.1)
    rng = np.random.default_rng(0)
    w, g = (jnp.asarray(rng.normal(size=4)) for _ in range(2))

    def end(w, g):
        first, state = step_of(optimizer)(w, optimizer.init(w), g)
        return step_of(optimizer)(first, state, 0.5 * g + w)[0]

    check_grads(end, (w, g), order=1)


def test_donated_buffers_are_reused(run, named):
    params = {"w": jnp.asarray(run.theta, jnp.float32), "b": jnp.ones(3)}
    optimizer = innaprop(**named(run, learning_rate=1e-2))
    state = optimizer.init(params)
    gradients = jax.tree.map(jnp.ones_like, params)
    expected, _ = jax.jit(step_of(optimizer))(params, state, gradients)
    step = jax.jit(step_of(optimizer), donate_argnums=(0, 1))
    memory = step.lower(params, state, gradients).compile().memory_analysis()
    assert memory.alias_size_in_bytes == sum(
        leaf.nbytes for leaf in jax.tree.leaves((params, state))
    )
    new, _ = step(params, state, gradients)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves((params, state)))
    jax.tree.map(np.testing.assert_array_equal, new, expected)


def test_no_array_is_copied_or_stored_between_the_loops_on_the_cpu():
    """What speed on the CPU hangs on: every result is written over its predecessor."""
    params = [jnp.ones((256, 256))] * 3
    params = [p + i for i, p in enumerate(params)]
    optimizer = innaprop(1e-3)
    step = jax.jit(step_of(optimizer), donate_argnums=(0, 1))
    compiled = step.lower(params, optimizer.init(params), params).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 1000


def test_what_arrays_have_in_common_is_compiled_once_for_all_of_them():
    """The choice by the platform and the scalars: per array they took a third of the time."""

    def lowered(count):
        params = [jnp.ones(i + 1) for i in range(count)]
        optimizer = innaprop(1e-3)
        text = jax.jit(step_of(optimizer)).lower(params, optimizer.init(params), params).as_text()
        lines = text.splitlines()
        roots = sum("stablehlo.sqrt" in line for line in lines)
        choices = sum("stablehlo.case" in line for line in lines)
        scalars = sum(
            f"stablehlo.{name} " in line and ": tensor<f32>" in line
            for line in lines
            for name in ("multiply", "divide", "power", "select", "compare")
        )
        return roots, choices, scalars

    roots, *others = lowered(1)
    assert roots == 2
    assert min(others) > 0
    assert lowered(10) == (20, *others)


SHARDED = """
import jax, jax.numpy as jnp, numpy as np, optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from innaprop.optax import innaprop

devices = jax.devices()
assert len(devices) == 2
mesh = Mesh(np.array(devices), ("data",))
rng = np.random.default_rng(0)
params = {
    "kernel": rng.normal(size=(6, 4)).astype(np.float32),
    "narrow": jnp.asarray(rng.normal(size=(8, 3)), jnp.bfloat16),
    "bias": rng.normal(size=3).astype(np.float32),
}
specs = {"kernel": P(None, "data"), "narrow": P("data"), "bias": P()}
gradients = [
    jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), p.dtype), params)
    for _ in range(20)
]
optimizer = innaprop(optax.cosine_decay_schedule(1e-2, 20), weight_decay=0.1)


@jax.jit
def step(params, state, g):
    updates, state = optimizer.update(g, state, params)
    return optax.apply_updates(params, updates), state


def train(place):
    p = place(params)
    state = optimizer.init(p)
    for g in gradients:
        p, state = step(p, state, place(g))
    return p, state


one, one_state = train(lambda tree: jax.tree.map(lambda x: jax.device_put(x, devices[0]), tree))
two, two_state = train(
    lambda tree: jax.tree.map(lambda x, s: jax.device_put(x, NamedSharding(mesh, s)), tree, specs)
)
for tree in (two, two_state.momentum, two_state.second_moment):
    for name in ("kernel", "narrow"):
        shards = tree[name].addressable_shards
        assert len(shards) == 2, name
        assert shards[0].data.size * 2 == tree[name].size, (name, tree[name].sharding)
assert two_state.residual["narrow"].sharding.spec == P("data")
initial = optimizer.init(jax.device_put(params["kernel"], NamedSharding(mesh, P(None, "data"))))
for leaf in (initial.momentum, initial.second_moment):
    assert leaf.sharding.spec == P(None, "data")
jax.tree.map(np.testing.assert_array_equal, (one, one_state), (two, two_state))

# Without jit arrays may be on different devices.
names = "kernel", "bias"
apart = {name: jax.device_put(params[name], d) for name, d in zip(names, devices, strict=True)}
alone = {name: optimizer.update(p, optimizer.init(p), p) for name, p in apart.items()}
updates, state = optimizer.update(apart, optimizer.init(apart), apart)
for i, name in enumerate(apart):
    assert updates[name].devices() == state.momentum[name].devices() == {devices[i]}
    np.testing.assert_array_equal(updates[name], alone[name][0])

# And where every device is handed its shard.
spec = P("data")
state = optimizer.init(params["narrow"])
specs = jax.tree.map(lambda leaf: spec if leaf.ndim else P(), state)
arguments = params["narrow"], state, gradients[0]["narrow"]
by_shards = jax.jit(
    jax.shard_map(step, mesh=mesh, in_specs=(spec, specs, spec), out_specs=(spec, specs))
)
jax.tree.map(np.testing.assert_array_equal, step(*arguments), by_shards(*arguments))
"""


def test_sharded_over_two_devices_equals_one():
    """In a process of its own: the host can be divided before JAX has started only."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    subprocess.run(
        [sys.executable, "-c", SHARDED],
        check=True,
        timeout=120,
        env={**os.environ, "XLA_FLAGS": flags},
    )
