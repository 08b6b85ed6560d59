"""What the optimizer holds and allocates: the state, and next to nothing beside it."""

import gc
import importlib.util
import weakref
from pathlib import Path

import pytest
import torch

from innaprop.torch import INNAprop

_SPEC = importlib.util.spec_from_file_location(
    "traffic", Path(__file__).parents[2] / "benchmarks" / "traffic.py"
)
traffic = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(traffic)

ELEMENTS = 1 << 21
FORMS = {
    "default": {},
    "fused": {"fused": True},
    "foreach": {"foreach": True},
    "single": {"foreach": False},
}


def made(dtype, **options):
    parameters = [torch.nn.Parameter(torch.zeros(n, dtype=dtype)) for n in (ELEMENTS, 1000, 7)]
    optimizer = INNAprop(parameters, **options)
    for p in parameters:
        p.grad = torch.ones_like(p)
    optimizer.step()
    return parameters, optimizer


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("form", FORMS)
def test_a_step_allocates_a_small_part_of_the_parameters_size(form, dtype):
    parameters, optimizer = made(dtype, **FORMS[form])
    with traffic.Traffic() as seen:
        optimizer.step()
    most = {"default": 0, "fused": 0}.get(form, 0.4 if dtype == torch.float32 else 1.5)
    assert seen.peak <= most * sum(p.numel() * p.element_size() for p in parameters)


@pytest.mark.parametrize(("dtype", "bytes_each"), [(torch.float32, 8), (torch.bfloat16, 10)])
def test_the_state_is_two_numbers_a_parameter_and_a_residual(dtype, bytes_each):
    parameters, optimizer = made(dtype)
    assert traffic.held(optimizer) == bytes_each * sum(p.numel() for p in parameters)


@pytest.mark.parametrize("form", FORMS)
def test_state_that_is_moved_away_is_freed(form):
    parameters, optimizer = made(torch.float32, **FORMS[form])
    state = optimizer.state[parameters[0]]
    names = ("momentum_buffer", "exp_avg_sq")
    tensors = [weakref.ref(state[name]) for name in names]
    elsewhere = {name: state[name].clone() for name in names}
    for name in names:
        state[name] = None
    gc.collect()
    assert [tensor() for tensor in tensors] == [None, None]

    twins, other = made(torch.float32, **FORMS[form])
    state.update(elsewhere)
    before = [weakref.ref(tensor) for tensor in elsewhere.values()]
    optimizer.step()
    other.step()
    assert torch.equal(parameters[0], twins[0])
    # What came back is used itself, not a copy of it.
    del elsewhere
    assert [state[name] for name in names] == [tensor() for tensor in before]
