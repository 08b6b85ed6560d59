"""Parameters that become another dtype or move to another device between steps, and back."""

import copy

import pytest
import torch

from innaprop.forms.foreach import join
from innaprop.torch import INNAprop

OTHER = {torch.bfloat16: torch.float16, torch.float16: torch.bfloat16}


def trained(dtype, **options):
    """Return an optimizer whose residual is far from zero, and its parameter."""
    torch.manual_seed(0)
    p = torch.nn.Parameter(torch.linspace(1, 2, 50).to(dtype))
    optimizer = INNAprop([p], lr=1e-5, weight_decay=0.0, **options)
    for _ in range(3):
        p.grad = torch.ones_like(p)
        optimizer.step()
    assert optimizer.state[p]["residual"].any()
    return optimizer, p


def stand_still(optimizer, p):
    """Make a step of length zero, after which the residual is what the step took it for."""
    optimizer.param_groups[0]["lr"] = 0.0
    p.grad = torch.zeros_like(p)
    optimizer.step()


@pytest.mark.parametrize("dtype", OTHER)
def test_a_residual_for_the_other_16_bits_is_dropped(implementation, dtype):
    optimizer, p = trained(dtype, **implementation)
    p.data = p.data.to(OTHER[dtype])
    p.grad = None
    before = p.detach().clone()
    assert torch.equal(optimizer.master_weights(p), before.float())
    stand_still(optimizer, p)
    assert torch.equal(p, before)
    assert not optimizer.state[p]["residual"].any()


@pytest.mark.parametrize("dtype", OTHER)
@pytest.mark.parametrize("late", [False, True], ids=["model first", "model last"])
def test_a_state_dict_for_the_other_16_bits(implementation, dtype, late, tmp_path):
    """Also where the model becomes what it is only after the state was loaded."""
    optimizer, p = trained(dtype, **implementation)
    torch.save(optimizer.state_dict(), tmp_path / "saved.pt")
    before = p.detach().to(OTHER[dtype])
    q = torch.nn.Parameter(p.detach() if late else before.clone())
    other = INNAprop([q], **implementation)
    other.load_state_dict(torch.load(tmp_path / "saved.pt", weights_only=True))
    q.data = before.clone()
    assert torch.equal(other.psi(q), other.psi(q).clone())
    assert torch.equal(other.master_weights(q), before.float())
    stand_still(other, q)
    assert torch.equal(q, before)
    assert not other.state[q]["residual"].any()


@pytest.mark.parametrize("dtype", OTHER)
def test_a_state_dict_that_does_not_say_what_its_residual_is_for(implementation, dtype):
    """Older ones: it is for the model that they are loaded into."""
    optimizer, p = trained(dtype, **implementation)
    saved = copy.deepcopy(optimizer.state_dict())
    del saved["state"][0]["residual_mantissa"]
    q = torch.nn.Parameter(p.detach().clone())
    other = INNAprop([q], **implementation)
    other.load_state_dict(saved)
    assert torch.equal(other.master_weights(q), optimizer.master_weights(p))
    q.data = q.data.to(OTHER[dtype])
    assert torch.equal(other.master_weights(q), q.float())


def test_state_of_an_older_pickle_goes_on(implementation):
    optimizer, p = trained(torch.bfloat16, **implementation)
    del optimizer.state[p]["residual_mantissa"]
    other = copy.deepcopy(optimizer)
    (q,) = other.param_groups[0]["params"]
    for one, x in ((optimizer, p), (other, q)):
        x.grad = torch.ones_like(x)
        one.step()
    assert torch.equal(other.state[q]["residual"], optimizer.state[p]["residual"])
    assert other.state[q]["residual_mantissa"] == 7


@pytest.mark.parametrize("value", [8, "x"])
def test_a_residual_for_no_known_dtype_is_refused(value):
    optimizer, _ = trained(torch.bfloat16)
    saved = copy.deepcopy(optimizer.state_dict())
    saved["state"][0]["residual_mantissa"] = value
    message = rf"residual_mantissa of parameter 0 must be 7 \(bfloat16\) or 10 .*, got {value!r}"
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(saved)


def test_what_is_read_between_conversion_and_step():
    """A model made float32 has no residual, whatever its state still holds."""
    optimizer, p = trained(torch.bfloat16)
    p.data = p.data.float()
    assert torch.equal(optimizer.master_weights(p), p)
    assert optimizer.psi(p).dtype == torch.float32


@pytest.mark.parametrize("options", [{"foreach": False}, {"foreach": True}, {"capturable": True}])
def test_all_state_moves_with_the_parameter(options):
    optimizer, p = trained(torch.bfloat16, **options)
    p.grad = None
    torch.utils.swap_tensors(p, torch.nn.Parameter(p.detach().to("meta")))
    p.grad = torch.ones_like(p)
    optimizer.step()
    state = optimizer.state[p]
    for name in ("momentum_buffer", "exp_avg_sq", "residual"):
        assert state[name].device == p.device


def test_a_wide_residual_is_taken_for_what_it_is(implementation):
    """As FSDP2's state dicts have it, put in place past ``load_state_dict``."""
    (one, p), (other, q) = (trained(torch.bfloat16, **implementation) for _ in range(2))
    other.state[q]["residual"] = other.state[q]["residual"].int()
    for optimizer, x in ((one, p), (other, q)):
        x.grad = torch.ones_like(x)
        optimizer.step()
    assert torch.equal(
        *(join(x.detach(), o.state[x]["residual"]) for o, x in ((one, p), (other, q)))
    )


@pytest.mark.filterwarnings("ignore:Complex modules are a new feature")
@pytest.mark.parametrize("set_to_none", [False, True])
@pytest.mark.parametrize("dtypes", [("complex64", "complex128"), ("float32", "float64")])
@pytest.mark.parametrize(
    "options", [{"foreach": False}, {"foreach": True}, {"capturable": True}, {}]
)
def test_conversions_that_swap_tensors(dtypes, set_to_none, options):
    """They are refused for a tensor that someone else holds, as a view does."""
    here, there = (getattr(torch, name) for name in dtypes)
    model = torch.nn.ParameterList([torch.ones(3, dtype=here), torch.ones(2, dtype=here)])
    params = list(model)
    optimizer = INNAprop(params, lr=1e-2, **options)
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        for dtype in (here, there, here, there):
            model.to(dtype)
            assert all(map(lambda a, b: a is b, model, params))
            sum((p.abs() ** 2).sum() for p in model).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=set_to_none)
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)
    for p in params:
        assert optimizer.state[p]["step"] == 4
        assert optimizer.state[p]["momentum_buffer"].dtype == there
