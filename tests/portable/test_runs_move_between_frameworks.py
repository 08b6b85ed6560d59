"""Every framework goes on where every other has stopped, and faults in that are seen."""

import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import innaprop
from innaprop.portable.file import write
from innaprop_conformance.handoff import matrix, runs, worker
from innaprop_conformance.handoff.loop import LOOPS, weights
from innaprop_conformance.handoff.numpy import NumPyTrainingLoop
from innaprop_conformance.handoff.torch import TorchTrainingLoop


def handoff(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "innaprop_conformance", "handoff", *arguments],
        capture_output=True,
        text=True,
    )


def test_all_pairs_of_all_frameworks_follow_the_exact_trajectory():
    done = handoff()
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1]
    assert last == f"{len(LOOPS) ** 2} of {len(LOOPS) ** 2} handoffs follow the exact trajectory"
    for name in LOOPS:
        (row,) = (line.split() for line in done.stdout.splitlines() if line.startswith(f" {name} "))
        assert len(row) == 1 + len(LOOPS)
        assert all(0 < float(cell) <= 1 for cell in row[1:])


def test_an_unknown_name_is_refused_with_the_known_ones():
    done = handoff("--backend", "tourch")
    assert done.returncode == 2
    assert re.search(r"'tourch' is not one of.*'keras-jax'", done.stderr, re.DOTALL)


@pytest.fixture(scope="module")
def truths():
    return {name: runs.truth(name) for name in runs.names()}


@pytest.fixture(scope="module")
def first_half(tmp_path_factory):
    folder = tmp_path_factory.mktemp("first")
    worker.run_first_half(NumPyTrainingLoop(), "numpy", folder)
    return folder


def end(loop, folder, truths):
    """Return the verdicts on a second half, and what was told."""
    told = []
    worker.run_second_half(loop, "torch", folder, ["numpy"], told.append)
    verdicts, missing = matrix.hold(folder, "numpy", "torch", truths)
    return verdicts, missing, told


class Forgets(TorchTrainingLoop):
    """Takes the weights, and begins anew with all else."""

    def load(self, path):
        pass


class ForgetsTheMomentum(TorchTrainingLoop):
    def load(self, path):
        super().load(path)
        for state in self._optimizer.state.values():
            state["momentum_buffer"].zero_()


class ForgetsTheSecondMoment(TorchTrainingLoop):
    def load(self, path):
        super().load(path)
        for state in self._optimizer.state.values():
            state["exp_avg_sq"].zero_()


class CountsOneTooFew(TorchTrainingLoop):
    def load(self, path):
        super().load(path)
        for state in self._optimizer.state.values():
            state["step"] -= 1


class TakesOneUpsideDown(TorchTrainingLoop):
    def load(self, path):
        super().load(path)
        first = next(iter(self._optimizer.state.values()))["momentum_buffer"]
        first.copy_(first.flip(0))


class LosesADigit(TorchTrainingLoop):
    """In float32 where it should be float64: half of the cases tell."""

    def load(self, path):
        super().load(path)
        for state in self._optimizer.state.values():
            state["momentum_buffer"].copy_(state["momentum_buffer"].float())


def test_without_a_fault_it_passes(first_half, truths):
    verdicts, missing, told = end(TorchTrainingLoop(), first_half, truths)
    assert [v.passed for v in verdicts] == [True] * 3
    assert missing == 0
    assert told == []


@pytest.mark.parametrize(
    "loop",
    [
        Forgets,
        ForgetsTheMomentum,
        ForgetsTheSecondMoment,
        CountsOneTooFew,
        TakesOneUpsideDown,
        LosesADigit,
    ],
)
def test_a_fault_is_seen(loop, first_half, truths):
    verdicts, _, _ = end(loop(), first_half, truths)
    assert any(not v.passed for v in verdicts)
    for verdict in verdicts:
        if not verdict.passed:
            assert verdict.exceeded_at > runs.HANDOFF


def test_a_file_that_cannot_be_read_is_told_and_is_no_pass(first_half, truths, tmp_path):
    for file in first_half.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    for file in tmp_path.glob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:-1])
    for file in tmp_path.glob("*,torch.npy"):
        file.unlink()
    verdicts, missing, told = end(TorchTrainingLoop(), tmp_path, truths)
    assert (verdicts, missing, len(told)) == ([], 3, 3)
    assert "must be a safetensors file and whole" in told[0]["error"]
    assert not matrix.Handoff("numpy", "torch", verdicts).passed


def test_a_residual_that_is_lost_is_told(tmp_path):
    loop = TorchTrainingLoop()
    worker.run_first_half(loop, "torch", tmp_path)
    for file in tmp_path.glob("*bfloat16*.safetensors"):
        state = innaprop.read_state(file)
        assert all(own.residual is not None for own in state.parameters.values())
        kept = {name: replace(own, residual=None) for name, own in state.parameters.items()}
        write(file, replace(state, parameters=kept))
    told = []
    worker.run_second_half(loop, "torch", tmp_path, ["torch"], told.append)
    assert [message["source"] for message in told] == ["torch"]
    assert "must be bitwise equal to what torch saved" in told[0]["error"]


def test_weights_of_bfloat16_are_the_upper_half():
    values = [np.array([1.0, 1 + 2**-9, -1 - 2**-8 - 2**-20], np.float32)]
    (upper,) = weights(values, "bfloat16")
    assert upper.tolist() == [1.0, 1.0, -1 - 2**-7]
