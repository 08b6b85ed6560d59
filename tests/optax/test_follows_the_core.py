import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import export

from innaprop.forms import Row, functional, looking_back
from innaprop.optax import innaprop, psi
from innaprop_core import algorithm, momentum


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
def test_theta_and_psi_in_float64(run, follow, named, compiled):
    h = run.hyperparameters
    optimizer = innaprop(**named(run))
    w, state = follow(run, optimizer, jnp.asarray(run.theta), compiled=compiled)
    assert w.dtype == jnp.float64
    assert run.error(np.asarray(w)) < 1e-12
    assert run.psi_error(np.asarray(psi(state, w, h.alpha, h.beta))) < 1e-12
    assert state.count == len(run.gradients)


def test_theta_in_float32(run, follow, named):
    w, state = follow(run, innaprop(**named(run)), jnp.asarray(run.theta, jnp.float32))
    assert w.dtype == state.momentum.dtype == state.second_moment.dtype == jnp.float32
    assert run.error(np.asarray(w)) < 1e-5


@pytest.mark.usefixtures("float64")
def test_two_dtypes_in_one_tree(run, follow, named):
    params = {"wide": jnp.asarray(run.theta), "narrow": jnp.asarray(run.theta, jnp.float32)}
    params, _ = follow(run, innaprop(**named(run)), params)
    assert run.error(np.asarray(params["wide"])) < 1e-12
    assert run.error(np.asarray(params["narrow"])) < 1e-5


@pytest.mark.usefixtures("float64")
def test_the_initial_psi(run):
    h, w = run.hyperparameters, jnp.asarray(run.theta)
    initial = psi(innaprop(1e-3).init(w), w, h.alpha, h.beta)
    np.testing.assert_allclose(initial, (1 - h.alpha * h.beta) * run.theta, rtol=1e-15)


@pytest.mark.usefixtures("float64")
def test_the_updates_before_an_update_are_what_schedules_get(run, follow, named):
    seen = []

    def learning_rate(updates):
        seen.append(int(updates))
        return run.schedule(int(updates))

    optimizer = innaprop(**named(run, learning_rate=learning_rate))
    w, _ = follow(run, optimizer, jnp.asarray(run.theta), compiled=False)
    assert seen == list(range(len(run.gradients)))
    assert run.error(np.asarray(w)) < 1e-12


@pytest.mark.usefixtures("float64")
def test_schedules_of_all_three(run, follow, named):
    """Alpha and beta change during the run: held to the core, told the values of each update."""

    def alpha(k):
        return 2.0 - k / 40

    def beta(k):
        return 0.5 + k / 30

    optimizer = innaprop(**named(run, alpha=alpha, beta=beta))
    w, _ = follow(run, optimizer, jnp.asarray(run.theta))
    h = run.hyperparameters
    theta, m, v = run.theta, np.zeros_like(run.theta), np.zeros_like(run.theta)
    for k, g in enumerate(run.gradients):
        c = momentum.coefficients(
            k + 1,
            gamma=run.schedule(k),
            alpha=alpha(k),
            beta=beta(k),
            sigma=h.sigma,
            eps=h.eps,
            weight_decay=h.weight_decay,
        )
        theta, m, v = momentum.step(theta, m, v, g, c)
    np.testing.assert_allclose(w, theta, rtol=1e-12, atol=1e-13)


@pytest.mark.usefixtures("float64")
def test_a_schedule_of_optax(another_run, follow, named):
    run = another_run()
    gamma, n = run.hyperparameters.gamma, len(run.gradients)
    schedule = optax.linear_schedule(gamma, gamma / 2, n)
    w, _ = follow(run, innaprop(**named(run, learning_rate=schedule)), jnp.asarray(run.theta))
    assert run.error(np.asarray(w)) < 1e-12


def look_back(row, c):
    return looking_back.update(row, c, jnp.sqrt)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("form", [functional.core, look_back])
def test_every_form_follows_algorithm_1(run, form):
    """Each on the CPU, whatever device it is meant for."""
    h = run.hyperparameters
    theta, m, v = jnp.asarray(run.theta), jnp.zeros((5, 3)), jnp.zeros((5, 3))
    for k, g in enumerate(run.gradients):
        c = momentum.coefficients(
            k + 1,
            gamma=run.schedule(k),
            alpha=h.alpha,
            beta=h.beta,
            sigma=h.sigma,
            eps=h.eps,
            weight_decay=h.weight_decay,
        )
        change, m, v = form(Row(theta, jnp.asarray(g), m, v), c._replace(averaging=1 - h.sigma))
        theta = theta + change
    assert run.error(np.asarray(theta)) < 1e-12


@pytest.mark.parametrize(
    ("platform", "roots"), [("cpu", 2), ("cuda", 1), ("tpu", 1)], ids=["cpu", "cuda", "tpu"]
)
def test_the_form_is_the_platforms(platform, roots):
    """The one that looks back has two roots, of v and of v corrected."""
    optimizer, w = innaprop(1e-3), jnp.ones(3)
    update = jax.jit(lambda g, state, w: optimizer.update(g, state, w))
    exported = export.export(update, platforms=[platform])(w, optimizer.init(w), w)
    found = [line for line in exported.mlir_module().splitlines() if "sqrt" in line]
    assert sum("tensor<3xf32>" in line for line in found) == roots


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("beta", "weight_decay"), [(1.5, 1.9), (2.0, 2.0), (1.5, 5.0)])
def test_a_decay_that_takes_everything(beta, weight_decay):
    """In the second case nothing of the old parameter is left in the new one."""
    values = {"alpha": 0.5, "beta": beta, "weight_decay": weight_decay}
    w, g = jnp.array([3.0, -2.0]), jnp.array([0.1, 0.2])
    optimizer = innaprop(0.5, **values)
    state = optimizer.init(w)
    theta, v = np.asarray(w), np.zeros(2)
    psi_ = algorithm.initial_psi(theta, alpha=0.5, beta=beta)
    for k in (1, 2, 3):
        updates, state = optimizer.update(g, state, w)
        w = optax.apply_updates(w, updates)
        theta, psi_, v = algorithm.step(
            theta, psi_, v, np.asarray(g), k=k, gamma=0.5, sigma=0.999, eps=1e-8, **values
        )
        np.testing.assert_allclose(w, theta, rtol=1e-12)


def test_none_and_empty_leaves():
    params = {
        "none": None,
        "empty": {},
        "w": jnp.ones(3),
        "no elements": jnp.ones((0, 4)),
        "scalar": jnp.float32(1.0),
        "list": [None, (jnp.ones((2, 1, 2)),)],
    }
    optimizer = innaprop(1e-3)
    state = optimizer.init(params)
    gradients = jax.tree.map(jnp.ones_like, params)
    updates, state = jax.jit(optimizer.update)(gradients, state, params)
    new = optax.apply_updates(params, updates)
    assert jax.tree.structure(new) == jax.tree.structure(params)
    assert jax.tree.map(jnp.shape, new) == jax.tree.map(jnp.shape, params)
    assert all((leaf < 1).all() for leaf in jax.tree.leaves(new))
    assert jax.tree.structure(state.momentum) == jax.tree.structure(params)


@pytest.mark.parametrize("params", [{}, [None]], ids=str)
def test_no_parameters_at_all(params):
    optimizer = innaprop(1e-3)
    updates, state = optimizer.update(params, optimizer.init(params), params)
    assert updates == params
    assert state.count == 1


def test_numpy_arrays_and_floats_are_parameters_too():
    params = {"array": np.ones(2, np.float32), "number": 1.0}
    optimizer = innaprop(1e-3)
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    np.testing.assert_allclose(updates["array"], -0.00091 * np.ones(2), rtol=1e-4)
    np.testing.assert_allclose(updates["number"], -0.00091, rtol=1e-4)


def test_the_state_has_the_bytes_of_adamw():
    params = {"w": jnp.ones((7, 5)), "b": jnp.ones(5), "s": jnp.ones(())}
    sizes = [
        sum(leaf.nbytes for leaf in jax.tree.leaves(make(1e-3).init(params)))
        for make in (innaprop, optax.adamw)
    ]
    assert sizes[0] == sizes[1] == 4 + 2 * 4 * (35 + 5 + 1)
