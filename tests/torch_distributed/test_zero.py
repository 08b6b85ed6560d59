"""``ZeroRedundancyOptimizer``: every rank keeps the state of its share of the parameters."""

import pytest
import torch


@pytest.mark.parametrize("implementation", ["default", "foreach", "fused"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-13), ("float32", 1e-5)])
def test_two_ranks_go_where_one_process_goes(pair, alone, error, dtype, tolerance, implementation):
    first, second = pair(f"trajectory-zero-{dtype}-{implementation}")
    single = alone(f"trajectory-plain-{dtype}-{implementation}")
    assert all(map(torch.equal, first["end"], second["end"]))
    assert error(first["end"], single["end"], single["start"]) < tolerance


@pytest.mark.parametrize("case", ["float32-default", "float32-fused", "bfloat16-foreach"])
def test_training_goes_on_from_a_consolidated_state_dict_as_if_never_stopped(pair, case):
    saved, resumed = pair(f"save zero-{case}"), pair(f"resume zero-{case}")
    for uninterrupted, losses in zip(saved, resumed, strict=True):
        assert torch.equal(uninterrupted, losses)


def test_a_single_process_goes_on_from_a_consolidated_state_dict(pair, alone):
    expected = sum(pair("save zero-float32-default")) / 2
    torch.testing.assert_close(alone("resume zero-float32-default"), expected, rtol=2e-6, atol=0)
