import copy

import numpy as np
import pytest
import torch

from innaprop.diagnostics import DiagnosticsWarning
from innaprop.torch import Diagnostics, INNAprop, measure

from .numpy_sums import SHAPES, VALUES, Alongside, assert_measured, some_gradients

NAMES = {"gamma": "lr"}
FORMS = {
    "default": {},
    "foreach": {"foreach": True},
    "one by one": {"foreach": False},
    "capturable": {"capturable": True},
}


def starts():
    rng = np.random.default_rng(5)
    return [rng.normal(size=shape) for shape in SHAPES]


def optimizer_of(thetas, values, dtype=torch.float32, **options):
    params = [torch.nn.Parameter(torch.tensor(theta).to(dtype)) for theta in thetas]
    return params, INNAprop(params, **{NAMES.get(k, k): v for k, v in values.items()}, **options)


def give(params, gradients):
    for p, g in zip(params, gradients, strict=True):
        p.grad = torch.tensor(g).to(p.dtype)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("values", VALUES)
def test_records_say_what_the_core_does(values, form):
    params, optimizer = optimizer_of(starts(), values, **FORMS[form])
    alongside = Alongside([p.detach().numpy() for p in params], **values)
    diagnostics = Diagnostics(optimizer, every=3, warn=False)
    expected = []
    for gradients in some_gradients(SHAPES, 7):
        give(params, gradients)
        expected.append(alongside.step([p.grad.numpy() for p in params]))
        optimizer.step()
    assert [record.step for record in diagnostics.records] == [1, 4, 7]
    for record in diagnostics.records:
        assert_measured(record.all, expected[record.step - 1])
        assert record.all.scalars["gamma"] == values["gamma"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bits_are_measured_on_the_master_weights(dtype):
    params, optimizer = optimizer_of(starts(), VALUES[0], dtype)
    alongside = Alongside([p.detach().float().numpy() for p in params], **VALUES[0])
    diagnostics = Diagnostics(optimizer, every=1, warn=False)
    for gradients in some_gradients(SHAPES, 5):
        give(params, gradients)
        expected = alongside.step([p.grad.float().numpy() for p in params])
        optimizer.step()
        assert_measured(diagnostics.records[-1].all, expected)
        assert diagnostics.records[-1].all.stalled == 0


def test_a_packed_state_is_decoded():
    params, optimizer = optimizer_of(starts(), VALUES[0], state_bits=16)
    alongside = Alongside([p.detach().numpy() for p in params], **VALUES[0])
    diagnostics = Diagnostics(optimizer, every=1, warn=False)
    for gradients in some_gradients(SHAPES, 5):
        give(params, gradients)
        expected = alongside.step([p.grad.numpy() for p in params])
        optimizer.step()
    del expected["stale"]  # The element whose gradient has fallen to 1e-6 is rounded in v.
    assert_measured(diagnostics.records[-1].all, expected, rtol=0.02)


def test_what_rounding_puts_back_is_stalled():
    values = {"gamma": 1e-5, "weight_decay": 0.0}
    for residual, share in ((False, 0.75), (True, 0.0)):
        theta = np.array([1.0, 2.0, -4.0, 1e-6])
        params, optimizer = optimizer_of([theta], values, torch.bfloat16, residual=residual)
        params[0].grad = torch.ones_like(params[0])
        (measured,) = measure(optimizer).values()
        assert measured["stalled"] / 4 == share


def test_an_overflow_of_the_second_moment_is_counted_and_named():
    params, optimizer = optimizer_of([np.ones(4)], {})
    diagnostics = Diagnostics(optimizer)
    params[0].grad = torch.tensor([1.0, 1e20, 1.0, 1.0])
    with pytest.warns(DiagnosticsWarning, match="explosion"):
        optimizer.step()
    assert diagnostics.records[0].all.overflow == 0.25


def test_groups_are_measured_apart_and_together():
    a, b = (torch.nn.Parameter(torch.full((n,), 2.0)) for n in (3, 5))
    optimizer = INNAprop(
        [{"params": [a], "name": "first"}, {"params": [b], "lr": 0.1, "alpha": 2.0}]
    )
    a.grad, b.grad = torch.ones(3), torch.full((5,), 3.0)
    diagnostics = Diagnostics(optimizer)
    optimizer.step()
    record = diagnostics.records[0]
    assert list(record.groups) == ["first", "group 1"]
    assert record.groups["first"].gradient_norm == pytest.approx(3**0.5)
    assert record.all.gradient_norm == pytest.approx((3 + 45) ** 0.5)
    assert record.all.scalars["alpha"] == 2.0
    values = record.as_dict()
    assert values["innaprop/group 1/learning_rate"] == pytest.approx(0.1)
    assert values["innaprop/parameter_norm"] == pytest.approx(32**0.5)


def test_many_small_and_large_parameters_are_measured_whole(monkeypatch):
    shapes = [(7,), (100, 3), (2,), (50,), (0,), (31,)]
    rng = np.random.default_rng(0)
    params, optimizer = optimizer_of([rng.normal(size=s) for s in shapes], VALUES[0])
    give(params, [rng.normal(size=s) for s in shapes])
    (whole,) = measure(optimizer).values()
    monkeypatch.setattr("innaprop.torch.diagnostics._CHUNK", {"cpu": 32})
    (chunked,) = measure(optimizer).values()
    assert whole["elements"] == chunked["elements"] == 390
    assert chunked == pytest.approx(whole, rel=1e-5)


def test_gradients_that_are_missing_are_left_out():
    params, optimizer = optimizer_of([np.ones(3), np.ones(4)], {})
    params[1].grad = torch.ones(4)
    (measured,) = measure(optimizer).values()
    assert measured["elements"] == 4
    assert measure(INNAprop([torch.nn.Parameter(torch.ones(2))])) == {}


def test_complex_parameters_are_two_reals():
    p = torch.nn.Parameter(torch.tensor([3 + 4j, 0j]))
    optimizer = INNAprop([p])
    p.grad = torch.tensor([1j, 2.0])
    (measured,) = measure(optimizer).values()
    assert (measured["elements"], measured["parameter"], measured["gradient"]) == (4, 25, 5)


def test_closures_and_maximize():
    p = torch.nn.Parameter(torch.tensor([3.0]))
    optimizer = INNAprop([p], maximize=True, weight_decay=0.0)
    diagnostics = Diagnostics(optimizer)

    def closure():
        optimizer.zero_grad()
        loss = 2 * p.sum()
        loss.backward()
        return loss

    assert optimizer.step(closure) == 6.0
    (record,) = diagnostics.records
    assert record.all.gradient_norm == 2.0
    assert record.all.update_norm == pytest.approx(p.item() - 3.0, rel=1e-3)


def test_a_step_that_the_scaler_skips_is_no_step():
    p = torch.nn.Parameter(torch.ones(2))
    optimizer = INNAprop([p], fused=True)
    diagnostics = Diagnostics(optimizer, every=2, warn=False)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    for factor in (float("inf"), 1.0, 1.0, 1.0):
        optimizer.zero_grad()
        scaler.scale(factor * p.sum()).backward()
        scaler.step(optimizer)
        scaler.update()
    assert [record.step for record in diagnostics.records] == [1, 3]
    assert diagnostics.records[0].all.gradient_norm == pytest.approx(2**0.5)


def test_the_trajectory_is_untouched_and_nothing_is_left_behind():
    ends = []
    for attached in (False, True):
        params, optimizer = optimizer_of(starts(), VALUES[0])
        diagnostics = Diagnostics(optimizer, every=2) if attached else None
        for gradients in some_gradients(SHAPES, 6):
            give(params, gradients)
            optimizer.step()
        ends.append((params, optimizer.state_dict()))
    for a, b in zip(ends[0][0], ends[1][0], strict=True):
        assert torch.equal(a, b)
    assert ends[0][1].keys() == ends[1][1].keys()
    copy.deepcopy(optimizer).step()
    diagnostics.remove()
    optimizer.step()
    assert len(diagnostics.records) == 3


def test_between_records_nothing_is_measured(monkeypatch):
    params, optimizer = optimizer_of([np.ones(3)], {})
    calls = []
    monkeypatch.setattr("innaprop.torch.diagnostics.measure", lambda _: calls.append(1) or {})
    with Diagnostics(optimizer, every=10):
        params[0].grad = torch.ones(3)
        for _ in range(25):
            optimizer.step()
    assert len(calls) == 3


def test_steps_are_counted_on_from_a_loaded_state():
    params, optimizer = optimizer_of([np.ones(3)], {})
    params[0].grad = torch.ones(3)
    for _ in range(5):
        optimizer.step()
    _, again = optimizer_of([np.ones(3)], {})
    again.load_state_dict(optimizer.state_dict())
    again.param_groups[0]["params"][0].grad = torch.ones(3)
    diagnostics = Diagnostics(again, every=3)
    for _ in range(3):
        again.step()
    assert [record.step for record in diagnostics.records] == [7]


def test_a_step_that_is_refused_leaves_no_record():
    params, optimizer = optimizer_of([np.ones(3)], {})
    diagnostics = Diagnostics(optimizer, every=1)
    params[0].grad = torch.ones(3)
    optimizer.param_groups[0]["lr"] = 2.0
    with pytest.raises(ValueError, match="lr must be smaller than beta"):
        optimizer.step()
    optimizer.param_groups[0]["lr"] = 1e-3
    optimizer.step()
    assert [record.step for record in diagnostics.records] == [1]


def test_another_optimizer_is_refused():
    adamw = torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))])
    with pytest.raises(TypeError, match=r"optimizer must be an innaprop\.torch\.INNAprop"):
        Diagnostics(adamw)
