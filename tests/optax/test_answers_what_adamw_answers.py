"""What may be done with ``optax.adamw`` may be done with INNAprop: both are asked the same."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.training.train_state import TrainState
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from innaprop.optax import innaprop

OPTIMIZERS = {"adamw": optax.adamw, "innaprop": innaprop}
# No two elements are alike, so that none can stand in for another.
PARAMS = {"w": -jnp.arange(1.0, 7.0).reshape(2, 3), "b": jnp.array([0.5, 1.5, 2.5])}


@pytest.fixture(params=OPTIMIZERS)
def make(request):
    return OPTIMIZERS[request.param]


def gradient(params):
    return jax.grad(lambda p: sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(p)))(params)


def stepping(optimizer, gradient=gradient, **extra):
    def step(params, state):
        updates, state = optimizer.update(gradient(params), state, params, **extra)
        return optax.apply_updates(params, updates), state

    return step


def after(optimizer, steps=5, params=PARAMS, **extra):
    state = optimizer.init(params)
    step = jax.jit(stepping(optimizer, **extra))
    for _ in range(steps):
        params, state = step(params, state)
    return params, state


def assert_equal(a, b, rtol=1e-5):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol), a, b)


def assert_moved(params, start=PARAMS):
    assert jax.tree.structure(params) == jax.tree.structure(start)
    for p, old in zip(jax.tree.leaves(params), jax.tree.leaves(start), strict=True):
        assert jnp.shape(p) == jnp.shape(old)
        assert (jnp.abs(p) < jnp.abs(old)).all()


# It trains.


def valley(p):
    return (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2


def bowl(p):
    return jnp.sum((p - jnp.array([1.0, -1.0], p.dtype)) ** 2)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize(("loss", "end"), [(bowl, (1, -1)), (valley, (1, 1))])
def test_scan_ends_in_the_minimum(make, loss, end, dtype):
    optimizer = make(1e-3, weight_decay=0.0)
    step = stepping(optimizer, jax.grad(loss))
    w = jnp.zeros(2, dtype)
    carry = w, optimizer.init(w)
    (w, _), _ = jax.jit(lambda c: jax.lax.scan(lambda c, _: (step(*c), None), c, length=10_000))(
        carry
    )
    assert w.dtype == dtype
    np.testing.assert_allclose(w, end, atol=1e-2)


def test_while_loop_until_the_gradient_is_small(make):
    optimizer = make(1e-1, weight_decay=0.0)
    step = stepping(optimizer)

    def goes_on(carry):
        return optax.tree.norm(gradient(carry[0])) > 1e-1

    carry = PARAMS, optimizer.init(PARAMS)
    params, _ = jax.jit(lambda c: jax.lax.while_loop(goes_on, lambda c: step(*c), c))(carry)
    assert optax.tree.norm(gradient(params)) <= 1e-1


def test_train_state_of_flax(make):
    state = TrainState.create(apply_fn=None, params=PARAMS, tx=make(1e-2))
    state = state.apply_gradients(grads=gradient(PARAMS))
    assert_moved(state.params)


# What it is given.


def test_arguments_meant_for_others_in_the_chain(make):
    optimizer = make(1e-2)
    assert isinstance(optimizer, optax.GradientTransformationExtraArgs)
    params, _ = after(optimizer, value=jnp.float32(3.0), unknown=None)
    assert_equal(params, after(optimizer)[0])


@pytest.mark.parametrize("abstract", [jnp.shape, jax.typeof], ids=["ShapeDtypeStruct", "aval"])
def test_init_of_shapes(make, abstract):
    shapes = jax.eval_shape(lambda: PARAMS) if abstract is jnp.shape else None
    shapes = jax.tree.map(jax.typeof, PARAMS) if shapes is None else shapes
    optimizer = make(1e-2, mask=lambda params: jax.tree.map(lambda p: p.ndim > 1, params))
    assert_equal(optimizer.init(shapes), optimizer.init(PARAMS))
    found = jax.eval_shape(optimizer.init, shapes)
    assert jax.tree.map(jnp.shape, found) == jax.tree.map(jnp.shape, optimizer.init(PARAMS))


def test_init_of_shapes_with_shardings(make):
    sharding = NamedSharding(jax.make_mesh((1,), ("x",)), PartitionSpec("x"))
    shape = jax.ShapeDtypeStruct((2, 3), jnp.float32, sharding=sharding)
    state = make(1e-2).init({"w": shape})
    arrays = [leaf for leaf in jax.tree.leaves(state) if leaf.ndim]
    assert [leaf.sharding for leaf in arrays] == [sharding] * 2


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("masked", [None, {"w": True, "f": False}], ids=["all", "mask"])
def test_a_model_with_functions_whose_gradients_and_state_have_none(make, steps, masked):
    """As Equinox has it: ``init(eqx.filter(model))`` and then ``update(grads, state, model)``."""
    optimizer = make(1e-2, mask=masked)
    model = {"w": jnp.ones(3), "f": jnp.tanh}
    state = optimizer.init({"w": model["w"], "f": None})
    structure = jax.tree.structure(state)
    for _ in range(steps):
        gradients = {"w": model["w"], "f": None}
        updates, state = optimizer.update(gradients, state, model)
        assert updates["f"] is None
        assert jax.tree.structure(state) == structure
        model = {**model, "w": model["w"] + updates["w"]}
    alone, _ = after(optimizer, steps, {"w": jnp.ones(3), "f": None})
    # The gradient of the square is twice the parameter: Adam's are as large for both.
    np.testing.assert_allclose(model["w"], alone["w"], rtol=1e-5)


BOOLEANS = [np.array, jnp.array, np.bool_, int, float, np.int32, lambda x: np.array([x])]


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize("boolean", BOOLEANS)
def test_masks_of_what_is_true_or_false(make, boolean, compiled):
    def updates(mask):
        optimizer = make(1e-2, weight_decay=0.5, mask=mask)
        update = jax.jit(optimizer.update) if compiled else optimizer.update
        return update(PARAMS, optimizer.init(PARAMS), PARAMS)[0]

    expected = updates({"w": True, "b": False})
    assert_equal(updates({"w": boolean(True), "b": boolean(False)}), expected)
    decayed = updates({"w": boolean(False), "b": boolean(True)})
    assert not np.allclose(decayed["w"], expected["w"], rtol=1e-4)
    assert not np.allclose(decayed["b"], expected["b"], rtol=1e-4)


def test_a_mask_that_a_function_makes_of_numpys_booleans(make):
    optimizer = make(1e-2, mask=lambda params: jax.tree.map(lambda p: np.array(p.ndim > 1), params))
    assert_equal(after(optimizer), after(make(1e-2, mask={"w": True, "b": False})))


def counted(state, count):
    """Return a state whose count is something else."""
    return jax.tree.map(lambda leaf: count if leaf.dtype == jnp.int32 else leaf, state)


COUNTS = [3, 3.0, np.int64(3), np.array(3), np.array(3, np.int16), np.uint8(3), np.float32(3)]


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize("count", COUNTS, ids=lambda c: f"{type(c).__name__}-{np.asarray(c).dtype}")
def test_counts_that_a_checkpoint_may_give(make, count, compiled):
    optimizer = make(optax.linear_schedule(1e-2, 0.0, 5))
    update = jax.jit(optimizer.update) if compiled else optimizer.update
    state = optimizer.init(PARAMS)
    expected, _ = update(PARAMS, counted(state, jnp.int32(3)), PARAMS)
    updates, state = update(PARAMS, counted(state, count), PARAMS)
    assert_equal(updates, expected)
    assert optax.tree.get_all_with_path(state, "count")[0][1] == 4


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
def test_params_gradients_and_states_that_are_numbers(make, compiled):
    optimizer = make(1e-2)
    update = jax.jit(optimizer.update) if compiled else optimizer.update
    arrays = {"w": jnp.float32(1.0)}
    expected, state = update({"w": jnp.float32(2.0)}, optimizer.init(arrays), arrays)
    numbers = {"w": 1.0}
    plain = jax.tree.map(lambda leaf: leaf.item(), optimizer.init(numbers))
    for g in (2.0, 2, np.float64(2)):
        updates, found = update({"w": g}, plain, numbers)
        assert_equal(updates, expected)
        assert_equal(found, state)


def test_states_of_numpys_arrays(make):
    optimizer = make(1e-2)
    _, state = after(optimizer)
    restored = jax.tree.map(np.asarray, state)
    assert_equal(
        optimizer.update(PARAMS, restored, PARAMS), optimizer.update(PARAMS, state, PARAMS)
    )


def test_states_of_numpys_float64_where_jax_has_none():
    _, state = after(innaprop(1e-2))
    restored = jax.tree.map(lambda leaf: np.asarray(leaf).astype(leaf.dtype.kind + "8"), state)
    assert restored.momentum["w"].dtype == np.float64
    expected = innaprop(1e-2).update(PARAMS, state, PARAMS)
    assert_equal(innaprop(1e-2).update(PARAMS, restored, PARAMS), expected)


@pytest.mark.parametrize("params", [{}, (), [None], {"a": {}}], ids=str)
def test_trees_without_a_leaf(make, params):
    optimizer = make(1e-2)
    updates, _ = jax.jit(optimizer.update)(params, optimizer.init(params), params)
    assert updates == params


@pytest.mark.usefixtures("float64")
def test_gradients_of_another_dtype(make):
    params = jax.tree.map(lambda p: p.astype(jnp.float32), PARAMS)
    wide = jax.tree.map(lambda p: p.astype(jnp.float64), params)
    optimizer = make(1e-2)
    updates, _ = optimizer.update(wide, optimizer.init(params), params)
    assert_equal(updates, optimizer.update(params, optimizer.init(params), params)[0])
    new = optax.apply_updates(params, updates)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(new))


# What its state is.


def test_the_state_keeps_its_structure_and_types(make):
    optimizer = make(optax.cosine_decay_schedule(1e-2, 10))
    first = optimizer.init(PARAMS)
    _, last = after(optimizer)
    assert jax.tree.map(jax.typeof, first) == jax.tree.map(jax.typeof, last)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(first))


def test_a_branch_may_leave_all_as_it_is(make):
    optimizer = make(1e-2)

    @jax.jit
    def step(goes, params, state):
        return jax.lax.cond(goes, stepping(optimizer), lambda *same: same, params, state)

    start = PARAMS, optimizer.init(PARAMS)
    assert_equal(step(False, *start), start)
    assert_equal(step(True, *start), after(optimizer, 1))


def test_traced_once(make):
    optimizer, traces = make(1e-2), []

    @jax.jit
    def step(params, state):
        traces.append(1)
        return stepping(optimizer)(params, state)

    carry = PARAMS, jax.jit(optimizer.init)(PARAMS)
    for _ in range(3):
        carry = step(*carry)
    assert traces == [1]


def test_shardings_that_are_types(make):
    mesh = jax.make_mesh((1,), ("x",), axis_types=(AxisType.Explicit,))
    optimizer = make(1e-2)
    with jax.set_mesh(mesh):
        params = jnp.ones((2, 8), out_sharding=NamedSharding(mesh, PartitionSpec(None, "x")))
        states = [optimizer.init(params), jax.jit(optimizer.init)(params)]
        states += [
            u(params, states[0], params)[1] for u in (optimizer.update, jax.jit(optimizer.update))
        ]
        types = [jax.tree.map(jax.typeof, state) for state in states]
        assert types[1:] == types[:1] * 3
        assert "x" in str(types[0])


def test_donated_buffers(make):
    optimizer = make(1e-2)
    step = jax.jit(stepping(optimizer), donate_argnums=(0, 1))
    carry = jax.tree.map(jnp.copy, (PARAMS, optimizer.init(PARAMS)))
    new = step(*carry)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(carry))
    assert_equal(new, after(optimizer, 1))


def test_vmap_and_shard_map(make):
    optimizer = make(1e-2)
    params = {"w": jnp.stack([PARAMS["w"], 2 * PARAMS["w"]])}
    state = jax.vmap(optimizer.init)(params)
    new, _ = jax.vmap(stepping(optimizer))(params, state)
    for i in range(2):
        one, _ = after(optimizer, 1, {"w": params["w"][i]})
        assert_equal(one["w"], new["w"][i])
    mesh = jax.make_mesh((1,), ("x",))
    by_shards = jax.jit(
        jax.shard_map(
            stepping(optimizer), mesh=mesh, in_specs=PartitionSpec(), out_specs=PartitionSpec()
        )
    )
    assert_equal(by_shards(PARAMS, optimizer.init(PARAMS)), after(optimizer, 1))


def test_tree_get_set_and_map_params(make):
    optimizer = make(1e-2)
    _, state = after(optimizer)
    assert optax.tree.get(state, "count") == 5
    assert optax.tree.get(optax.tree.set(state, count=jnp.int32(7)), "count") == 7
    assert_equal(optax.tree.map_params(optimizer, lambda leaf: leaf, state), state)
    emptied = optax.tree.map_params(optimizer, jnp.zeros_like, state)
    arrays = [leaf for leaf in jax.tree.leaves(emptied) if leaf.ndim]
    assert len(arrays) == 4
    assert not any(leaf.any() for leaf in arrays)


# What it is put into.


def test_inject_hyperparams_changes_nothing(make):
    injected = optax.inject_hyperparams(make)(1e-2)
    (params, state), expected = after(injected), after(make(1e-2))
    # 1 - 0.999 is off by as much where 0.999 is a float32.
    assert_equal((params, state.inner_state), expected, rtol=2e-5)
    assert_equal(optax.tree.map_params(injected, lambda leaf: leaf, state), state)
    state = optax.tree.set(state, learning_rate=jnp.float32(0.0))
    still, _ = injected.update(PARAMS, state, PARAMS)
    assert not any(leaf.any() for leaf in jax.tree.leaves(still))


def test_inject_hyperparams_into_a_schedule(make):
    schedule = optax.linear_schedule(1e-2, 1e-3, 5)
    params, _ = after(optax.inject_hyperparams(make)(schedule))
    assert_equal(params, after(make(schedule))[0])


def test_a_constant_schedule_is_the_number(make):
    assert_equal(after(make(optax.constant_schedule(1e-2)))[0], after(make(1e-2))[0])


def test_multi_steps_waits(make):
    optimizer = optax.MultiSteps(make(1e-2), every_k_schedule=4).gradient_transformation()
    params, _ = after(optimizer, 3)
    assert_equal(params, PARAMS)
    params, _ = after(optimizer, 4)
    assert_equal(params, after(make(1e-2), 1)[0])


def test_multi_steps_skips_what_is_not_finite(make):
    optimizer = optax.MultiSteps(make(1e-2), 1, should_skip_update_fn=optax.skip_not_finite)
    nothing = jax.tree.map(lambda p: jnp.full_like(p, jnp.nan), PARAMS)
    updates, state = optimizer.update(nothing, optimizer.init(PARAMS), PARAMS)
    assert not any(leaf.any() for leaf in jax.tree.leaves(updates))
    updates, _ = optimizer.update(gradient(PARAMS), state, PARAMS)
    assert_equal(optax.apply_updates(PARAMS, updates), after(make(1e-2), 1)[0])


WRAPPERS = {
    "apply_if_finite": lambda tx: optax.apply_if_finite(tx, 3),
    "chain": lambda tx: optax.chain(optax.identity(), tx),
    "named_chain": lambda tx: optax.named_chain(("first", optax.identity()), ("then", tx)),
    "with_extra_args_support": optax.with_extra_args_support,
    "masked": lambda tx: optax.masked(tx, {"w": True, "b": True}),
    "masked by a function": lambda tx: optax.masked(tx, lambda p: jax.tree.map(jnp.ndim, p)),
    "partition": lambda tx: optax.partition({"all": tx}, {"w": "all", "b": "all"}),
    "conditionally_transform": lambda tx: optax.conditionally_transform(tx, lambda k: k >= 0),
    "conditionally_mask": lambda tx: optax.conditionally_mask(tx, lambda k: k >= 0),
    "reduce_on_plateau": lambda tx: optax.chain(tx, optax.contrib.reduce_on_plateau()),
    "selective_transform": lambda tx: optax.transforms.selective_transform(
        tx, freeze_mask={"w": False, "b": False}
    ),
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_what_lets_everything_pass_changes_nothing(make, wrap):
    wrapped = wrap(make(1e-2))
    extra = {"value": 1.0} if isinstance(wrapped, optax.GradientTransformationExtraArgs) else {}
    params, state = after(wrapped, **extra)
    assert_equal(params, after(make(1e-2))[0])
    assert_equal(optax.tree.map_params(wrapped, lambda leaf: leaf, state), state)


def test_flatten(make):
    assert_equal(after(optax.flatten(make(1e-2)))[0], after(make(1e-2))[0])


PARTS = {
    "masked": lambda tx: optax.chain(
        optax.masked(tx, {"w": True, "b": False}),
        optax.masked(optax.set_to_zero(), {"w": False, "b": True}),
    ),
    "partition": lambda tx: optax.partition(
        {"train": tx, "freeze": optax.set_to_zero()}, {"w": "train", "b": "freeze"}
    ),
    "selective_transform": lambda tx: optax.transforms.selective_transform(
        tx, freeze_mask={"w": False, "b": True}
    ),
}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_a_part_is_frozen(make, part):
    params, _ = after(part(make(1e-2)))
    assert_equal(params["b"], PARAMS["b"])
    assert_equal(params["w"], after(make(1e-2))[0]["w"])


def test_lookahead(make):
    optimizer = optax.lookahead(make(1e-2), sync_period=2, slow_step_size=0.5)
    params = optax.LookaheadParams.init_synced(PARAMS)
    state = optimizer.init(params)
    for _ in range(4):
        updates, state = optimizer.update(gradient(params.fast), state, params)
        params = optax.apply_updates(params, updates)
    assert_moved(params.fast)
    assert_equal(params.fast, params.slow)


CONTRIB = {
    "mechanize": lambda tx: optax.contrib.mechanize(tx, s_init=1e-2),
    "schedule_free": lambda tx: optax.contrib.schedule_free(tx, 1e-2, b1=0.9),
    "sam": lambda tx: optax.contrib.sam(
        tx, optax.chain(optax.contrib.normalize(), optax.sgd(1e-3))
    ),
}


@pytest.mark.parametrize("wrap", CONTRIB.values(), ids=CONTRIB)
def test_wrappers_of_contrib_train(make, wrap):
    params, state = after(wrap(make(1e-2)), 200)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    assert_moved(params)


def test_complex_parameters_split_into_real_ones(make):
    optimizer = optax.contrib.split_real_and_imaginary(make(1e-2))
    z = jnp.array([1 - 2j, -3 + 1j])
    pair = {"real": z.real, "imaginary": z.imag}
    alone = make(1e-2)
    state, state_of_pair = optimizer.init(z), alone.init(pair)
    for factor in (1.0, -0.25, 3j):  # The first update is by the signs alone.
        g = factor * jnp.array([1 - 2j, -3 + 1j])
        updates, state = optimizer.update(g, state, z)
        parts, state_of_pair = alone.update(
            {"real": g.real, "imaginary": g.imag}, state_of_pair, pair
        )
        np.testing.assert_allclose(updates, parts["real"] + 1j * parts["imaginary"], rtol=1e-6)
