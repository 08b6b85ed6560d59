"""Whoever presses Ctrl-C in a step finds counts that agree with the parameters.

With operation by operation some rows are always half done; but no more than one part of them, as
large as the cache, and however long the list is.
"""

import json
import subprocess
import sys

import pytest

PROGRAM = """
import json, signal, sys, time
import torch
from innaprop.torch import INNAprop

kind, trials = sys.argv[1], int(sys.argv[2])
options = {"default": {}, "foreach": {"foreach": True}, "single": {"foreach": False}}[kind]
torch.set_num_threads(1)
size = 1 << 14
params = [torch.nn.Parameter(torch.zeros(size, dtype=torch.float64)) for _ in range(200)]
# Three parts long, each of which is a part of its own.
params += [torch.nn.Parameter(torch.zeros(3 << 17, dtype=torch.float64)) for _ in range(4)]
for p in params:
    p.grad = torch.ones_like(p)


def fresh():
    return INNAprop(params, lr=1e-3, weight_decay=0.0, **options)


# Where a parameter is after each number of updates.
single = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
single.grad = torch.ones_like(single)
reference, places = INNAprop([single], lr=1e-3, weight_decay=0.0, foreach=False), [0.0]
for _ in range(20):
    reference.step()
    places.append(single.item())


def updates(value):
    return min(range(len(places)), key=lambda k: abs(places[k] - value))


optimizer = fresh()
optimizer.step()
start = time.perf_counter()
optimizer.step()
duration = time.perf_counter() - start


def interrupt(*_):
    raise KeyboardInterrupt


signal.signal(signal.SIGALRM, interrupt)
wrong, inside = [], 0
for trial in range(trials):
    with torch.no_grad():
        torch._foreach_zero_(params)
    optimizer = fresh()
    optimizer.step()
    try:
        signal.setitimer(signal.ITIMER_REAL, duration * (0.5 + trial) / trials + 1e-6)
        optimizer.step()
        optimizer.step()
        signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        inside += 1
    counts = [int(optimizer.state[p]["step"]) for p in params]
    off = [i for i, p in enumerate(params) if updates(p[-1].item()) != counts[i]]
    wrong.append(sum(params[i].numel() for i in off))
json.dump({"inside": inside, "wrong": wrong}, sys.stdout)
"""
ALLOWED = {"default": 0, "single": 3 << 17, "foreach": 3 << 17}
"""Elements of parameters whose count is off."""


@pytest.mark.parametrize("kind", ALLOWED)
def test_counts_agree_with_parameters(kind):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, kind, "40"], check=True, capture_output=True, text=True
    )
    result = json.loads(done.stdout)
    assert result["inside"] >= 20
    assert max(result["wrong"]) <= ALLOWED[kind]
