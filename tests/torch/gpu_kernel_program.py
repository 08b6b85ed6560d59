"""Follows the GPU kernel in Triton's interpreter, on the CPU: ``gpu_kernel_program.py DTYPE``.

A process of its own, since a kernel is made for the interpreter or for a GPU when it is imported.
Leaves what the kernel and the other implementations have made of the same tensors in a file.
"""

import copy
import os
import sys
from array import array

os.environ["TRITON_INTERPRET"] = "1"

import torch

from innaprop.forms import Row, c, foreach, single_tensor, triton
from innaprop.torch import INNAprop, plan
from innaprop_core import momentum

SHAPES = [(5,), (37, 41), (), (0,), (1025,)]
STEPS = 20


def make(dtype, residual, packed):
    wide = torch.promote_types(dtype, torch.float32)
    params = [torch.randn(shape).to(dtype) for shape in SHAPES]
    # Of other addresses than a new tensor's: not multiples of 16 bytes.
    params[-1] = torch.randn(1026).to(dtype)[1:]
    zeros = [torch.zeros(shape, dtype=torch.int32 if packed else wide) for shape in SHAPES]
    residuals = [torch.zeros(shape, dtype=torch.int16) if residual else None for shape in SHAPES]
    return params, zeros, zeros if packed else copy.deepcopy(zeros), residuals


def scalars(k, sigma):
    options = {"gamma": 1e-2, "alpha": 0.1, "beta": 0.9, "eps": 1e-8, "weight_decay": 0.1}
    return momentum.coefficients(k, sigma=sigma, seed=5, **options)


def as_tensors(c, count):
    """The coefficients as a capturable group has them: one for each parameter, or one for all."""
    each = torch.full((count,), c.bias_correction, dtype=torch.float64)
    return c._replace(bias_correction=each, gamma=torch.tensor(c.gamma, dtype=torch.float64))


def follow(dtype, residual=False, sigma=0.999, capturable=False, packed=False):
    torch.manual_seed(0)
    both = make(dtype, residual, packed)
    both = both, copy.deepcopy(both)
    counts = [[torch.zeros(()) for _ in SHAPES] for _ in both]
    which = array("q", [0] * len(SHAPES))
    for k in range(1, STEPS + 1):
        grads = [torch.randn(shape).to(dtype) for shape in SHAPES]
        if k == 1 and sigma == 0:
            grads = [1e4 * g for g in grads]  # Of which no memory keeps anything.
        # Another layout than the parameter's, and another place than in the step before.
        grads[1] = grads[1].T.contiguous().T
        plain = scalars(k, sigma)
        ours = as_tensors(plain, len(SHAPES)) if capturable else plain
        forms = (triton, ours), (single_tensor, plain)
        for (form, own), (params, ms, vs, residuals), steps in zip(
            forms, both, counts, strict=True
        ):
            rows = Row(params, grads, ms, vs, residuals)
            form.update(rows, form.Layout(rows, steps), [(own, -0.5)], which, steps)
        if dtype == torch.bfloat16 and not residual:
            break
    assert counts[0] == counts[1] == [k] * len(SHAPES)
    results = []
    for params, ms, vs, residuals in both:
        if packed:
            rows = [Row(None, None, words, words) for words in ms]
            ms, vs = zip(*map(foreach.unpacked, rows), strict=True)
        results.append([params, ms, vs, residuals if residual else []])
    return results


def step(alpha=0.1, **options):
    """Return what optimizers have made, with the GPU's kernel and one tensor at a time."""
    torch.manual_seed(0)
    start = [torch.randn(shape, dtype=torch.float64) for shape in SHAPES]
    both = [[torch.nn.Parameter(p.clone()) for p in start] for _ in range(2)]
    plan.kernel_of, triton.takes = lambda device: triton, c.takes
    optimizers = [
        INNAprop(both[0], alpha=alpha, fused=True, **options),
        INNAprop(both[1], alpha=alpha, foreach=False),
    ]
    for k in range(STEPS):
        for i, (p, q) in enumerate(zip(*both, strict=True)):
            # One parameter counts fewer updates than the others.
            p.grad = q.grad = None if k < 3 and i == 1 else torch.randn(p.shape).double()
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = 1e-2 / (k + 1)
            # As GradScaler says it.
            optimizer.grad_scale = torch.tensor(4.0)
            optimizer.found_inf = torch.tensor(float(k % 5 == 4))
            optimizer.step()
    return [
        [params, *zip(*(list(o.state[p].values())[1:] for p in params), strict=True), []]
        for params, o in zip(both, optimizers, strict=True)
    ]


if __name__ == "__main__":
    narrow = (torch.bfloat16, torch.float16)
    results = {str(dtype): follow(dtype) for dtype in (torch.float32, torch.float64, *narrow)}
    results |= {f"{dtype} with residual": follow(dtype, residual=True) for dtype in narrow}
    results["torch.float32 packed"] = follow(torch.float32, packed=True)
    results["torch.bfloat16 with residual packed"] = follow(
        torch.bfloat16, residual=True, packed=True
    )
    results["no memory"] = follow(torch.float32, sigma=0.0)
    results["capturable"] = follow(torch.float64, capturable=True)
    results["optimizer"] = step()
    results["optimizer, capturable"] = step(capturable=True)
    results["schedules, capturable"] = step(lambda k: 0.1 + 0.5 * k, capturable=True)
    torch.save(results, sys.argv[1])
