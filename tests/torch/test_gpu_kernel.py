"""The Triton kernel without a GPU: what it computes, in Triton's interpreter, and that it compiles.

``test_on_a_gpu.py`` runs it where there is one.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from innaprop.forms import triton
from innaprop.forms.foreach import join

# `make test` installs Triton apart from the other frameworks; PyTorch's CUDA builds bring it.
APART = Path(sys.prefix, "triton")
PATHS = [str(APART), *filter(None, [os.environ.get("PYTHONPATH")])]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(PATHS)}
needs_triton = pytest.mark.skipif(
    not ((APART / "triton").is_dir() or importlib.util.find_spec("triton")),
    reason="there is no Triton for this platform",
)

# What two orders of the same operations may differ by after 20 updates of size 1e-2.
TOLERANCES = {
    "torch.float32": 1e-6,
    # One of a few thousand roundings falls on the other side of its threshold.
    "torch.float32 packed": 3e-4,
    "torch.bfloat16 with residual packed": 3e-4,
    "no memory": 1e-6,
    "torch.float64": 2e-15,
    "capturable": 2e-15,
    "optimizer": 2e-15,
    "optimizer, capturable": 2e-15,
    "schedules, capturable": 2e-15,
    "torch.bfloat16 with residual": 1e-6,
    "torch.float16 with residual": 1e-6,
    "torch.float16": 2e-3,
    # One update: the interpreter rounds to bfloat16 towards zero, a GPU to nearest.
    "torch.bfloat16": 8e-3,
}


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory):
    path = tmp_path_factory.mktemp("kernel") / "results.pt"
    program = Path(__file__).with_name("gpu_kernel_program.py")
    command = [sys.executable, "-W", "error", str(program), str(path)]
    subprocess.run(command, check=True, env=ENVIRONMENT)
    return torch.load(path)


@needs_triton
@pytest.mark.parametrize("case", TOLERANCES)
def test_it_does_what_a_tensor_at_a_time_does(interpreted, case):
    wholes = []
    for params, ms, vs, residuals in interpreted[case]:
        if residuals:
            params = list(map(join, params, residuals))
        wholes.append([*params, *ms, *vs])
    tolerance = TOLERANCES[case]
    for ours, theirs in zip(*wholes, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


COMPILE = """
import sys
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from innaprop.forms import triton_kernel as kernel

capability, parameter, real, has_residual, packed = sys.argv[1:]
real = getattr(tl, real)
constants = {
    "parameter": getattr(tl, parameter),
    "gradient": getattr(tl, parameter),
    "real": real,
    "packed": packed == "True",
    "has_residual": has_residual == "True",
    "aligned": True,
    "block": 1024,
}
signature = dict.fromkeys(kernel.step.arg_names[:9], "*i64") | {"width": "i32"}
signature["scalars"] = "*" + real.name
signature |= dict.fromkeys(constants, "constexpr")
source = ASTSource(fn=kernel.step, signature=signature, constexprs=constants)
target = GPUTarget("cuda", int(capability), 32)
assembly = triton.compile(source, target=target, options={"enable_fp_fusion": True}).asm["ptx"]
assert "sqrt.approx" not in assembly and "div.full" not in assembly
for wide in ("ld.global.v", "st.global.v"):
    assert wide in assembly
"""


@needs_triton
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(
    ("parameter", "real", "has_residual", "packed"),
    [
        ("float32", "float32", False, False),
        ("float64", "float64", False, False),
        ("bfloat16", "float32", False, False),
        ("bfloat16", "float32", True, False),
        ("float16", "float32", True, False),
        ("float32", "float32", False, True),
        ("bfloat16", "float32", True, True),
    ],
)
def test_it_compiles_for_a_gpu(capability, parameter, real, has_residual, packed, tmp_path):
    arguments = [str(x) for x in (capability, parameter, real, has_residual, packed)]
    subprocess.run(
        [sys.executable, "-W", "error", "-c", COMPILE, *arguments],
        check=True,
        env={**ENVIRONMENT, "TRITON_CACHE_DIR": str(tmp_path)},
    )


def test_without_triton_it_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "innaprop.forms.triton_kernel", None)
    triton.load.cache_clear()
    try:
        assert triton.load().startswith("its kernel needs Triton (")
    finally:
        triton.load.cache_clear()
