"""``torch.distributed.checkpoint``: new processes go on from it, at the same or another size.

Whoever resumes has other weights and other options than the checkpoint's before loading it.
"""

import pytest
import torch

OF_TWO = (
    "fsdp2-float32-default",
    "fsdp2-float32-foreach",
    "fsdp2-float32-fused",
    "fsdp2-float64-default",
    "fsdp2-bfloat16-default",
    "fsdp2-bfloat16-fused",
    "fsdp2-float32-narrow",
    "fsdp2-bfloat16-narrow",
    "ddp-float32-default",
    "ddp-bfloat16-foreach",
)
TOLERANCES = {"float64": 1e-14, "bfloat16": 2e-2}
"""Of the losses, relative, if the batch is split otherwise than before the checkpoint."""


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, tensors in one.items():
        assert all(map(torch.equal, tensors, other[name])), name


def assert_saved_as_made(result, implementation):
    options = result["options"]
    expected = {"lr": 1e-2, "alpha": 0.1, "beta": 0.9, "weight_decay": 0.1}
    assert {key: options[key] for key in expected} == expected
    assert options["fused"] is (True if implementation == "fused" else None)
    assert options["foreach"] is (True if implementation == "foreach" else None)


@pytest.mark.parametrize("case", OF_TWO)
def test_two_ranks_go_on_as_if_never_stopped(pair, case):
    for saved, resumed in zip(pair(f"save-{case}"), pair(f"resume-{case}"), strict=True):
        assert_saved_as_made(resumed, case.rpartition("-")[2])
        assert_same(resumed["held"], saved["held"])
        assert torch.equal(resumed["losses"], saved["losses"])


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_a_single_process_goes_on_as_if_never_stopped(alone, dtype):
    saved, resumed = alone(f"save-plain-{dtype}-default"), alone(f"resume-plain-{dtype}-default")
    assert_same(resumed["held"], saved["held"])
    assert torch.equal(resumed["losses"], saved["losses"])


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_a_single_process_goes_on_from_two_ranks(pair, alone, joined, dtype):
    first, second = pair(f"save-fsdp2-{dtype}-default")
    resumed = alone(f"resume-fsdp2-{dtype}-default")
    for name in ("wide", "momentum_buffer", "exp_avg_sq"):
        whole = torch.cat([t.double().flatten() for t in resumed["held"][name]])
        assert torch.equal(joined(first["held"][name], second["held"][name]), whole)
    expected = (first["losses"] + second["losses"]) / 2
    torch.testing.assert_close(resumed["losses"], expected, rtol=TOLERANCES[dtype], atol=0)


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_two_ranks_go_on_from_a_single_process(pair, alone, joined, dtype):
    saved = alone(f"save-plain-{dtype}-default")
    # The job is named after the checkpoint; the single process has one of that name as well.
    first, second = pair(f"resume-plain-{dtype}-default")
    for name in ("wide", "momentum_buffer", "exp_avg_sq"):
        whole = torch.cat([t.double().flatten() for t in saved["held"][name]])
        assert torch.equal(joined(first["held"][name], second["held"][name]), whole)
    losses = (first["losses"] + second["losses"]) / 2
    torch.testing.assert_close(losses, saved["losses"], rtol=TOLERANCES[dtype], atol=0)


@pytest.mark.parametrize("lost", ["momentum", "second moment", "count", "residual"])
def test_these_tests_see_what_a_checkpoint_loses(pair, lost):
    dtype = "bfloat16" if lost == "residual" else "float32"
    for saved, resumed in zip(
        pair(f"save-fsdp2-{dtype}-default"), pair(f"resume without {lost}"), strict=True
    ):
        assert resumed["losses"][0] == saved["losses"][0]  # The weights were loaded.
        assert not torch.equal(resumed["losses"], saved["losses"])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float32-16", "bfloat16-16"])
def test_through_a_full_state_dict_on_rank_0(pair, dtype):
    for uninterrupted, resumed in pair(f"full-{dtype}"):
        assert torch.equal(resumed, uninterrupted)


@pytest.mark.parametrize("alpha", ["number", "schedule"])
def test_through_a_state_dict_with_flattened_keys(pair, alpha):
    for uninterrupted, resumed in pair(f"flat-{alpha}"):
        assert torch.equal(resumed, uninterrupted)
