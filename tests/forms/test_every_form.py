"""Every form for PyTorch makes the core's update, where its validity, its blocks and threads end.

The forms for XLA and TensorFlow are held to the core by the tests of their adapters.
"""

import itertools
from array import array

import numpy as np
import pytest
import torch

from innaprop.forms import Row, all_forms, c, foreach, kernel, single_tensor, traced
from innaprop_core import momentum

FORMS = {"c": c, "foreach": foreach, "single_tensor": single_tensor}
# Roundings of parameter and state in three updates of size one.
TOLERANCES = {torch.float64: 2e-14, torch.float32: 1e-5, torch.bfloat16: 1e-5, torch.float16: 1e-5}
ELEMENTS_WORTH_A_THREAD = 32768
ELEMENTS_IN_CACHE = 1 << 17
EDGES = {
    "hardly any decay": {"gamma": 1e-3, "alpha": 0.1, "beta": 0.9, "weight_decay": 1e-3},
    "almost all": {"gamma": 0.25, "alpha": 2.0, "beta": 0.5, "weight_decay": 3.999},
    "all of a weight": {"gamma": 0.25, "alpha": 2.0, "beta": 0.5, "weight_decay": 4.0},
    "more than all": {"gamma": 0.25, "alpha": 0.1, "beta": 0.5, "weight_decay": 5.0},
    "nothing left": {"gamma": 0.5, "alpha": 0.5, "beta": 1.0, "weight_decay": 1.6},
    "spared momentum": {
        "gamma": 0.25,
        "alpha": 0.1,
        "beta": 0.9,
        "weight_decay": 4.0,
        "decay_momentum": False,
    },
    "heavy damping": {"gamma": 1e-2, "alpha": 20.0, "beta": 3.0, "weight_decay": 0.1},
    "no damping": {"gamma": 1e-2, "alpha": 0.0, "beta": 0.5, "weight_decay": 0.1},
    "no memory": {
        "gamma": 1e-2,
        "alpha": 0.1,
        "beta": 0.9,
        "weight_decay": 0.1,
        "sigma": 0.0,
        "eps": 1e-2,
    },
}


def scalars(k, edge):
    return momentum.coefficients(k, **{"sigma": 0.999, "eps": 1e-8, **EDGES[edge]})


def tensors(sizes, dtype, offset):
    """Rows that begin so many elements behind the beginning of their memory."""
    rng = np.random.default_rng(0)
    state = torch.promote_types(dtype, torch.float32)

    def there(values, dtype):
        memory = torch.zeros(len(values) + offset, dtype=dtype)
        memory[offset:] = torch.from_numpy(values)
        return memory[offset:]

    def zeros(dtype):
        return [there(np.zeros(n), dtype) for n in sizes]

    starts = [rng.normal(size=n) for n in sizes]
    thetas = [there(x, dtype) for x in starts]
    has_residual = dtype in foreach.SIXTEEN_BITS
    residuals = zeros(torch.int16) if has_residual else [None] * len(sizes)
    return Row(thetas, [None] * len(sizes), zeros(state), zeros(state), residuals)


def gradients(rng, sizes, dtype):
    return [torch.from_numpy(rng.normal(size=n)).to(dtype) for n in sizes]


def masters(rows):
    return [foreach.master_weights(row).double().clone().numpy() for row in map(Row, *rows)]


def follow(form, sizes, dtype, edge="hardly any decay", offset=0, updates=3, g_dtype=None):
    """Return where a form and the core have come to, with the momenta."""
    rows = tensors(sizes, dtype, offset)
    exact = [[theta, 0 * theta, 0 * theta] for theta in masters(rows)]
    steps = [torch.zeros((), dtype=torch.float64) for _ in sizes]
    which = array("q", [0] * len(sizes))
    rows = rows._replace(g=gradients(np.random.default_rng(1), sizes, g_dtype or dtype))
    layout = form.Layout(rows, steps)
    rng = np.random.default_rng(2)
    for k in range(1, updates + 1):
        rows = rows._replace(g=gradients(rng, sizes, g_dtype or dtype))
        form.update(rows, layout, [(scalars(k, edge), -2.0)], which, steps)
        for place, (state, g) in enumerate(zip(exact, rows.g, strict=True)):
            exact[place] = momentum.step(*state, -2.0 * g.double().numpy(), scalars(k, edge))
    assert steps == [updates] * len(sizes)
    ours = [np.concatenate(masters(rows)), np.concatenate([m.double().numpy() for m in rows.m])]
    return ours, [np.concatenate([state[i] for state in exact]) for i in (0, 1)]


def assert_close(both, dtype):
    for ours, theirs in zip(*both, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCES[dtype])


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("form", FORMS)
def test_at_the_edges_of_validity(form, dtype, edge):
    assert_close(follow(FORMS[form], (1, 37, 64), dtype, edge), dtype)


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_traced(dtype, edge):
    class Traced:
        Layout = foreach.Layout

        @staticmethod
        def update(rows, layout, sets, which, steps):
            ((own, scale),) = sets
            traced.update(list(map(Row, *rows)), own, scale)
            torch._foreach_add_(steps, 1.0)

    assert_close(follow(Traced, (1, 37, 64), dtype, edge), dtype)


@pytest.mark.parametrize("offset", [0, 1, 3])
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("form", FORMS)
def test_every_small_size_at_every_address(form, dtype, offset):
    assert_close(follow(FORMS[form], range(258), dtype, offset=offset, updates=2), dtype)


@pytest.fixture
def two_threads():
    """Whatever OMP_NUM_THREADS says."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "sizes",
    [
        *[(end + d,) for end in (ELEMENTS_WORTH_A_THREAD, ELEMENTS_IN_CACHE) for d in (-1, 0, 1)],
        (2 * ELEMENTS_WORTH_A_THREAD + 1,),
        # Threads that begin within a row, and at its very end.
        (1, 3 * ELEMENTS_WORTH_A_THREAD - 1, 5, ELEMENTS_WORTH_A_THREAD, 0, 7),
        (ELEMENTS_IN_CACHE - 1, 2, ELEMENTS_IN_CACHE + 3),
    ],
)
def test_where_threads_and_parts_end(form, sizes, two_threads):
    assert_close(follow(FORMS[form], sizes, torch.float32, updates=2), torch.float32)


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_any_number_of_threads_has_the_same_bits(threads):
    sizes = (100_003, 40_000, 1)
    before = torch.get_num_threads()
    one = follow(c, sizes, torch.float32)[0]
    torch.set_num_threads(threads)
    try:
        other = follow(c, sizes, torch.float32)[0]
    finally:
        torch.set_num_threads(before)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", list(foreach.SIXTEEN_BITS))
@pytest.mark.parametrize("form", FORMS)
def test_sixteen_bit_parameters_take_float32_gradients_as_they_are(form, dtype):
    both = follow(FORMS[form], (1, 37, 64), dtype, g_dtype=torch.float32)
    assert_close(both, dtype)


def test_rows_of_one_call_have_their_own_dtype_set_and_count():
    dtypes = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
    counts = [0, 5, 5, 70_000]
    edges = ["heavy damping", "spared momentum", "no memory", "heavy damping"]
    columns = [tensors((50,), dtype, 1) for dtype in dtypes]
    rows = Row(*([t for column in columns for t in (column[i] or [None])] for i in range(5)))
    rows = rows._replace(
        g=[torch.from_numpy(np.random.default_rng(3).normal(size=50)).to(d) for d in dtypes]
    )
    exact = [
        momentum.step(theta, 0 * theta, 0 * theta, g.double().numpy(), scalars(count + 1, edge))
        for theta, g, count, edge in zip(masters(rows), rows.g, counts, edges, strict=True)
    ]
    steps = [torch.tensor(count, dtype=torch.float64) for count in counts]
    names = list(dict.fromkeys(edges))
    which = array("q", [names.index(edge) for edge in edges])
    c.update(rows, c.Layout(rows, steps), [(scalars(1, e), 1.0) for e in names], which, steps)
    assert steps == [count + 1 for count in counts]
    for ours, (theirs, _, _), dtype in zip(masters(rows), exact, dtypes, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCES[dtype])


def test_float16_by_its_bits_is_float16():
    """The kernel reads and rounds float16 without the compiler's help: every number of it."""
    every = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(torch.float16)
    rng = np.random.default_rng(0)
    edges = np.array([65519.99, 65520, 65504, 2**-14, 2**-24, 2**-25, 1.5 * 2**-25, 2**-149])
    values = np.concatenate(
        [rng.normal(size=2**16 - 16) * 10.0 ** rng.integers(-9, 6), edges, -edges]
    )
    # No momentum yet, and no rounding but the last: theta - gamma beta u for a u of one.
    for thetas, moves in ((every, np.zeros(2**16)), (torch.zeros_like(every), values)):
        moves = torch.from_numpy(moves).float()
        expected = (thetas.float() - (0 * thetas.float() + moves)).half()
        zeros = torch.zeros(2**16)
        # sigma = 0 and eps = 1e30 make u the gradient itself, over 1e30.
        own = scalars(1, "no memory")._replace(
            decay=0.0, decay_drive=0.0, gamma=0.0, impulse=1.0, eps=1.0, averaging=0.0, memory=1.0
        )
        theta = thetas.clone()
        rows = Row([theta], [moves], [zeros], [zeros.clone()], [None])
        c.update(rows, c.Layout(rows, None), [(own, 1.0)], array("q", [0]), None)
        torch.testing.assert_close(theta, expected, rtol=0, atol=0, equal_nan=True)


def test_a_kernel_built_for_other_coefficients_is_refused(monkeypatch):
    c.load.cache_clear()
    real = kernel.library.load

    def built_for_others(source, *, defines, exports):
        (define,) = defines
        return real(source, defines=(f"{define} X(more)",), exports=exports)

    monkeypatch.setattr(kernel.library, "load", built_for_others)
    try:
        assert "must be built for" in c.load()
    finally:
        c.load.cache_clear()


def test_every_form_says_what_it_is():
    for name, form in all_forms().items():
        assert set(form.framework.split(" or ")) <= {"torch", "jax", "tensorflow"}, name
        assert form.valid, name


def test_the_tables_of_the_kernel_are_those_of_the_core():
    assert tuple(itertools.islice(kernel.SCALARS, len(momentum.Coefficients._fields))) == (
        momentum.Coefficients._fields
    )
