import pytest
import torch


@pytest.mark.parametrize("implementation", ["default", "foreach", "fused"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-13), ("float32", 1e-5)])
def test_two_ranks_go_where_one_process_goes(pair, alone, error, dtype, tolerance, implementation):
    first, second = pair(f"trajectory-ddp-{dtype}-{implementation}")
    single = alone(f"trajectory-plain-{dtype}-{implementation}")
    for name in ("end", "psi"):
        assert all(map(torch.equal, first[name], second[name]))
        assert error(first[name], single[name], single["start"]) < tolerance
