"""A run goes on with other numbers of processes, and ends where the uninterrupted one does."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

HERE = Path(__file__).parent
SECONDS = 600


def run(*commands):
    """Run all commands at once; all have to end well."""
    deadline = time.monotonic() + SECONDS
    processes = [
        subprocess.Popen(
            [sys.executable, *map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        for command in commands
    ]
    try:
        outputs = [p.communicate(timeout=deadline - time.monotonic())[0] for p in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    codes = [process.returncode for process in processes]
    assert codes == [0] * len(codes), b"\n".join(output[-3000:] for output in outputs).decode()


def fsdp2(folder, phase, dtype, processes):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", processes]
    run([*launcher, HERE / "resumed_fsdp2.py", folder, phase, dtype])
    return torch.load(folder / f"{phase}-{processes}.pt")


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_fsdp2_goes_on_from_two_processes_with_one_two_and_four(dtype, tmp_path):
    whole = fsdp2(tmp_path, "save", dtype, 2)
    for processes in (1, 2, 4):
        resumed = fsdp2(tmp_path, "resume", dtype, processes)
        # A kernel's lanes end elsewhere in another share: an element is rounded otherwise.
        torch.testing.assert_close(resumed, whole, rtol=2.5e-7, atol=1e-8)


def jax_run(folder, phase, processes):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    program = HERE / "resumed_jax.py"
    run(*([program, folder, phase, rank, processes, port] for rank in range(processes)))
    with np.load(folder / f"{phase}-{processes}.npz") as saved:
        return dict(saved)


def test_jax_goes_on_from_two_processes_with_one_and_two(tmp_path):
    whole = jax_run(tmp_path, "save", 2)
    assert len(whole) > 6
    for processes in (1, 2):
        resumed = jax_run(tmp_path, "resume", processes)
        for name, value in whole.items():
            np.testing.assert_array_equal(resumed[name], value)
